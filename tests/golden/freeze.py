"""Train an earlier commit and this tree on one machine and compare every bit: the net below a refactor.

    python -m tests.golden.freeze 240e3b5     compare; exit code 1 and the differences where there are any
    python -m tests.golden.freeze --write     write the summary of this tree, which test_freeze.py holds it to

Each tree trains three tiny rounds of FedVSSL and of FedAvg through its own in-process grid, turns the last round into a
checkpoint, and fine-tunes it for two epochs: one thread, float32, the same synthetic videos and settings. Weights,
heads, momentum and losses are compared. A number that changes on purpose is named in CHANGELOG.md.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[2]
SUMMARY = Path(__file__).with_name("freeze.json")
STRATEGIES = {"fedvssl": [], "fedavg": ["strategy.fedavg=true"]}
ROUNDS = 3
MODEL = ("model.depth=10", "model.width=4")
FEDERATED = (
    *("task.sample.short_sides=[32,36]", "task.sample.crop_size=32", "task.sample.patches.scales=[6,8,10]"),
    *("task.module.hidden_channels=16", "training.num_workers=0", "training.precision=32-true", "pool_size=3"),
    *("client_resources={num_cpus: 1, num_gpus: 0}", "strategy.min_fit_clients=3", f"rounds={ROUNDS}"),
    *("training.batch_size=2", "training.lr=0.02", "training.weight_decay=0.05", "training.max_norm=0.3"),
    *("training.steps=[2]", "training.gamma=0.5"),
)
FINETUNED = (
    *("data.num_classes=3", "clip_len=8", "crop_size=32", "train_sample.sizes=[[43,32],[48,36]]"),
    *("test_sample.size=[43,32]", "test_sample.num_clips=2", "test_batch_size=2", "num_workers=0", "device=cpu"),
    *("precision=32-true", "training.batch_size=2", "training.epochs=2", "training.eval_every=1"),
    *("training.lr=0.02", "training.weight_decay=0.05", "training.max_norm=2", "training.steps=[1]"),
)
# Keys of this tree -> of trees with conf/pretext.
OLDER_KEYS = {"task.module.": "pretext.task.", "task.sample.": "pretext.sample."}
NOT_A_RESULT = ("seconds", "clips_per_second", "data_share")


def write_videos(folder: Path) -> None:
    """Videos and lists for both trees, by the code of this one."""
    from tests.action_set import write_action_set
    from tests.federation import write_clients

    write_clients(folder / "clips")
    write_action_set(folder / "actions")


def train(videos: Path, folder: Path) -> None:
    """Train all that is compared, by the code of the tree that is imported; results go below `folder`."""
    from fedvssl import config, finetune, finetune_preprocess
    from tests import federation

    assert Path(config.__file__).parents[1] == Path.cwd(), f"{config.__file__} is not of the tree that is trained"
    is_older = (config.conf_dir() / "pretext").is_dir()
    for name, words in STRATEGIES.items():
        words = [*MODEL, *FEDERATED, *words, f"data_dir={videos / 'clips'}"]
        composed = config.compose("base", older(words) if is_older else words)
        federation.train(composed, folder / name)
        (folder / name / "config.yaml").write_text(yaml.safe_dump(composed))  # as fedvssl.main does it
    weights, pretrained = folder / f"fedvssl/round-{ROUNDS}-weights.npz", folder / "pretrained.pth"
    words = [f"--pretrained_model_path={weights}", f"--output_path={pretrained}"]
    assert finetune_preprocess.main(words) == 0
    words = [f"data_dir={videos / 'actions'}", f"work_dir={folder / 'finetuned'}", f"pretrained={pretrained}"]
    assert finetune.main(["finetune", *MODEL, *FINETUNED, *words]) == 0


def older(words: list[str]) -> list[str]:
    """The same settings by the keys of an older tree."""
    for new, old in OLDER_KEYS.items():
        words = [old + word.removeprefix(new) if word.startswith(new) else word for word in words]
    return words


def results(folder: Path) -> dict[str, Any]:
    """Arrays and losses that `train` has left, by names that say where they come from."""
    found: dict[str, Any] = {}
    from_0 = any(folder.glob("*/clients/client_0"))  # an older tree, which numbered clients so
    for path in sorted(folder.glob("fed*/**/*.npz")):
        with np.load(path) as file:
            where = str(path.relative_to(folder)).replace("head-round", "kept-round")  # of an older tree
            if from_0:
                where = re.sub(r"(?<=client_)\d+", lambda number: str(int(number[0]) + 1), where)
            found |= {f"{where} {name}": file[name] for name in file.files}
    for path in sorted(folder.glob("*/metrics.jsonl")):
        for number, line in enumerate(path.read_text().splitlines()):
            where = f"{path.relative_to(folder)} line {number}"
            found |= {f"{where} {name}": np.float64(value) for name, value in _numbers(json.loads(line))}
    found |= {f"finetuned/last.pth {name}": array for name, array in _checkpoint(folder / "finetuned/last.pth")}
    return found


def _numbers(line: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in line.items():
        if isinstance(value, int | float) and not name.startswith(NOT_A_RESULT):
            yield name, value


def _checkpoint(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The model's tensors and the optimiser's momentum."""
    import torch

    content = torch.load(path, weights_only=True)
    for name, tensor in content["model"].items():
        yield name, tensor.numpy()
    for number, state in content["optimizer"]["state"].items():
        yield f"momentum {number}", state["momentum_buffer"].numpy()


