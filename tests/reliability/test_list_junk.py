"""A part of the trials, and their judge; python -m tests.reliability.list_junk makes them all."""

from pathlib import Path

import pytest

from data_tools import prepare
from tests.reliability import list_junk
from tests.reliability.list_junk import LISTS, prepare_box, trials, try_list, with_bad_values


@pytest.mark.parametrize("kind", LISTS)
def test_damaged_lists_are_read_soundly_or_refused_in_one_sentence(tmp_path: Path, kind: str) -> None:
    found = list(trials(kind, prepare_box(tmp_path), number=30))
    assert not [trial for trial in found if trial.result in ("traceback", "accepted")]
    assert {trial.result for trial in found} == {"read", "refused"}


def test_the_judge_sees_tracebacks_foreign_words_and_wrong_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, box = "UCF-101", prepare_box(tmp_path)
    good = {name: list_junk.right(text).encode() for name, text in LISTS[kind].items()}
    assert try_list(kind, good, box).result == "read"
    assert try_list(kind, good, box, must_fail=True).result == "accepted"
    swapped = {**good, "trainlist01.txt": b"run/a.mp4 1\nrun/c.mp4 1\n", "testlist01.txt": b"run/d.mp4\n"}
    flat = prepare_box(tmp_path / "flat")
    for name in list_junk.NAMES:
        (flat / "raw" / name).with_suffix(".mp4").rename(flat / "raw" / f"{name[-1]}.mp4")
    assert try_list(kind, swapped, flat).result == "accepted"
    bad = next(with_bad_values(kind))
    for error in (KeyError("x"), ValueError(f"{box}: [Errno 2] x"), ValueError(f"{box} \a"), ValueError("no file")):

        def fail(_ann_dir: Path, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(prepare, "read_splits", fail)
        assert try_list(kind, bad, box).result == "traceback"
