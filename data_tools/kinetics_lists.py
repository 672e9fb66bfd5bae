"""Lists of Kinetics: the official csv, with or without `split` and `is_cc`, and the official json."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fedvssl.files.names import check_name, shown
from fedvssl.files.text import read_json_text

from .list_tables import Table
from .list_words import PARTS, Row, part_in_name, part_of, split_in_name, tell_left_out
from .raw_videos import composed

COLUMNS = {  # other spellings behind the official ones
    "label": ("label", "labelname", "class", "action"),
    "youtube_id": ("youtubeid", "ytid", "videoid"),
    "time_start": ("timestart", "starttime", "start"),
    "time_end": ("timeend", "endtime", "end"),
    "split": ("split", "subset"),
}
SPREADSHEET_ERROR = re.compile(r"#(NAME\?|REF!|VALUE!|N/A|DIV/0!|NUM!|NULL!)")
MOST_SECONDS = 10**6  # names of clips have six digits
IDS_EATEN = (
    "as their id is an error of a spreadsheet, which takes an id that begins with - or = for a formula: use the "
    "official file, or one that no spreadsheet has saved"
)


def is_kinetics(table: Table) -> bool:
    """True for a table with the ids of videos."""
    return table.column(COLUMNS["youtube_id"]) is not None


def csv_rows(table: Table, above: Path) -> Iterator[Row]:
    """Rows of the videos for training and validation. A file without `split` tells its part by its name.

    Rows that lack a cell are left out and named, and so are ids that a spreadsheet has replaced.

    Args:
        table: the csv.
        above: folder that the user gave.

    Raises:
        ValueError: if a column is missing, or a cell holds what it should not.
    """
    place = {name: table.column(spellings) for name, spellings in COLUMNS.items()}
    own_part = part_in_name(table.path)
    if place["label"] is None and own_part == "test":
        return  # the official test list has no labels
    needed = [*COLUMNS][: 4 if own_part else 5]
    if missing := [name for name in needed if place[name] is None]:
        advice = "" if own_part else "; without split its name must hold train or val"
        raise ValueError(
            f"{table.path} has no column {', '.join(missing)}: a Kinetics csv has {','.join(COLUMNS)}{advice}."
        )
    left_out = defaultdict[str, list[int]](list)
    for number, cells in table.rows:
        facts = {name: cells[at] if at < len(cells) else "" for name, at in place.items() if at is not None}
        if SPREADSHEET_ERROR.fullmatch(facts["youtube_id"]):
            left_out[IDS_EATEN].append(number)
        elif not all(facts.values()):
            left_out["as cells are empty or missing"].append(number)
        else:
            label, video, *times = (facts[name] for name in [*COLUMNS][:4])
            part = facts.get("split", own_part)
            yield from _row(label, video, times, part, above=above, path=table.path, line=number)
    for reason, numbers in left_out.items():
        tell_left_out(table.path, numbers, reason)


def is_official_json(path: Path) -> bool:
    """True for a json whose first entry tells a video's annotations and its part, whatever the file is called."""
    if path.suffix.lower() != ".json":
        return False
    content: Any = read_json_text(path)
    entry = next(iter(content.values()), None) if isinstance(content, dict) else None
    return isinstance(entry, dict) and {"annotations", "subset"} <= {*entry}


def json_rows(content: dict[str, Any], path: Path, above: Path) -> Iterator[Row]:
    """Rows of the official json; each video has its own `subset`.

    Raises:
        ValueError: naming an entry that is not as in the official json.
    """
    for video, entry in content.items():
        try:
            if part_of(entry["subset"]) == "test":
                continue
            facts = entry["annotations"]
            label, part, times = facts["label"], entry["subset"], facts["segment"]
        except (KeyError, TypeError, AttributeError):
            raise ValueError(
                f"{path} is not the official json of Kinetics: {shown(video)} has no annotations with label and "
                "segment, or no subset."
            ) from None
        if not isinstance(label, str) or not isinstance(times, list):
            raise ValueError(f"{path}: {shown(video)} has no label in words, or no segment with two times.")
        yield from _row(label, video, times, part, above=above, path=path, line=None)


def _row(
    label: str, video: str, times: Sequence, part: object, *, above: Path, path: Path, line: int | None
) -> Iterator[Row]:
    """Row of a video, named as by the usual downloaders and the published lists; none for a video of the test part."""
    where = str(path) if line is None else f"{path}, line {line}"
    try:
        start, end = (round(float(time)) for time in times)
        if not 0 <= start < end < MOST_SECONDS or bool in map(type, times):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        found = shown(", ".join(map(str, times)))
        raise ValueError(f"{where}: {shown(video)} has no start and end in seconds but {found}.") from None
    if (known := part_of(str(part))) is None or not label or not video:
        raise ValueError(
            f"{where}: label {shown(label)}, video {shown(video)}, split {shown(str(part))}; train, val or test was "
            "expected."
        )
    if known != "test":
        name = check_name(composed(f"{label.replace(' ', '_')}/{video}_{start:06d}_{end:06d}"), where=where)
        number = 1 if line is None else split_in_name(path, above)
        yield f"{PARTS[known]}_split_{number}", name, name.rpartition("/")[0]
