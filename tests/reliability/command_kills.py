"""Every command disturbed at many file operations and run again: its folder must be that of an undisturbed run.

    python -m tests.reliability.command_kills                               killed at 10 points each, full disk at 3
    python -m tests.reliability.command_kills --points 30 finetune export   more points for some of them

Without names the rows of docs/reliability.md are written anew, if all went well.
"""

import argparse
import importlib
import itertools
import sys
import tempfile
import time
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

import data_tools.partition
import data_tools.prepare
from data_tools import extract_frames, pictures
from data_tools.command import run_command
from data_tools.picture_format import encode
from fedvssl import evaluate, export, finetune, report, sweep, test
from fedvssl.building import build_task
from fedvssl.config import compose
from fedvssl.evaluation import features
from fedvssl.files import environment
from fedvssl.files.tensors import save_torch
from fedvssl.models.r3d import R3D
from tests.action_set import TINY, TINY_TEST, write_action_set
from tests.federation import write_clients
from tests.reliability.command_killer import Case, trial
from tests.reliability.table import Row, store
from tests.run_folders import write_finetuning, write_pretraining
from tests.stand_in import StandIn
from tests.videos import moving_square, write_video

# Imported by the commands when they need them; here once instead of in every fork.
LATE = ("matplotlib.figure", "matplotlib.backends.backend_agg", "torch.utils.tensorboard", "torchmetrics")
BACKBONE = "run/model_pretrained.pth"
SMALL_EXPORT = ["model.depth=10", "model.width=4", "clip_len=8", "crop_size=32", "formats=[safetensors,pth]"]
SWEPT = ["seeds=[1]", "data.num_classes=3", "overrides.main=['pool_size=3','rounds=2']", "rows.centralised=null"]
SWEPT += [
    f"rows.{row}=null" for row in ("fedavg", *(f"fedvssl_{pair}" for pair in ("0_0", "1_0", "0_1", "1_1", "09_0")))
]


def write_backbone(folder: Path) -> None:
    torch.manual_seed(3)
    state = {f"backbone.{name}": tensor for name, tensor in R3D(10, width=4).state_dict().items()}
    save_torch(folder / BACKBONE, state)


def write_videos(folder: Path) -> None:
    write_action_set(folder / "data", num_train=8, num_test=4)


def write_evaluated(folder: Path) -> None:
    write_videos(folder)
    write_backbone(folder)


def write_fine_tuned(folder: Path) -> None:
    write_videos(folder)
    config = compose("finetune", [*TINY, f"data_dir={folder / 'data'}"])
    task = finetune.build_recognition_task(partial(build_task, config), pretrained=None, seed=config["seed"])
    save_torch(folder / "work/last.pth", {"model": task.recognizer.state_dict(), "epoch": 2})


def write_swept(folder: Path) -> None:
    write_videos(folder)
    write_clients(folder / "data")


def write_reported(folder: Path) -> None:
    write_pretraining(folder)
    write_finetuning(folder / "finetuned")


def write_raw(folder: Path) -> None:
    for number, name in enumerate(("wave/a", "wave/b", "kick/c", "kick/d", "kick/e")):
        write_video(folder / f"raw/{name}.avi", moving_square(num_frames=3, height=24, width=32, seed=number))


def write_raw_pictures(folder: Path) -> None:
    with zipfile.ZipFile(folder / "train.zip", "w") as file:
        for number in range(5):
            picture = np.full((8, 8, 3), 40 * number, np.uint8)
            file.writestr(f"{'cat' if number % 2 else 'dog'}/{number}.bmp", encode(picture)[1])
    (folder / "raw").mkdir()
    (folder / "train.zip").rename(folder / "raw/train.zip")


def run_finetune() -> int:
    environment.revision = lambda _package: "unchanged"  # also while somebody works on these files
    words = [*TINY, "data_dir=data", "work_dir=work", "from_scratch=true", "data.validation=0.5"]
    return finetune.main(["finetune", *words])


def run_test() -> int:
    return test.main(["test", *TINY_TEST, "data_dir=data", "work_dir=work"])


