"""List the runs: pre-training and fine-tuning below outputs/ and in this folder, the newest first.

    python -m fedvssl.runs
    python -m fedvssl.runs outputs/2026-01-31 --json

Their names stand for their files in other commands: run=last, run=<name>, run=<date>/<time>, run=<folder>.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedvssl.files.ending import exit_code, one_line
from fedvssl.files.runs import OUTPUTS, RunFacts, all_runs, run_facts, run_folders

COLUMNS = ("folder", "name", "method", "task", "data", "done", "loss", "state", "age")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return exit_code(lambda: show(_parse(argv)))


def show(arguments: argparse.Namespace) -> None:
    """Print what the command line asks for.

    Raises:
        ValueError: if there is no such folder.
    """
    if arguments.folder is not None and not arguments.folder.is_dir():
        raise ValueError(f"there is no folder {arguments.folder}.")
    place: Path | None = arguments.folder
    folders = [*run_folders(place)] if place else all_runs()
    found, broken = read_all(folders)
    if arguments.json:
        print(json.dumps([*map(asdict, found), *broken], indent=2))
        return
    if found:
        print(table(found, now=time.time()))
    for entry in broken:
        print(f"{entry['folder']}: {entry['error']}")
    if not folders:
        print(f"No run in {place or f'{OUTPUTS} or this folder'}.")


def read_all(folders: Iterable[Path]) -> tuple[list[RunFacts], list[dict[str, str]]]:
    """Facts of the runs, the newest first, and the folders that cannot be read with the reason."""
    found, broken = [], []
    for folder in folders:
        try:
            found.append(run_facts(folder))
        except Exception as error:  # whatever is in there, the others are listed
            broken.append({"folder": str(folder), "error": one_line(error)})
    return sorted(found, key=lambda run: run.changed, reverse=True), broken


def table(runs: Sequence[RunFacts], *, now: float) -> str:
    """A line for each run; `now` in seconds since 1970."""
    rows: list[tuple[Any, ...]] = [COLUMNS]
    for run in runs:
        done = f"{run.done}/{run.asked} {'rounds' if run.kind == 'pre-training' else 'epochs'}"
        loss = "-" if run.loss is None else f"{run.loss:.3f}"
        rows.append(
            (run.folder, run.name, run.method, run.task, run.data, done, loss, run.state, age(now - run.changed))
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def age(seconds: float) -> str:
    """90 -> "1 min", 7200 -> "2 h", 200000 -> "2 d"."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(int(seconds), 0)} s"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fedvssl.runs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="default: outputs, and the runs in this folder")
    parser.add_argument("--json", action="store_true", help="a list with all that is known of each run")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
