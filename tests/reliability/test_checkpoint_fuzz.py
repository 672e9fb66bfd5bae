"""Some hundred files of the fuzz; python -m tests.reliability.checkpoint_fuzz reads 6,000."""

from pathlib import Path

import pytest

from fedvssl.files import pth
from tests.reliability import checkpoint_fuzz
from tests.reliability.checkpoint_forms import DAMAGES, Calls, as_pth, hostile_files
from tests.reliability.checkpoint_fuzz import CONTENT, CRASH, HOSTILE, SENTENCE, WRONG, Trial, original, run_trial


def trials_of(count: int, folder: Path) -> list[Trial]:
    return [run_trial(number, seed=13, folder=folder, state=original()) for number in range(count)]


def test_damaged_checkpoints_end_in_one_sentence(tmp_path):
    trials = trials_of(200, tmp_path)
    assert not [(number, trial) for number, trial in enumerate(trials) if trial.fate in (WRONG, CRASH)]
    assert {trial.kind for trial in trials} == {*DAMAGES, CONTENT, HOSTILE}
    assert {SENTENCE, checkpoint_fuzz.SAME} <= {trial.fate for trial in trials}


@pytest.mark.parametrize("name", hostile_files(Path("marker")))
def test_every_hostile_file_ends_in_one_sentence(name: str, tmp_path, monkeypatch):
    data = hostile_files(tmp_path / "ran")[name]()
    monkeypatch.setattr(checkpoint_fuzz, "draw", lambda *_args, **_named: (HOSTILE, name, data))
    for number in (1, 0) if name == "web page" else (1,):  # 0 goes through a command as well
        trial = run_trial(number, seed=0, folder=tmp_path, state=original())
        assert trial.fate == SENTENCE, trial


def test_the_fuzz_sees_a_call_that_is_run(tmp_path, monkeypatch):
    data = as_pth({"state_dict": Calls(open, str(tmp_path / "ran"), "w")})
    monkeypatch.setattr(checkpoint_fuzz, "draw", lambda *_args, **_named: (HOSTILE, "call", data))
    monkeypatch.setitem(pth.STAND_INS, ("io", "open"), open)
    assert run_trial(1, seed=0, folder=tmp_path, state=original()).fate == WRONG


def test_the_fuzz_sees_an_error_of_a_library(tmp_path, monkeypatch):
    def broken(*_args: object) -> None:
        raise RuntimeError("weights_only=False")

    monkeypatch.setattr(checkpoint_fuzz, "load_backbone", broken)
    assert {trial.fate for trial in trials_of(5, tmp_path)} == {CRASH}
