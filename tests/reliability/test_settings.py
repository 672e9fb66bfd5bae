"""A part of the fuzz, and its judge."""

import pytest

from tests.reliability.settings import fits, judged, tried


@pytest.mark.parametrize("command", ["main", "finetune", "knn", "sweep", "data_tools.partition"])
def test_junk_on_a_command_line_ends_in_a_sentence(command: str) -> None:
    found = dict(tried(command, times=6, seed=3))
    assert set(found.values()) <= {"sentence", "accepted"} and "sentence" in found.values(), found


def test_the_judge_sees_what_is_no_sentence() -> None:
    for text in ("", "two\nlines", "'NoneType' object", "x" * 2000, "TypeError: '<' not supported between"):
        assert judged(ValueError(text)).startswith("no sentence")
    assert judged(ValueError("seed=a must be a whole number.")) == "sentence"


@pytest.mark.parametrize(
    ("default", "value", "expected"),
    [
        *((1, float("nan"), False), (1, -1, False), (1, True, False), (1, None, False), (1, {}, False), (1, 2.5, True)),
        *((False, 1, False), (False, True, True), ([1], [2], True), ([1], [None], False), ([1], 2, False)),
        *(("a", "b", True), ("a", None, False), ({}, 3, False), (None, "a", True), (1, "a", False)),
    ],
)
def test_the_judge_knows_what_fits_a_default(default: object, value: object, expected: bool) -> None:
    assert fits(default, value, "x") is expected
