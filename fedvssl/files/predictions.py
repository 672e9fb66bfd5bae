"""Answers of a recognizer to each test video, as CSV, so that two tests of the same videos can be compared in pairs."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedvssl.files.atomic import atomic_path

PREDICTIONS_FILE = "predictions.csv"
FACTS = ("video", "label", "answer")  # columns before those of the right videos


def write_predictions(
    path: Path,
    names: Sequence[str],
    *,
    labels: Sequence[int],
    answers: Sequence[int],
    right: Mapping[str, Sequence[bool]],
) -> None:
    """Write a line for each video.

    Args:
        path: of the CSV.
        names: of the videos, in the order of the test list.
        labels, answers: zero-based classes.
        right: accuracy -> whether each video counts; a column with 1 or 0.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow([*FACTS, *right])
        columns = ([int(is_right) for is_right in column] for column in right.values())
        lines.writerows(zip(names, labels, answers, *columns, strict=True))


def read_right(path: Path) -> tuple[list[str], dict[str, list[bool]]]:
    """Names of the videos, and for each accuracy whether they count.

    Raises:
        ValueError: if a line has no name or another value than 0 or 1.
    """
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    try:
        names = [line["video"] for line in lines]
        right = {
            name: [{"0": False, "1": True}[line[name]] for line in lines] for name in lines[0] if name not in FACTS
        }
    except (KeyError, IndexError) as error:
        raise ValueError(f"{path} is damaged: run the test again, which writes it.") from error
    return names, right


def to_digits(right: Sequence[bool]) -> str:
    """Short form for a JSON: "1011" for videos of which all but the second are right."""
    return "".join(str(int(is_right)) for is_right in right)


def from_digits(digits: str) -> list[bool]:
    """Inverse of `to_digits`."""
    return [digit == "1" for digit in digits]
