#!/usr/bin/env python3
"""Table of several tests; several folders of one row are its seeds, shown as mean +- standard deviation.

    python scripts/compare_results.py "pre-trained=outputs/a" "from scratch=outputs/b"
    python scripts/compare_results.py "pre-trained=run7,run8,run9" "from scratch=scratch7,scratch8,scratch9"

Each folder is the work_dir of a test and holds its test.json.
"""

import sys
from pathlib import Path
from typing import Any

from fedvssl.files.atomic import read_json
from fedvssl.sweeping.comparison import ACCURACIES, FACTS, Entry, aligned, conditions


def main() -> int:
    """The command; returns its exit code."""
    try:
        rows = dict(read_row(word) for word in sys.argv[1:])
        if not rows:
            raise ValueError("Name the rows: label=folder, or label=folder,folder,... for several seeds.")
        print(table(rows))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def read_row(word: str) -> tuple[str, list[dict[str, Any]]]:
    """ "label=folder,folder" -> label and the contents of the folders' test.json."""
    label, separator, folders = word.partition("=")
    if not separator:
        raise ValueError(f"'{word}' is not a row: write label=folder.")
    files = [Path(folder) / "test.json" for folder in folders.split(",")]
    if missing := [str(file) for file in files if not file.is_file()]:
        raise ValueError(f"No {missing[0]}: run scripts/dist_test.sh with this work_dir first.")
    return label, [read_json(file) for file in files]


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """The rows, the majority class and chance, in percent.

    Raises:
        ValueError: if the tests are of different videos, or a row has the name of a baseline.
    """
    tests = [test for row in rows.values() for test in row]
    first = tests[0]
    if any(conditions(test) != conditions(first) for test in tests):
        names = [name for name in (*FACTS, "settings") if any(test.get(name) != first.get(name) for test in tests)]
        raise ValueError(f"These tests differ in {', '.join(names)}: they cannot stand in one table.")
    baselines = {"majority class": [first["majority_class"]], "chance": [first["chance"]]}
    if taken := rows.keys() & baselines.keys():
        raise ValueError(f"'{min(taken)}' is the name of a baseline: choose another label.")
    measured = {**rows, **baselines}
    entries = {
        label: {name: Entry([test[name] for test in row], planned=len(row)) for name in ACCURACIES}
        for label, row in measured.items()
    }
    seeds = " and ".join(str(number) for number in sorted({len(row) for row in rows.values()}))
    return (
        f"{aligned(entries, ACCURACIES)}\n{first['num_videos']} test videos of {first['num_classes']} classes, "
        f"{first['dataset']} split {first['split']}, {first['num_clips']} clips each, "
        f"{seeds} seed{'s' if seeds != '1' else ''}"
    )


if __name__ == "__main__":
    sys.exit(main())
