"""Run the commands of README and pages one after another, as printed, in a fresh clone with a small configuration.

    python -m benchmarks.walkthrough --raw_dir <clips> --ann_dir <lists> --folder /tmp/first_day
    python -m benchmarks.walkthrough --raw_dir <clips> --ann_dir <lists> --folder /tmp/first_day --only fedvssl.main

Prints for each its seconds, its exit code, its longest silence and the line before that, and at the end the places
in which a reader has to put something in. The folder gets the clone, and in it the data that a reader has by then.
Takes the Python that runs it as the environment, so nothing is installed.
"""

import argparse
import os
import re
import selectors
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.readme import ROOT, WRITES, commands, entry, make_small, read_pages, small
from fedvssl.files.atomic import write_json

PLACEHOLDER = re.compile(r"<[^<>=]+>")
LONG = 10.0  # seconds of silence that are worth a line of progress
PUBLISHED = "round-540.npz"
NUM_CLASSES, NUM_PICTURES, SIDE = 10, 6, 32  # of the made pictures; in each class, and half as many to test


@dataclass(frozen=True)
class Ran:
    """A command that was run.

    Args:
        command: as the page has it.
        seconds: from its start to its end.
        code: its exit code.
        silence: longest time in seconds without a word from it.
        before: the last line before that.
        guessed: places in it in which a reader has to put something in.
        wrote: True if the file that it is to write is there and new.
        last: its last lines.
    """

    command: str
    seconds: float
    code: int
    silence: float
    before: str
    guessed: list[str]
    wrote: bool
    last: str

    def line(self) -> str:
        shown = self.command.splitlines()[0] + (" ..." if "\n" in self.command else "")
        shown += f"   (after: {self.before})" if self.silence > LONG else ""
        fault = "" if self.wrote and not self.code else f"\n{self.last}"
        return f"{self.seconds:6.1f} s  exit {self.code}  silence {self.silence:5.1f} s  {shown}{fault}"


def set_up(folder: Path, *, raw_dir: Path, ann_dir: Path) -> Path:
    """Clone, make the configuration small, and put there what a reader has: videos, lists, pictures, an environment."""
    clone = folder / "fedvssl"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    make_small(clone / "conf")
    (clone / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    shutil.copytree(raw_dir, clone / "data/ucf101/raw")
    shutil.copytree(ann_dir, clone / "data/ucf101/lists")
    for number, raw in enumerate(sorted(raw_dir.rglob("*.avi"))):
        owned = clone / "my_videos" / ("anna" if number % 2 else "bob") / raw.name
        owned.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(raw, owned)
    rng = np.random.default_rng(0)
    for label in range(NUM_CLASSES):
        for part, number in (("train", NUM_PICTURES), ("test", NUM_PICTURES // 2)):
            place = folder / "pictures" / part / f"class{label}"
            place.mkdir(parents=True)
            for index in range(number):
                cv2.imwrite(str(place / f"{index}.png"), rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8))
    return clone


def places(clone: Path, *, raw_dir: Path, ann_dir: Path) -> dict[str, str]:
    """What a reader puts in the places of the pages."""
    return {
        **dict.fromkeys(("<videos>", "<clips>"), str(raw_dir.resolve())),
        **dict.fromkeys(("<lists>", "<folder of the csv files>"), str(ann_dir.resolve())),
        "<pictures>": str(clone.parent / "pictures"),
    }


def stand_in(clone: Path) -> None:
    """Put a round of the first run in the place of a published checkpoint, which a reader downloads."""
    if rounds := sorted((clone / "outputs").glob("*/*/fedvssl_results/round-3-weights.npz")):
        shutil.copy(rounds[0], clone / PUBLISHED)


def watched(command: Sequence[str], *, folder: Path, environment: Mapping[str, str]) -> Iterator[tuple[float, str]]:
    """Run a command; yield each piece of its output with the time since the one before, at last ("", exit code)."""
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as child:
        assert child.stdout is not None
        since = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while selector.select() and (piece := os.read(child.stdout.fileno(), 1 << 16)):
                yield time.monotonic() - since, piece.decode(errors="replace")
                since = time.monotonic()
        child.wait()
        yield time.monotonic() - since, f"\0{child.returncode}"


def run(command: str, clone: Path, known: Mapping[str, str]) -> Ran:
    """Run one command of the pages at small size."""
    text, guessed = small(command), PLACEHOLDER.findall(command)
    for name, value in known.items():
        text = text.replace(name, shlex.quote(value))
    words = [sys.executable, "-c", text] if text.startswith("import ") else ["bash", "-c", text]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(clone),
        "PYTHONUNBUFFERED": "1",
    }
    begun, told, silence, before = time.time(), "", 0.0, "(its start)"
    for seconds, piece in watched(words, folder=clone, environment=environment):
        if seconds > silence:
            silence, before = seconds, ([line for line in told.splitlines() if line.strip()] or ["(its start)"])[-1]
        told += piece
    code = int(told.rpartition("\0")[2])
    pattern = entry(WRITES, command)
    new = [path for path in clone.glob(str(pattern)) if path.stat().st_mtime >= begun - 1] if pattern else []
    last = "\n".join(told.rpartition("\0")[0].splitlines()[-5:])
    return Ran(command, time.time() - begun, code, silence, before, guessed, bool(new) or pattern == "", last)


def walk(folder: Path, *, raw_dir: Path, ann_dir: Path, only: str = "") -> Iterator[Ran]:
    """Run all commands whose text has `only` in it, in the order of the pages."""
    clone = set_up(folder, raw_dir=raw_dir, ann_dir=ann_dir)
    for command in commands(read_pages(clone)):
        if only in command:
            if PUBLISHED in command:
                stand_in(clone)
            yield run(command, clone, places(clone, raw_dir=raw_dir, ann_dir=ann_dir))


def parser(description: str | None) -> argparse.ArgumentParser:
    """Arguments of a walk."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--raw_dir", type=Path, required=True, help="folder with .avi videos, named as in UCF-101")
    found.add_argument("--ann_dir", type=Path, required=True, help="folder with their lists, as of UCF-101")
    found.add_argument("--folder", type=Path, required=True, help="an empty one, for the clone and the data")
    found.add_argument("--only", default="", help="run the commands alone that have this in them")
    found.add_argument("--json", type=Path, help="file for the log")
    return found


def main() -> int:
    """The command; returns 1 if a command of the pages has failed."""
    words = parser(__doc__)
    args = words.parse_args()
    for folder in (args.raw_dir, args.ann_dir):
        if not folder.is_dir():
            words.error(f"there is no folder {folder}")
    if args.folder.exists() and any(args.folder.iterdir()):
        words.error(f"{args.folder} is not empty: give another one")
    log = []
    for ran in walk(args.folder, raw_dir=args.raw_dir, ann_dir=args.ann_dir, only=args.only):
        log.append(ran)
        print(ran.line(), flush=True)
    if args.json:
        write_json(args.json, [asdict(ran) for ran in log])
    for place in sorted({place for ran in log for place in ran.guessed}):
        print(f"to be put in: {place} in {sum(place in ran.guessed for ran in log)} commands")
    if not log:
        words.error(f"no command of README and pages has {args.only} in it")
    failed = [ran for ran in log if ran.code or not ran.wrote]
    print(f"{len(log)} commands, {sum(ran.seconds for ran in log):.0f} s, {len(failed)} failed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