def summary(found: dict[str, Any]) -> dict[str, float]:
    """Results that the suite keeps: losses, and norms of the last round's arrays, of its heads and the fine-tuning."""
    last = (f"round-{ROUNDS}", "last.pth", "metrics.jsonl")
    return {
        name: float(f"{np.linalg.norm(np.asarray(value, np.float64)):.6g}")
        for name, value in found.items()
        if any(word in name for word in last) and not math.isnan(np.sum(value))
    }


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """A line for each result that is missing, new, or not the same to the bit."""
    lines = [f"only in the earlier commit: {name}" for name in before.keys() - after.keys()]
    lines += [f"only in this tree: {name}" for name in after.keys() - before.keys()]
    for name in before.keys() & after.keys():
        old, new = np.asarray(before[name]), np.asarray(after[name])
        if old.dtype != new.dtype or old.shape != new.shape or old.tobytes() != new.tobytes():
            lines.append(f"differs: {name}")
    return sorted(lines)


def train_tree(tree: Path, videos: Path, folder: Path) -> dict[str, Any]:
    """Run `train` of this file with the packages of a tree."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), "--train", str(videos), str(folder)]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: {tree} could not be trained:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return results(folder)


def compare(commit: str) -> int:
    """Train both trees and print what differs; returns the exit code."""
    with tempfile.TemporaryDirectory() as temporary:
        tree, videos = Path(temporary) / "tree", Path(temporary) / "videos"
        write_videos(videos)
        git = ["git", "-C", str(ROOT), "worktree"]
        added = subprocess.run([*git, "add", "--detach", "--quiet", str(tree), commit], capture_output=True, text=True)
        if added.returncode:
            raise SystemExit(f"error: no tree of {commit}: {added.stderr.strip().splitlines()[-1]}")
        try:
            before = train_tree(tree, videos, Path(temporary) / "before")
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)
        after = train_tree(ROOT, videos, Path(temporary) / "after")
    lines = differences(before, after)
    new = [line for line in lines if line.startswith("only in this tree") and "metrics.jsonl" in line]
    lines = [line for line in lines if line not in new]
    equal = len(before.keys() & after.keys()) - sum(line.startswith("differs") for line in lines)
    print("\n".join([*lines[:40], f"{equal} of {len(before)} results of {commit} are equal to the bit"]))
    print(f"{len(new)} numbers of metrics.jsonl are new in this tree")
    return int(bool(lines))


def write() -> None:
    """The summary of this tree, with the processor on which it was made."""
    from fedvssl.files.atomic import write_json
    from fedvssl.files.environment import processor

    with tempfile.TemporaryDirectory() as folder:
        write_videos(Path(folder) / "videos")
        found = summary(train_tree(ROOT, Path(folder) / "videos", Path(folder) / "run"))
    write_json(SUMMARY, {"processor": processor(), "results": found})
    print(f"{SUMMARY}: {len(found)} results")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", nargs="?", help="what to compare this tree with")
    parser.add_argument("--write", action="store_true", help="write freeze.json")
    help_of_train = "train with the packages that are imported: from which videos, to which folder"
    parser.add_argument("--train", type=Path, nargs=2, metavar="FOLDER", help=help_of_train)
    args = parser.parse_args()
    if args.train:
        train(*args.train)
    elif args.write:
        write()
    elif args.commit:
        return compare(args.commit)
    else:
        parser.error("name a commit, or --write")
    return 0


if __name__ == "__main__":
    sys.exit(main())
