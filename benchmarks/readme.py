"""Commands of the README and its pages: what each adds to run at small size, what it writes, and which are not run."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

Entry = TypeVar("Entry")
ROOT = Path(__file__).parents[1]
# Pages whose commands run, in this order, each on what those before it have left.
PAGES = ("README.md", *(f"docs/{name}.md" for name in ("training", "evaluation", "data", "pictures", "checkpoints")))
BLOCK = re.compile(r"```(bash|python)\n(.*?)```", re.DOTALL)
# Beginnings of commands that are not run -> what is run in their place, and why.
NOT_RUN = {
    "bash scripts/quickstart.sh": (
        "bash scripts/quickstart.sh --help",
        "makes an environment from the network; tests/test_scripts.py runs it",
    ),
    "bash scripts/test.sh": ("bash -n scripts/test.sh", "makes an environment, and runs this test among others"),
    "python -m fedvssl.sweep": ("{} --dry_run", "dozens of trainings; tests/sweeping runs such"),
}
# Beginnings of commands -> words that are added, before the first `--`, and why.
ADDED = {
    "bash scripts/prepare_ucf101.sh": ("--raw_dir <videos> --ann_dir <lists>", "a download of 7 GB"),
    "bash scripts/prepare_hmdb51.sh": ("--raw_dir <videos> --ann_dir <lists>", "a download of 2 GB"),
    "bash scripts/prepare_cifar10.sh": ("--raw_dir <pictures>", "a download"),
    "bash scripts/prepare_kinetics400.sh": ("--num_clients 3 -- --method uniform", "a hundred clients"),
    "python -m fedvssl.main experiment=kinetics400": ("pool_size=3 rounds=1", "540 rounds of a hundred clients"),
    "python -m fedvssl.main strategy.mix_coeff=1 rounds=100": ("rounds=4", "a hundred rounds"),
    "python -m fedvssl.main run=last rounds=40": ("rounds=5", "forty rounds"),
    "fedvssl train --videos": ("rounds=2", "minutes of training"),
    "python -m data_tools.shapes": ("--number 48", "minutes of training"),
}
LABELLED = ("--labelled_share 0.01", "--labelled_share 0.5")  # of few pictures
# Beginnings of commands -> pattern of a file that each writes anew; "" if it only prints.
WRITES = {
    "bash scripts/quickstart.sh": "",
    "bash scripts/test.sh": "",
    "bash scripts/prepare_ucf101.sh": "data/ucf101/annotations/client_distribution/client_dist5.json",
    "bash scripts/prepare_hmdb51.sh": "data/hmdb51/annotations/client_distribution/client_dist*.json",
    "bash scripts/prepare_cifar10.sh": "data/cifar10/annotations/client_distribution/client_dist5.json",
    "bash scripts/prepare_kinetics400.sh": "data/kinetics400/annotations/client_distribution/client_dist3.json",
    "bash scripts/dist_train.sh": "*results*/last.pth",
    "bash scripts/dist_test.sh": "*results*/test.json",
    "python scripts/compare_results.py": "",
    "fedvssl --help": "",
    "fedvssl retrieval --help": "",
    "fedvssl data partition --help": "",
    "fedvssl train --videos": "outputs/my_videos/report.html",
    "fedvssl train data_dir": "outputs/*/*/fedvssl_results/round-*-weights.npz",
    "import fedvssl": "outputs/*/*/fedvssl_results/round-*-weights.npz",
    "python -m data_tools.ucf101.prepare": "data/*/annotations/train_split_1.json",
    "python -m data_tools.prepare": "data/mine/annotations/train_split_1.json",
    "python -m data_tools.shapes": "data/shapes/raw/images/**/*.png",
    "python -m data_tools.masks": "data/shapes/annotations/train_split_1.json",
    "python -m data_tools.partition": "data/*/annotations/*/client_dist1.json",
    "python -m fedvssl.main experiment=fedsam_small": "outputs/fedsam/round-6-weights.npz",
    "python -m fedvssl.main": "outputs/*/*/fedvssl_results/round-*-weights.npz",
    "python -m fedvssl.runs": "",
    "python -m fedvssl.evaluate": "outputs/**/evaluation/*/retrieval.json",
    **{
        f"python -m fedvssl.{name}": f"outputs/**/evaluation/*/{name}.json"
        for name in ("retrieval", "knn", "linear_probe", "motion_probe", "semi")
    },
    "python -m fedvssl.finetune_preprocess": "*.pth",
    "python -m fedvssl.finetune ": "*/last.pth",
    "python -m fedvssl.test ": "*/test.json",
    "python -m fedvssl.test test experiment=fedsam_small": "outputs/fedsam_test/test.json",
    "python -m fedvssl.report": "outputs/**/report.html",
    "python -m fedvssl.export": "outputs/**/export-*/README.md",
    "python -m fedvssl.sweep": "",
}
# Files of conf/ -> values of the published size, and small ones. A command stays as it is printed, and ends in seconds.
SMALL = {
    "base": {"rounds: 20 ": "rounds: 3 ", "engine: simulation ": "engine: local "},
    "model/r3d18": {"depth: 18": "depth: 10", "width: 64": "width: 4"},
    "model/resnet18": {"width: 64": "width: 4"},
    "task/ctp": {
        "hidden_channels: 512": "hidden_channels: 16",
        "clip_len: 16": "clip_len: 8",
        "[112, 128, 144]": "[32, 36]",
        "crop_size: 112": "crop_size: 32",
        "[16, 24, 28, 32, 48, 64]": "[6, 8, 10]",
    },
    "task/simclr": {"hidden_channels: 4096": "hidden_channels: 16", "out_channels: 2048": "out_channels: 8"},
    "eval/clips": {"clip_len: 16": "clip_len: 8", "[171, 128]": "[43, 32]", "crop_size: 112": "crop_size: 32"},
    "input/clips": {"clip_len: 16": "clip_len: 8", "crop_size: 112": "crop_size: 32"},
    "testing/clips": {"num_clips: 10": "num_clips: 2", "[171, 128]": "[43, 32]"},
    "finetuning/clips": {"[[149, 112], [171, 128], [192, 144]]": "[[43, 32]]"},
    "finetuning/pictures": {"epochs: 164": "epochs: 1"},
    "finetune": {"epochs: 150": "epochs: 1", "batch_size: 32": "batch_size: 8"},
    "semi": {"hidden_channels: 4096": "hidden_channels: 16", "epochs: 100": "epochs: 2"},
}


def read_pages(root: Path = ROOT) -> str:
    """The README and the pages whose commands run after its own, in a checkout."""
    return "\n".join((root / page).read_text(encoding="utf-8") for page in PAGES)


def commands(text: str) -> list[str]:
    """Commands of a page in order: each line of its blocks for a shell, and its blocks of Python on the API."""
    found = []
    for kind, block in BLOCK.findall(text):
        if kind == "python":
            found += [block.strip()] if block.startswith("import fedvssl") else []
        else:
            lines = block.replace("\\\n", " ").splitlines()
            found += [words for line in lines if (words := shlex.join(shlex.split(line, comments=True)))]
    return [command.replace("'", "") if "<" in command else command for command in found]


def entry(table: Mapping[str, Entry], command: str) -> Entry | None:
    """Value of the longest beginning of a command in a table; None if it has none."""
    starts = [start for start in table if command.startswith(start)]
    return table[max(starts, key=len)] if starts else None


def small(command: str) -> str:
    """The command that is run in the place of one of the pages; the words of a reader stand as `<videos>`."""
    if instead := entry(NOT_RUN, command):
        return instead[0].format(command)
    if added := entry(ADDED, command):
        before, separator, behind = command.partition(" -- ")
        command = f"{before} {added[0]}{separator}{behind}"
    return command.replace(*LABELLED)


def make_small(conf: Path) -> None:
    """Give the configuration of a clone small values.

    Raises:
        ValueError: if a file has another value than the one that is to be replaced.
    """
    for name, values in SMALL.items():
        path = conf / f"{name}.yaml"
        text = path.read_text(encoding="utf-8")
        for published, value in values.items():
            if published not in text:
                raise ValueError(f"{path} has no '{published}': mend SMALL in benchmarks/readme.py.")
            text = text.replace(published, value)
        path.write_text(text, encoding="utf-8")
