"""Damaged and foreign lists through `data_tools.prepare`, and as the list of a client.

    python -m tests.reliability.list_junk     writes its rows into docs/reliability.md

Each list must be read soundly, or be refused with exit code 2 in one sentence that names the file. Values that no list
may have must be refused.
"""

import json
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from data_tools import extract_frames, prepare
from data_tools.command import run_command
from fedvssl.data.annotations import MOST_CLASSES, read_annotations
from fedvssl.files.names import check_name
from tests.reliability.hostile_names import _in_process
from tests.reliability.name_entries import video_bytes
from tests.reliability.table import Row, store

SEED, CHANGED = 18, 400  # random changes of each kind of list
NAMES = ("run/c", "run/d", "walk/a", "walk/b")
STEM = re.compile(r"[a-d](_[0-9]{6}_[0-9]{6})?")
TRUE_CLASS = {name[-1]: name.split("/")[0] for name in NAMES}
OFFICIAL = ("UCF-101", "HMDB-51")  # the class of a video is told by more than one place
CLIENT = "client's list"
FOREIGN = re.compile(r"Errno|Traceback|codec|Expecting|literal|limit \(|object has no|Error\b|\bdict\b|NoneType")

# Kind of list -> its files. The words in angles are what is right for them.
COLUMNS = "label,youtube_id,time_start,time_end,split\n"
KINETICS = f"{COLUMNS}run,<id c>,0,10,train\n<class walk>,a,<time 0>,10,<part train>\n"
ENTRY = '{"name": "<name walk/a>", "label": <number 2>}'
LISTS: dict[str, dict[str, str]] = {
    "UCF-101": {
        "classInd.txt": "1 run\n<label 2> walk\n",
        "trainlist01.txt": "run/<stem c>.mp4 1\nwalk/a.mp4 <label 2>\n",
        "testlist01.txt": "run/d.mp4\nwalk/<stem b>.mp4\n",
    },
    "HMDB-51": {
        "run_test_split1.txt": "c.mp4 1 \nd.mp4 2 \n",
        "walk_test_split1.txt": "<stem a>.mp4 <use 1> \nb.mp4 2 \n",
    },
    "Kinetics csv": {
        "train.csv": KINETICS,
        "val.csv": "Label; YouTube ID; time_start; time_end\nrun; d; <time 0>; 10\nwalk; b; 0; 10\n",
    },
    "Kinetics json": {
        "train.json": '{"a": {"annotations": {"label": "<class walk>", "segment": [<time 0>, 10]}, "subset": "train"},'
        ' "c": {"annotations": {"label": "run", "segment": [0, 10]}, "subset": "<part train>"}}'
    },
    "path label": {
        "train.txt": "/data/run/c.mp4 0\n/data/<name walk/a>.mp4 <label 1>\n",
        "val.txt": "run/d.mp4 30 0\nwalk/b.mp4 30 <label 1>\n",
    },
    "path, label": {"train.csv": "run/c.mp4,0\n<name walk/a>.mp4,<label 1>\n", "val.csv": "path,label\nrun/d.mp4,0\n"},
    "path, class": {"train.csv": "video,label\nc.mp4,run\n<stem a>.mp4,<class walk>\n", "val.csv": "d.mp4,run\n"},
    "json of paths": {"train.json": f'[{{"name": "run/c", "label": 1}}, {ENTRY}]'},
    CLIENT: {"client_dist1.json": f'[{{"name": "run/c", "label": 1}}, {ENTRY}]'},
}
LABELLED = ("path label", "path, label", "json of paths", CLIENT)  # nothing but the label tells the class
BAD_NAMES = ("../../..", "a\0", "a\u2028b", "a" * 5000, "nul", "\x1b[2J")
BAD_LABELS = (f"{10**30}", "9" * 5000, "-1", "1e300", "\u00b2", "nan")
# Kind of value -> values of it that no list may have.
BAD: dict[str, tuple[str, ...]] = {
    "stem": BAD_NAMES[1:],
    "name": BAD_NAMES,
    "class": BAD_NAMES,
    "id": tuple(name for name in BAD_NAMES if name != "nul"),  # the seconds follow
    "label": BAD_LABELS,
    "use": (*BAD_LABELS, "3"),
    "number": (*BAD_LABELS, "0.5", "true", "null", "[1]", "[" * 100_000),
    "time": ("1e300", "nan", "-1", "1e-400 1", "9" * 5000, "0x1"),
    "part": ("holdout", "3", "\0", "a" * 5000),
}
JUNK = ("\0", "\ufeff", "\u2028", "9" * 5000, "1e300", '"', ",,,,\n", "[" * 100_000, "../", "#NAME?", "a" * 200_000)
JUNK += (";", "\t", "\r", "-1", "true", "null", "\\", "\udcff", "{", "]", " ", "\n\n", "run/c.mp4 7\n", "e\u0301")
ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-32", "cp1252", "latin-1")