def run_retrieval() -> int:
    features.VIDEOS_PER_FILE, features.ABANDONED_SECONDS = 4, 0
    words = [*TINY_TEST, "data_dir=data", f"checkpoint={BACKBONE}", "feature_dir=features"]
    return evaluate.main("retrieval", words)


def run_sweep() -> int:
    sweep.run_child = StandIn()
    sweep.machine = lambda _precision: "a machine"
    return sweep.main(["data_dir=data", "work_dir=sweep", *SWEPT])


def run_export() -> int:
    return export.main([*SMALL_EXPORT, f"checkpoint={BACKBONE}", "out_dir=exported"])


def run_report() -> int:
    return report.main(["pretraining", "--include", "finetuned"])


def run_prepare() -> int:
    main = sys.modules["__main__"]
    main.__spec__ = main.__file__ = None  # or each worker would import this file first, and PyTorch with it
    flags = ["--raw_dir", "raw", "--out_dir", "out", "--short_side", "16", "--num_workers", "2"]
    run_command(lambda: data_tools.prepare.main(flags))
    return 0


def run_pictures() -> int:
    pictures.CHUNK = 2
    return run_prepare()


def run_partition() -> int:
    lists = "data/ucf101/annotations"
    flags = ["--json_path", lists, "--output_path", f"{lists}/clients", "--num_clients", "2"]
    run_command(lambda: data_tools.partition.main(flags))
    return 0


CASES = {
    "finetune": Case(run_finetune, write_videos),
    "test": Case(run_test, write_fine_tuned),
    "retrieval": Case(run_retrieval, write_evaluated, kept="features/**/videos-*.npz"),
    "sweep": Case(run_sweep, write_swept, logs=("sweep/logs/*",)),
    "export": Case(run_export, write_backbone, finished="is there already and not an empty folder"),
    "report": Case(run_report, write_reported),
    "prepare": Case(run_prepare, write_raw, more=((extract_frames.Progress, "advance"),), kept="out/zips/**/*.zip"),
    "prepare pictures": Case(
        run_pictures, write_raw_pictures, more=((pictures.Progress, "advance"),), kept="out/pictures/*/*.bmp"
    ),
    "partition": Case(run_partition, write_videos),
}


def row(name: str, outcomes: dict[str, str | None], *, full: bool) -> Row:
    """Line of the table for one command."""
    sound = sum(outcome is None for outcome in outcomes.values())
    if full:
        return Row(
            f"the disk is full during {name}",
            "all writes fail from the k-th on, then the same command again",
            "one sentence that names the file, exit code 1 or 2, the files of an undisturbed run",
            f"{sound} of {len(outcomes)} as promised",
            len(outcomes),
        )
    return Row(
        f"{name} is killed",
        "SIGKILL at the k-th file operation, then the same command again",
        "the files of an undisturbed run, no leftover, no process stays",
        f"{sound} of {len(outcomes)} as promised",
        len(outcomes),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"some of: {', '.join(CASES)}")
    parser.add_argument("--points", type=int, default=10, help="at which each command is killed")
    parser.add_argument("--full_points", type=int, default=3, help="from which on the disk of each command is full")
    arguments = parser.parse_args()
    if unknown := {*arguments.names} - CASES.keys():
        parser.error(f"no command is called {min(unknown)}: choose from {', '.join(CASES)}")
    for module in LATE:
        importlib.import_module(module)
    rows, wrong = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for full, name in itertools.product((False, True), arguments.names or CASES):
            if not (points := arguments.full_points if full else arguments.points):
                continue
            started, what = time.monotonic(), "full disk" if full else "killed"
            outcomes = trial(CASES[name], Path(folder, f"{name}-{what}"), points=points, full=full)
            print(f"{name}, {what}: {len(outcomes)} points, {time.monotonic() - started:.0f} s", flush=True)
            for point, outcome in outcomes.items():
                if outcome is not None:
                    wrong += 1
                    print(f"  at {point}: {outcome}", flush=True)
            rows.append(row(name, outcomes, full=full))
    if not arguments.names and not wrong:
        store("command_kills", rows)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
