"""SIGTERM in the middle of a command: one sentence, exit code 143, and the same command goes on from what was saved."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import data_tools.prepare
from data_tools import extract_frames
from data_tools.command import run_command
from fedvssl import evaluate, finetune, finetune_epochs, report, sweep, test
from fedvssl.evaluation import features
from fedvssl.files.run_log import read_records
from tests.action_set import TINY, TINY_TEST
from tests.reliability.command_kills import SWEPT, write_fine_tuned, write_raw
from tests.run_folders import write_pretraining
from tests.stand_in import StandIn


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_fine_tuned(tmp_path)
    return tmp_path


def prepare() -> int:
    words = ["--raw_dir", "raw", "--out_dir", "out", "--short_side", "16", "--num_workers", "1"]
    try:
        run_command(lambda: data_tools.prepare.main(words))
    except SystemExit as error:
        assert isinstance(error.code, int)
        return error.code
    return 0


# Command -> what it does when the signal comes, and in which call of this.
PLACES: dict[str, tuple[Callable[[], int], Any, str, int]] = {
    "finetune": (
        lambda: finetune.main(["finetune", *TINY, "data_dir=data", "work_dir=tuned", "from_scratch=true"]),
        *(finetune_epochs, "train_epoch", 2),
    ),
    "test": (lambda: test.main(["test", *TINY_TEST, "data_dir=data", "work_dir=work"]), test, "write_predictions", 1),
    "retrieval": (
        lambda: evaluate.main("retrieval", [*TINY_TEST, "data_dir=data", "checkpoint=random", "work_dir=tested"]),
        *(features, "save_arrays", 2),
    ),
    "sweep": (lambda: sweep.main(["data_dir=data", "work_dir=swept", *SWEPT]), sweep, "run_child", 2),
    "report": (lambda: report.main(["pretraining"]), report, "render", 1),
    "prepare": (prepare, extract_frames.Progress, "advance", 2),
}


def interrupted(function: Callable, call: int) -> Callable:
    """The function; SIGTERM comes at the start of this call, counted from 1."""
    calls: list[None] = []

    def wrapped(*args: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == call:
            signal.raise_signal(signal.SIGTERM)
        return function(*args, **options)

    return wrapped


@pytest.mark.parametrize("name", PLACES)
def test_sigterm_is_a_sentence_and_the_command_goes_on(name, folder, monkeypatch, capsys) -> None:
    command, place, function, call = PLACES[name]
    if name == "sweep":
        monkeypatch.setattr(sweep, "run_child", StandIn())
        shutil.copytree("data/ucf101/annotations", "data/ucf101/annotations/client_distribution")
        for number in (1, 2, 3):
            shutil.copy("data/ucf101/annotations/train_split_1.json", client_list(number))
    elif name == "report":
        write_pretraining(folder)
    elif name == "prepare":
        write_raw(folder)
        # In this process: a worker that starts takes a second.
        monkeypatch.setattr(extract_frames, "in_processes", lambda work, jobs, num_workers: map(work, jobs))
    before = {path for path in folder.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(place, function, interrupted(getattr(place, function), call))
        assert command() == 143
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert line.startswith("error: Terminated; run the same command again")
    saved = {path for path in folder.rglob("*") if path.is_file()} - before
    assert not [path for path in saved if path.name.startswith(".")], "no lock and nothing half written stays"
    times = {path: path.stat().st_ino for path in saved if path.suffix in (".npz", ".zip")}
    assert command() == 0
    assert all(path.stat().st_ino == inode for path, inode in times.items()), "what is saved is not made again"
    if name == "finetune":
        assert [record["epoch"] for record in read_records(folder / "tuned/metrics.jsonl")] == [1, 2]
        assert "1 of 2 epochs are done" in capsys.readouterr().out


def client_list(number: int) -> Path:
    return Path(f"data/ucf101/annotations/client_distribution/client_dist{number}.json")