@dataclass(frozen=True)
class Trial:
    """One list that was tried, and what came of it: "read", "refused", "traceback" or "accepted" wrongly."""

    kind: str
    files: dict[str, bytes]
    result: str
    said: str


def right(text: str) -> str:
    """Text of a list with the right values."""
    return re.sub(r"<\w+ ([^>]*)>", r"\1", text)


def with_bad_values(kind: str) -> Iterator[dict[str, bytes]]:
    """The files of a kind, each time with one value that no list may have."""
    for name, text in LISTS[kind].items():
        for match in re.finditer(r"<(\w+) [^>]*>", text):
            for value in BAD[match[1]]:
                if kind.endswith("json") or name.endswith(".json"):
                    value = value if match[1] in ("number", "time") else json.dumps(value)[1:-1]
                changed = right(text[: match.start()]) + value + right(text[match.end() :])
                yield {**_written(kind), name: changed.encode()}


def _written(kind: str) -> dict[str, bytes]:
    return {name: right(text).encode() for name, text in LISTS[kind].items()}


def changed(kind: str, rng: random.Random) -> dict[str, bytes]:
    """The files of a kind after one to three random changes of one of them."""
    files = _written(kind)
    name = rng.choice(sorted(files))
    for _ in range(rng.randint(1, 3)):
        files[name] = rng.choice((_bytes, _cut, _lines, _junk, _value, _encoded))(files[name], rng)
    return files


