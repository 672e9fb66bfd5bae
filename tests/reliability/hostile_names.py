"""Hostile and odd names through every command that writes or reads by name, with a canary folder beside its own.

    python -m tests.reliability.hostile_names     writes its rows into docs/reliability.md

A hostile name must be rejected in one sentence, or be cut to a name inside the folder; nothing outside may change.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from data_tools import extract_frames
from tests.reliability.name_commands import COMMANDS, whole_way
from tests.reliability.name_entries import LISTS, TOOLS, Entry, EscapedError, video_bytes
from tests.reliability.table import Row, store

# Kind of fault -> names with it; {root} is the folder around the canary's.
HOSTILE: dict[str, tuple[str, ...]] = {
    "climbs out": (
        "../v",
        "../../v",
        "../../../canary/v",
        "../../../../canary/v",
        "walk/../../../canary/v",
        "a/../../v",
        "..",
        "walk/..",
    ),
    "absolute": ("/v", "{root}/canary/v", "//server/share/v", "/"),
    "control character": ("wa\0lk/v", "walk/v\0", "walk/\x1b[2Jv", "walk/a\rv", "walk/a\tv", "a\x85b/v", "a\u2028b/v"),
    "half a character": ("walk/\udc80v",),
    "backslash": ("walk\\v", "..\\v", "..\\..\\canary\\v", "\\v", "\\\\server\\share\\v", "walk\\..\\..\\v"),
    "drive": ("C:\\v", "C:/v", "c:v", "walk/C:v"),
    "device of Windows": ("CON/v", "nul/v", "walk/NUL", "walk/com1.2", "walk/LPT9", "aux /v", "walk/conin$"),
    "no name": ("", ".", "walk/.", "./..", "walk/...", "walk/. .", " /v", "walk//", "walk/ "),
    "too long": ("walk/" + "v" * 300, "w" * 300 + "/v", "\u8d70" * 82 + "/v", "w/" * 600 + "v"),
}
ODD = (
    *(
        "$a_$",
        "walk it",
        "gr\u00fc\u00df",
        "\u8d70\u308b",
        "e\u0301",
        "a..b",
        "a..",
        "v.1.2",
        "-v",
        "#1",
        "v (1)",
        "100%",
    ),
    *("it's", 'say "v"', "$HOME", "~", "a&b", "a;b", "[v]", "{v}", "*", "a=b", "a,b", "console", "com"),
)


def in_a_class(entry: Entry) -> Entry:
    """Entry of a name behind that of a class."""
    return lambda own, name: entry(own, f"walk/{name}")


ENTRIES = {**TOOLS, **COMMANDS}
ODD_ENTRIES = {
    title: in_a_class(ENTRIES[title])
    for title in ("prepare, list of paths", "prepare, json of names", "extract_frames by folder", "partition", "unpack")
}
ODD_ENTRIES |= {
    title: ENTRIES[title]
    for title in (
        *(f"prepare, {style}" for style in LISTS if style not in ("list of paths", "json of names")),
        *("setting exp_name", "setting data.name", "sweep, row"),
    )
}


@dataclass(frozen=True)
class Box:
    """Folder of one trial: `own` for the command, beside it `canary`, which nobody may touch or read."""

    root: Path

    @property
    def own(self) -> Path:
        return self.root / "deep" / "own"

    def prepare(self) -> None:
        for folder in (self.own, self.root / "canary"):
            folder.mkdir(parents=True)
        for place in (self.root, self.root / "deep", self.root / "canary"):
            for ending in ("zip", "mp4", "npz", "json"):
                (place / f"v.{ending}").write_bytes(video_bytes())

    def outside(self) -> dict[Path, tuple[int, int]]:
        """Size and time of all files and folders but those of the command."""
        seen = {path: path.lstat() for path in self.root.rglob("*") if not path.is_relative_to(self.own)}
        changing = {self.own.parent}  # its time is that of `own`
        return {path: (s.st_size, 0 if path in changing else s.st_mtime_ns) for path, s in seen.items()}


def outcome(entry: Entry, name: str, root: Path) -> str:
    """Try one name: "rejected", "inside" (taken, and it stayed there), "escaped" or "broke" (no sentence)."""
    box = Box(root)
    box.prepare()
    before, silent = box.outside(), StringIO()
    try:
        with (
            redirect_stdout(silent),
            redirect_stderr(silent),
            patch.object(extract_frames, "in_processes", _in_process),
        ):
            entry(box.own, name.replace("{root}", str(root)))
    except ValueError as error:
        sentence = str(error).strip()
        result = "rejected" if sentence and sentence.isprintable() else "broke"
    except EscapedError:
        result = "escaped"
    except Exception:
        result = "broke"
    else:
        result = "inside"
    return result if box.outside() == before else "escaped"


def _in_process(work: Callable, jobs: Iterable, *, num_workers: int) -> Iterator:
    """Stand-in for the pool of `extract_frames`, which starts processes."""
    return map(work, jobs)


def trials(entries: Mapping[str, Entry], names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Entry, name and outcome of every pair."""
    names = list(names)
    for title, entry in entries.items():
        for name in names:
            with tempfile.TemporaryDirectory() as root:
                yield title, name, outcome(entry, name, Path(root))


def hostile_row(kind: str, found: list[tuple[str, str, str]]) -> Row:
    count = Counter(result for *_, result in found)
    seen = f"{count['rejected']} rejected, {count['inside']} cut to a name inside or kept as text"
    return Row(
        f"a name that is hostile: {kind}",
        f"{len(HOSTILE[kind])} names in {len(ENTRIES)} kinds of lists, archives, settings and messages",
        "one sentence, nothing read or written outside the folder",
        f"{seen}, {count['escaped']} escaped, {count['broke']} without a sentence",
        len(found),
    )


def odd_row(found: list[tuple[str, str, str]]) -> Row:
    works = sum(result == "inside" for *_, result in found)
    where = f"in {len(ODD_ENTRIES)} kinds of places, and all in one data set from the partition to the retrieval"
    return Row(
        "a name that is only odd",
        f"{len(ODD)} names with blanks, umlauts, dots, quotes, brackets {where}",
        "it works",
        f"{works} worked",
        len(found),
    )


def main(write: Callable[[str], object] = print) -> int:
    """The command: 1 if a hostile name escaped, or an odd one did not work."""
    rows, bad = [], []
    for kind, names in HOSTILE.items():
        found = list(trials(ENTRIES, names))
        bad += [trial for trial in found if trial[2] in ("escaped", "broke")]
        rows.append(hostile_row(kind, found))
    whole = trials({"partition to retrieval": lambda own, _: whole_way(own, ODD)}, ["all odd names"])
    found = [*trials(ODD_ENTRIES, ODD), *whole]
    bad += [trial for trial in found if trial[2] != "inside"]
    rows.append(odd_row(found))
    for line in [*(f"{row.fault}: {row.seen}, of {row.times}" for row in rows), *map(repr, bad)]:
        write(line)
    store("hostile_names", rows)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
