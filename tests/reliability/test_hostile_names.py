"""A part of the table, and its judge."""

from pathlib import Path

import pytest

from tests.reliability.hostile_names import ENTRIES, HOSTILE, ODD_ENTRIES, outcome, trials
from tests.reliability.name_entries import EscapedError

SLOW = {"array in a file", "export", "report"}  # they keep names as text
PATHS = {f"prepare, {style}" for style in ("list of paths", "json of names", "UCF file", "HMDB file")}
MENDED = {"download", "prepare, HMDB class", "build_annotations", *PATHS}  # of a path they take its end
NAMES = ("../../../../canary/v", "{root}/canary/v", "walk/v\0", "walk\\v")


@pytest.mark.parametrize("title", [title for title in ENTRIES if title not in SLOW])
def test_no_hostile_name_leads_outside(title: str) -> None:
    assert set(NAMES) <= {name for names in HOSTILE.values() for name in names}
    found = {name: result for _, name, result in trials({title: ENTRIES[title]}, NAMES)}
    assert set(found.values()) <= {"rejected", "inside"}, found
    assert found["walk\\v"] == "rejected" or title in MENDED, found


def test_odd_names_work() -> None:
    found = list(trials(ODD_ENTRIES, ["-\u8d70 it's #(1)..%"]))
    assert len(found) == len(ODD_ENTRIES) and {result for *_, result in found} == {"inside"}, found


def test_the_judge_sees_what_happens_outside(tmp_path: Path) -> None:
    def write(own: Path, _: str) -> None:
        (own / "../../canary/v.zip").write_bytes(b"evil")

    def read(_own: Path, _: str) -> None:
        raise EscapedError

    def fail(_own: Path, _: str) -> None:
        raise KeyError("v")

    def speak(_own: Path, _: str) -> None:
        raise ValueError("two\nlines")

    def obey(own: Path, _: str) -> None:
        (own / "v.zip").touch()

    tried = {"write": write, "read": read, "fail": fail, "speak": speak, "obey": obey}
    found = {title: outcome(entry, "v", tmp_path / title) for title, entry in tried.items()}
    assert found == {"write": "escaped", "read": "escaped", "fail": "broke", "speak": "broke", "obey": "inside"}