def _bytes(data: bytes, rng: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(rng.randint(1, 4) if found else 0):
        found[rng.randrange(len(found))] = rng.randrange(256)
    return bytes(found)


def _cut(data: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return rng.choice((data[:start], data[start:], data[:start] + data[end:]))


def _lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
    if rng.random() < 0.5:
        rng.shuffle(lines)
    return rng.choice((b"\n", b"\r\n", b"\r", b" \n")).join(lines)


def _junk(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(JUNK).encode(errors="surrogateescape") + data[at:]


def _value(data: bytes, rng: random.Random) -> bytes:
    """One word becomes one of the values that no list may have, or is gone."""
    words = list(re.finditer(rb"\w+", data))
    if not words:
        return data
    word, values = rng.choice(words), [value for own in BAD.values() for value in own]
    return data[: word.start()] + rng.choice([*values, ""]).encode() + data[word.end() :]


def _encoded(data: bytes, rng: random.Random) -> bytes:
    return data.decode(errors="replace").encode(rng.choice(ENCODINGS), errors="replace")


def try_list(kind: str, files: dict[str, bytes], box: Path, *, must_fail: bool = False) -> Trial:
    """Give the files of a list to the command in a folder with the raw videos, and judge what comes of it."""
    lists, out = Path(tempfile.mkdtemp(dir=box)), box / "out"
    for name, data in files.items():
        (lists / name).write_bytes(data)
    for old in (out / "annotations").glob("*.json"):
        old.unlink()
    said, silent = StringIO(), StringIO()
    try:
        with redirect_stdout(silent), redirect_stderr(said), patch.object(extract_frames, "in_processes", _in_process):
            run_command(lambda: _command(kind, lists, box))
        result = "accepted" if must_fail or not _is_sound(kind, lists, out) else "read"
    except SystemExit as end:
        result = "refused" if end.code == 2 and _is_sentence(said.getvalue(), box) else "traceback"
    except BaseException as error:
        result, said = "traceback", StringIO(repr(error))
    return Trial(kind, files, result, said.getvalue())


def _command(kind: str, lists: Path, box: Path) -> None:
    if kind == CLIENT:
        read_annotations(lists / "client_dist1.json")
    else:
        words = (f"--raw_dir={box / 'raw'}", f"--ann_dir={lists}", f"--out_dir={box / 'out'}")
        prepare.main([*words, "--short_side=0", "--num_workers=1"])


def _is_sentence(said: str, box: Path) -> bool:
    """True for one printable line of moderate length in our own words, which names the lists or their folder."""
    line = said.strip().rpartition("\n")[2]  # a warning may come before it
    names = str(box) in line or line.startswith(("error: The lists ", "error: Some labels "))
    return line.startswith("error: ") and line.isprintable() and len(line) < 1000 and names and not FOREIGN.search(line)


def _is_sound(kind: str, lists: Path, out: Path) -> bool:
    """True if what was read keeps the contract of annotations, and classes are right where more than a label tells."""
    paths = [*lists.glob("*.json")] if kind == CLIENT else [*(out / "annotations").glob("t*.json")]
    found = {path.stem: read_annotations(path) for path in paths}
    entries = [entry for own in found.values() for entry in own]
    for entry in entries:
        check_name(entry.name, where="list")
    names = {"train": set(), "test": set()} | {part.split("_")[0]: {e.name for e in own} for part, own in found.items()}
    labels = {(entry.name.split("/")[0], entry.label) for entry in entries}
    known = kind == CLIENT or all(STEM.fullmatch(entry.name.rpartition("/")[2]) for entry in entries)
    if kind in OFFICIAL:
        known &= all(TRUE_CLASS[entry.name[-1]] == entry.name.split("/")[0] for entry in entries)
    one_to_one = kind in LABELLED or len({c for c, _ in labels}) == len({n for _, n in labels}) == len(labels)
    in_range = all(0 <= entry.label < MOST_CLASSES for entry in entries)
    return bool(entries) and known and one_to_one and in_range and not names["train"] & names["test"]


def prepare_box(box: Path) -> Path:
    """Write the raw videos, once under each name that a list may give them."""
    for name in NAMES:
        path = box / "raw" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(video_bytes())
    return box


def trials(kind: str, box: Path, *, number: int) -> Iterator[Trial]:
    """All values that no list of this kind may have, and random changes."""
    rng = random.Random(f"{SEED} {kind}")
    for files in with_bad_values(kind):
        yield try_list(kind, files, box, must_fail=True)
    for _ in range(number):
        yield try_list(kind, changed(kind, rng), box)


def row(kind: str, found: list[Trial]) -> Row:
    count = Counter(trial.result for trial in found)
    return Row(
        f"a damaged or foreign list: {kind}",
        f"{CHANGED} random changes, and {len(found) - CHANGED} values that no list may have",
        "one sentence that names it and exit code 2, or a sound list",
        f"{count['refused']} sentences, {count['read']} read, {count['traceback']} tracebacks, "
        f"{count['accepted']} wrongly accepted",
        len(found),
    )


def main(write: Callable[[str], object] = print) -> int:
    """The command: 1 if a list ended in a traceback or was wrongly accepted."""
    rows, bad = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for kind in LISTS:
            found = list(trials(kind, prepare_box(Path(folder)), number=CHANGED))
            rows.append(row(kind, found))
            write(f"{kind}: {len(found)} tried, {rows[-1].seen}")
            for trial in found:
                if trial.result in ("traceback", "accepted"):
                    bad += 1
                    write(f"  {trial.result}: {str(trial.files)[:600]} {trial.said[:300]}")
    store("list_junk", rows)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
