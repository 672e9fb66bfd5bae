"""Labelled lists, as SlowFast, VideoMAE and mmaction write them: a path and a label in each line, or a json of both.

Text has the columns path and label, or path, frames and label, divided by blanks, commas, semicolons or tabs, with a
header or without. Labels are numbers, or names of classes where a header says so or each path ends as a video does.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fedvssl.data.video import VIDEO_SUFFIXES
from fedvssl.files.names import shown

from .list_tables import DELIMITERS, Table, read_rows
from .list_words import (
    HUGE,
    Row,
    check_label,
    has_more,
    is_video,
    listed_name,
    refuse,
    tell_left_out,
    whole_number,
    without_suffix,
)
from .raw_videos import CLIP

PATHS = ("path", "videopath", "filepath", "clippath", "video", "videoname", "filename", "clipname", "file", "name")
LABELS = ("label", "labelid", "labelindex", "labelname", "class", "classid", "classindex", "classname", "target")
LABELS += ("category", "action", "tag")
VIDEO_AND_CLASS = re.compile(
    rf'"?(.+(?:{"|".join(map(re.escape, sorted(VIDEO_SUFFIXES)))}))"?\s*[\s,;]\s*"?(.+?)"?', re.IGNORECASE
)
FRAMES_AND_CLASS = re.compile(r'([0-9]+)"?\s*[\s,;]\s*"?(.*[^\W\d_].*)')
WANTED_JSON = 'write a list of {"name": "archery/x", "label": 1}, or take the official json of Kinetics'
WANTED = "a path and a label such as 'archery/x.mp4 5'"


class Line(NamedTuple):
    """Number of a line, and the path and the label in it."""

    number: int
    path: str
    label: str


Lines = Sequence[tuple[int, str]]  # with their numbers
Rows = list[tuple[int, list[str]]]


def table_rows(table: Table, split: str) -> Iterator[Row]:
    """Rows of a table whose header names a column of paths and one of labels; rows without any cell are left out.

    Raises:
        ValueError: if it lacks one of them, or a row lacks its path or label.
    """
    path, label = table.column(PATHS), table.column(LABELS)
    if path is None or label is None:
        raise ValueError(
            f"{table.path} has the columns {shown(', '.join(table.columns))}: a list needs path and label, a Kinetics "
            "csv label, youtube_id, time_start, time_end and split."
        )
    found, empty = [], []
    for number, cells in table.rows:
        if not any(cells):
            empty.append(number)
        elif len(cells) <= max(path, label) or not cells[path] or not cells[label]:
            raise refuse(table.path, number, ",".join(cells), WANTED)
        else:
            found.append(Line(number, cells[path], cells[label]))
    tell_left_out(table.path, empty, "as cells are empty")
    yield from _rows(table.path, split, found)


def text_rows(path: Path, numbered: Lines, split: str) -> Iterator[Row]:
    """Rows of the lines of a list without a header, or with one in which blanks divide the columns.

    Raises:
        ValueError: naming the first line that is not a path and a label, or whose label is out of range.
    """
    words = numbered[0][1].casefold().split() if numbered else []
    has_header = len(words) > 1 and words[0] in PATHS and words[-1] in LABELS
    full = [(n, line) for n, line in numbered[has_header:] if line.strip(",; \t")]
    tell_left_out(path, [n for n, line in numbered if not line.strip(",; \t")], "as cells are empty")
    for divide in (*(partial(_cells, path=path, delimiter=sign) for sign in DELIMITERS), _words, _classes):
        if rows := divide(full):
            if len(rows[0][1]) > 2:
                print(f"{path}: the lines are read as path, number of frames and label; frames are counted anew.")
            yield from _rows(path, split, [Line(number, cells[0], cells[-1]) for number, cells in rows])
            return
    if full:
        ends = {number: re.split(r"[\s,;]+", line) for number, line in full}
        faulty = [row for row in full if len(ends[row[0]]) < 2 or whole_number(ends[row[0]][-1]) is None]
        raise refuse(path, *(faulty or full)[0], WANTED)


def json_rows(content: list[Any], path: Path, split: str) -> Iterator[Row]:
    """Rows of a list of `{"name": "<path>", "label": 1}`; a label may be the name of a class.

    Raises:
        ValueError: naming an entry that lacks one of them.
    """
    found = []
    for number, entry in enumerate(content, start=1):
        name, label = (entry.get("name"), entry.get("label")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not name:
            raise ValueError(f"{path}, entry {number} has no name: {WANTED_JSON}.")
        if type(label) not in (int, str) or label == "" or (isinstance(label, int) and label < 0):
            raise ValueError(f"{path}, entry {number} ({shown(name)}) has no label: {WANTED_JSON}.")
        found.append(Line(number, name, str(min(label, HUGE)) if isinstance(label, int) else str(label)))
    yield from _rows(path, split, found, unit="entry")


def _cells(numbered: Lines, *, path: Path, delimiter: str) -> Rows | None:
    """Cells of all lines if they are a path, perhaps a number of frames, and a number; None otherwise."""
    try:
        rows = read_rows(path, numbered, delimiter)
    except ValueError:
        return None
    numbers = [[whole_number(cell) for cell in cells[1:]] for _, cells in rows]
    is_list = {len(own) for own in numbers} in ({1}, {2}) and not any(None in own for own in numbers)
    return rows if is_list else None


def _words(numbered: Lines) -> Rows | None:
    """As `_cells` where blanks divide them and may be in paths.

    "a 1 0" and "a 2 0" are two videos called "a 1" and "a 2", while "a 80 0" and "b 90 1" tell numbers of frames.
    """
    rows = [(number, line.rsplit(maxsplit=1)) for number, line in numbered]
    if any(len(cells) < 2 or whole_number(cells[1]) is None for _, cells in rows):
        return None
    divided = [(number, [*cells[0].rsplit(maxsplit=1), cells[1]]) for number, cells in rows]
    videos = {tuple(cells) for _, cells in divided}
    with_frames = all(len(cells) == 3 and whole_number(cells[1]) is not None for cells in videos)
    return divided if with_frames and len({cells[0] for cells in videos}) == len(videos) else rows


def _classes(numbered: Lines) -> Rows | None:
    """Path and class of all lines if each path ends as a video does, and each class has a letter; None otherwise.

    Numbers between path and class are those of the frames if every line has one: they belong to no class.
    """
    matches = [(number, VIDEO_AND_CLASS.fullmatch(line)) for number, line in numbered]
    if not all(match and any(map(str.isalpha, match[2])) and not is_video(match[2]) for _, match in matches):
        return None
    rows = [(number, [match[1], match[2]]) for number, match in matches if match]
    framed = [FRAMES_AND_CLASS.fullmatch(cells[1]) for _, cells in rows]
    if not all(framed):
        return rows
    return [(number, [cells[0], *match.groups()]) for (number, cells), match in zip(rows, framed, strict=True) if match]


def _rows(path: Path, split: str, found: Sequence[Line], *, unit: str = "line") -> Iterator[Row]:
    above: set[str] = set()
    numbers = [whole_number(line.label) for line in found]
    for line, number in zip(found, numbers, strict=True):
        where = f"{path}, {unit} {line.number}"
        if number is None and any(other is not None for other in numbers):
            raise ValueError(
                f"{where}: the label {shown(line.label)} is no whole number, as other labels are: mend it."
            )
        name = _name(line.path, above, where=where)
        if number is None:
            label = listed_name(line.label, where=where)
            yield split, name if "/" in name else listed_name(f"{label}/{name}", where=where), label
        else:
            yield split, name, check_label(number, where=where)


def _name(path: str, above: set[str], *, where: str) -> str:
    """ "/data/train/archery/x.mp4" -> "archery/x"

    Args:
        path: as listed.
        above: what stands before the last folder in all names of the list; this one is added. Clips of Kinetics may
            have several, as their names are ids.
        where: file and line that has the path, for the message.

    Raises:
        ValueError: if it is another one than before: it could be the class, and is no part of the name. If numbers
            follow the ending of a video, because a label is one number.
    """
    listed = PurePosixPath(path.replace("\\", "/"))
    if has_more(path):
        raise ValueError(f"{where}: {shown(path)} has more than a path before the label: give {WANTED}.")
    stem = without_suffix(listed.name)
    name = listed_name((PurePosixPath(listed.parent.name) / stem).as_posix(), where=where)
    above |= set() if CLIP.fullmatch(stem) else {listed.parent.parent.as_posix()}
    if len(above) > 1:
        raise ValueError(
            f"{where}: {shown(path)} stands below another folder than the videos before it "
            f"({' and '.join(map(shown, sorted(above)))}), and a video is named by its last folder and its file alone: "
            "write <class>/<file> in every line."
        )
    return name
