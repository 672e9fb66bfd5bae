#!/usr/bin/env python3
"""One table out of several tests; several folders of one row are its seeds, shown as mean +- standard deviation.

    python scripts/compare_results.py "pre-trained=outputs/a" "from scratch=outputs/b"
    python scripts/compare_results.py "pre-trained=run7,run8,run9" "from scratch=scratch7,scratch8,scratch9"

Each folder is the work_dir of a test and holds its test.json.
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

ACCURACIES = {"top1_acc": "top-1", "top5_acc": "top-5", "mean_class_acc": "mean class"}


def main() -> int:
    try:
        rows = [read_row(word) for word in sys.argv[1:]]
        if not rows:
            raise ValueError("Name the rows: label=folder, or label=folder,folder,... for several seeds.")
        print(table(dict(rows)))
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
    return label, [json.loads(file.read_text()) for file in files]


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """The rows, then what guessing reaches, in percent.

    Raises:
        ValueError: if the tests are of different videos.
    """
    tests = [test for row in rows.values() for test in row]
    first = tests[0]
    facts = ("dataset", "split", "num_videos", "num_classes", "num_clips")
    if any(test[fact] != first[fact] for test in tests for fact in facts):
        raise ValueError(f"These tests differ in {', '.join(facts)}: they cannot stand in one table.")
    lines = [f"{'':24}" + "".join(f"{title:>16}" for title in ACCURACIES.values()) + "   (percent)"]
    lines += [_line(label, row) for label, row in rows.items()]
    lines += [_line("majority class", [first["majority_class"]]), _line("chance", [first["chance"]])]
    seeds = " and ".join(str(number) for number in sorted({len(row) for row in rows.values()}))
    lines.append(
        f"{first['num_videos']} test videos of {first['num_classes']} classes, {first['dataset']} split "
        f"{first['split']}, {first['num_clips']} clips each, {seeds} seed{'s' if seeds != '1' else ''}"
    )
    return "\n".join(lines)


def _line(label: str, tests: list[dict[str, Any]]) -> str:
    return f"{label:24}" + "".join(
        f"{_mean_and_deviation([100 * test[key] for test in tests]):>16}" for key in ACCURACIES
    )


def _mean_and_deviation(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} +- {statistics.stdev(values):.2f}"


if __name__ == "__main__":
    sys.exit(main())
