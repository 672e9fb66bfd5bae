#!/usr/bin/env python3
"""Table of several tests, with 95 % intervals; several folders of one row are seeds, shown as mean +- deviation.

    python scripts/compare_results.py "pre-trained=outputs/a" "from scratch=outputs/b"
    python scripts/compare_results.py "pre-trained=run7,run8,run9" "from scratch=scratch7,scratch8,scratch9"

Each folder is the work_dir of a test and holds its test.json and predictions.csv. Below the table are the paired
differences between the first row and each other one; rows of several seeds have none.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedvssl.data.seen import seen_words
from fedvssl.data.validation import evaluated_videos, group_of
from fedvssl.evaluation.intervals import paired_difference
from fedvssl.files.atomic import read_json
from fedvssl.files.ending import exit_code
from fedvssl.files.predictions import PREDICTIONS_FILE, read_right
from fedvssl.sweeping.comparison import ACCURACIES, Entry, aligned, clip_words, clips_of, differing, interval_words


def main() -> int:
    """The command; returns its exit code."""
    return exit_code(lambda: compare(sys.argv[1:]))


def compare(words: Sequence[str]) -> None:
    """Print the table of the rows that the words name.

    Raises:
        ValueError: for a word that is no row, or tests that cannot stand in one table.
    """
    folders = dict(read_row(word) for word in words)
    if not folders:
        raise ValueError("Name the rows: label=folder, or label=folder,folder,... for several seeds.")
    rows = {label: [read_json(folder / "test.json") for folder in own] for label, own in folders.items()}
    print("\n".join([table(rows), *differences(folders)]))


def read_row(word: str) -> tuple[str, list[Path]]:
    """ "label=folder,folder" -> label and folders, each with a test.json."""
    label, separator, folders = word.partition("=")
    if not separator:
        raise ValueError(f"'{word}' is not a row: write label=folder.")
    paths = [Path(folder) for folder in folders.split(",")]
    if missing := [path for path in paths if not (path / "test.json").is_file()]:
        raise ValueError(f"No {missing[0] / 'test.json'}: run python -m fedvssl.test with this work_dir first.")
    return label, paths


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """The rows, the majority class and chance, in percent.

    Raises:
        ValueError: if the tests are of different videos, clips or pictures, or a row has the name of a baseline.
    """
    tests = [test for row in rows.values() for test in row]
    first = tests[0]
    recorded = {label: all(clips_of(test)["crop_size"] for test in row) for label, row in rows.items()}
    if any(recorded.values()) and not all(recorded.values()):
        label = next(label for label, known in recorded.items() if not known)
        raise ValueError(
            f"The test of '{label}' is of an earlier version, which did not record the length of clips and the size of "
            "pictures, so nobody knows whether it was measured like the others: test it again."
        )
    if names := differing(tests):
        raise ValueError(f"These tests differ in {', '.join(names)}: they cannot stand in one table.")
    baselines = {"majority class": [first["majority_class"]], "chance": [first["chance"]]}
    if taken := rows.keys() & baselines.keys():
        raise ValueError(f"'{min(taken)}' is the name of a baseline: choose another label.")
    measured = {**rows, **baselines}
    entries = {
        label: {
            name: Entry(
                [test[name] for test in row],
                planned=len(row),
                interval=row[0].get("intervals", {}).get(name) if len(row) == 1 else None,
            )
            for name in ACCURACIES
        }
        for label, row in measured.items()
    }
    seeds = " and ".join(str(number) for number in sorted({len(row) for row in rows.values()}))
    return (
        f"{aligned(entries, ACCURACIES)}\n{evaluated_videos(first, first['num_videos'])} of {first['num_classes']} "
        "classes, "
        f"{first['dataset']} split {first['split']}, {clip_words(first)}, "
        f"{seeds} seed{'s' if seeds != '1' else ''}"
        + "".join(
            f"\n{label}{words}"
            for label, row in rows.items()
            if (words := next(filter(None, map(seen_words, row)), "") + older_words(row, tests))
        )
    )


def older_words(row: list[dict[str, Any]], tests: list[dict[str, Any]]) -> str:
    """Words on the interval of a row with one test; several have none."""
    return interval_words(row[0], tests) if len(row) == 1 else ""


def differences(folders: dict[str, list[Path]]) -> list[str]:
    """Lines such as "top-1: pre-trained - from scratch +12.3 [4.1, 20.5]", for tests with a predictions.csv.

    Raises:
        ValueError: if two tests are of other videos.
    """
    files = {label: own[0] / PREDICTIONS_FILE for label, own in folders.items() if len(own) == 1}
    read = {label: read_right(file) for label, file in files.items() if file.is_file()}
    first = next(iter(folders))
    lines = []
    for label, (names, right) in read.items():
        if first in read and label != first:
            if names != read[first][0]:
                raise ValueError(f"{files[label]} and {files[first]} have other videos: test both with one list.")
            groups = [group_of(name) for name in names]
            found = {
                name: paired_difference(own, right[name], groups)
                for name, own in read[first][1].items()
                if name in right
            }
            lines += [f"{ACCURACIES[name]}: {first} - {label} {found[name].text()}" for name in found]
    return lines


if __name__ == "__main__":
    sys.exit(main())
