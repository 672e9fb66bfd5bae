"""A second command in a folder that another process works in is refused with its id, before it writes anything."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import data_tools.build_annotations
import data_tools.download
import data_tools.extract_frames
import data_tools.fetch
import data_tools.partition
import data_tools.prepare
import data_tools.synthetic
from fedvssl import evaluate, export, finetune, finetune_preprocess, report, sweep, test
from fedvssl.files.arrays import save_arrays
from fedvssl.files.tensors import to_arrays
from fedvssl.models.r3d import R3D
from scripts import show_task
from tests.action_set import TINY, TINY_TEST
from tests.reliability.command_kills import SMALL_EXPORT, SWEPT, write_fine_tuned, write_raw
from tests.run_folders import write_pretraining

TINY_MODEL = ["model.depth=10", "model.width=4"]
HOLD = """
import contextlib, sys, time
from pathlib import Path
from fedvssl.files.lock import owned

with contextlib.ExitStack() as locks:
    for path in map(Path, sys.argv[1:]):
        locks.enter_context(owned(path.parent, name=path.name))
    print("mine", flush=True)
    time.sleep(600)
"""
LOCKS = (
    *("work/.lock", "tested/.retrieval.lock", ".exported.lock", "pretraining/.report.html.lock", ".ctp.png.lock"),
    *("sweep/.lock", "other/results/.lock", ".converted.pth.lock", "out/zips/.lock", "out/annotations/.lock"),
    *("lists/clients/.lock", "synthetic/.lock", "downloads/.lock"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all the commands read."""
    folder = tmp_path_factory.mktemp("held")
    write_fine_tuned(folder)
    write_pretraining(folder)
    write_raw(folder)
    (folder / "free").mkdir()
    torch.manual_seed(0)
    arrays = {f"backbone.{name}": array for name, array in to_arrays(R3D(10, width=4)).items()}
    save_arrays(folder / "round-2-weights.npz", arrays)
    return folder


@pytest.fixture(scope="module")
def holder(folder: Path) -> Iterator[int]:
    """Id of a process that works in all the folders."""
    words = [sys.executable, "-c", HOLD, *(str(folder / lock) for lock in LOCKS)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "mine\n"
        yield process.pid
        process.kill()


def tool(main: Callable[[list[str]], object], *words: str) -> Callable[[], int]:
    """A data tool, whose errors its `run_command` would tell."""

    def run() -> int:
        try:
            main(list(words))
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        return 0

    return run


DATA = ["data_dir=data"]
LISTS = "data/ucf101/annotations"
VIDEO = "data/ucf101/zips/Run/train1.zip"
RAW = ("--raw_dir", "raw", "--short_side", "16", "--num_workers", "1")
COMMANDS: dict[str, Callable[[], int]] = {
    "finetune": lambda: finetune.main(["finetune", *TINY, *DATA, "work_dir=work", "from_scratch=true"]),
    "test": lambda: test.main(["test", *TINY_TEST, *DATA, "work_dir=work"]),
    "retrieval": lambda: evaluate.main("retrieval", [*TINY_TEST, *DATA, "checkpoint=random", "work_dir=tested"]),
    "export": lambda: export.main([*SMALL_EXPORT, "checkpoint=round-2-weights.npz", "out_dir=exported"]),
    "report": lambda: report.main(["pretraining"]),
    "sweep": lambda: sweep.main([*DATA, "work_dir=sweep", "results_dir=free", *SWEPT]),
    "results of a sweep": lambda: sweep.main([*DATA, "work_dir=free", "results_dir=other/results", *SWEPT]),
    "finetune_preprocess": lambda: finetune_preprocess.main(
        [
            "--pretrained_model_path=round-2-weights.npz",
            "--output_path=converted.pth",
            "model.depth=10",
            "model.width=4",
        ]
    ),
    "show_task": show_task.main,
    "prepare": tool(data_tools.prepare.main, *RAW, "--out_dir", "out"),
    "extract_frames": tool(data_tools.extract_frames.main, *RAW, "--out_dir", "out/zips"),
    "build_annotations": tool(
        data_tools.build_annotations.main, "--zip_dir", "data/ucf101/zips", "--out_dir", "out/annotations"
    ),
    "partition": tool(data_tools.partition.main, "--json_path", LISTS, "--output_path", "lists/clients"),
    "synthetic": tool(data_tools.synthetic.main, "--out_dir", "synthetic"),
    "download": tool(data_tools.download.main, "http://nowhere/a.zip", "--sha256", "0", "--out_dir", "downloads"),
    "fetch": tool(data_tools.fetch.main, "ucf101", "--out_dir", "."),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_second_is_refused(name, folder, holder, monkeypatch, capsys) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(
        sys, "argv", ["show_task.py", VIDEO, "task.sample.crop_size=32", "task.sample.short_sides=[32]"]
    )
    before = sorted(folder.rglob("*"))
    assert COMMANDS[name]() == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"belongs to process {holder} on " in line and "wait for its end, or name another folder" in line
    assert sorted(folder.rglob("*")) == before


def test_protocols_of_one_checkpoint_run_beside_each_other(folder, holder, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    assert evaluate.main("knn", [*TINY_TEST, *DATA, "checkpoint=random", "work_dir=tested"]) == 0
