"""Split lists as data sets ship them -> annotations, one list per split file.

- UCF-101: `classInd.txt` ("1 Archery"), `trainlist01.txt` ("Archery/v_Archery_g08_c01.avi 1") and `testlist01.txt` (the
  same, the label may be missing), splits 1-3 as far as they are there.
- HMDB-51: one `<class>_test_split1.txt` per class ("clip.avi 1": 1 train, 2 test, 0 unused), splits 1-3.
- Kinetics: the official csv or json, in any number of files; validation becomes `test_split_1`.
- Labelled lists: .txt with lines "<path> <label>" or .json with `[{"name": "<path>", "label": 1}]`, called `*train*`
  and `*val*`; the labels count from 0 or from 1.

Line ends may be CRLF. Without lists the class of a video is its folder.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from fedvssl.data.annotations import Annotation
from fedvssl.data.video import VIDEO_SUFFIXES
from fedvssl.files.names import check_name, shown

from .raw_videos import CLIP

Splits = dict[str, list[Annotation]]  # "train_split_1" -> its videos
SPLIT_NUMBERS = (1, 2, 3)
Row = tuple[str, str, int | None]  # split, "<Class>/<stem>", label as the list has it
KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
PARTS = {"train": "train_split_1", "val": "test_split_1", "test": None}  # beginnings of the names of parts


def read_splits(ann_dir: Path) -> Splits:
    """Read the lists in `ann_dir` or in folders below it, in any of the styles.

    UCF-101 lists and labelled lists give the labels; in other lists classes are numbered in alphabetical order.

    Raises:
        ValueError: if there are no lists, a list names an unknown class, a label contradicts the class, a line cannot
            be read, a name leads outside its folder, or a video is in the training and the test list of one split.
    """
    if not ann_dir.is_dir():
        raise ValueError(f"No folder {ann_dir}: --ann_dir is the folder with the split lists.")
    splits = {split: list(dict.fromkeys(listed)) for split, listed in _read_any_style(ann_dir).items()}
    _check_disjoint(splits, where=ann_dir)
    return splits


def _read_any_style(ann_dir: Path) -> Splits:
    for pattern, read in (("t*list0[123].txt", _ucf_splits), ("?*_test_split[123].txt", _hmdb_splits)):
        folders = sorted({path.parent for path in ann_dir.rglob(pattern)})
        if len(folders) > 1:
            raise ValueError(f"Several folders with {pattern} below {ann_dir}: give one of them as --ann_dir.")
        if folders:
            return read(folders[0])
    files = sorted(ann_dir.rglob("[!.]*"))
    if tables := [path for path in files if path.suffix == ".csv" and not path.stem.endswith("test")]:
        return _numbered(row for path in tables for row in _csv_rows(path))
    for suffix, read in ((".txt", _text_rows), (".json", _json_rows)):
        if lists := _by_split([path for path in files if path.suffix == suffix]):
            return _numbered(row for split, path in lists.items() for row in read(path, split))
    raise ValueError(
        f"No lists in {ann_dir}: --ann_dir is the folder with trainlist01.txt (UCF-101), *_test_split1.txt (HMDB-51), "
        "train.csv (Kinetics) or lists of paths and labels such as train.txt and val.txt."
    )


def splits_from_names(names: Iterable[str]) -> Splits:
    """All videos as one training split, labelled by their folders in alphabetical order.

    Raises:
        ValueError: if a video lies in no class folder.
    """
    names = sorted(names)
    folders = [PurePosixPath(name).parent.as_posix() for name in names]
    if "." in folders:
        name = names[folders.index(".")]
        raise ValueError(f"{name} lies in no class folder: without lists the folder of a video is its class.")
    labels = {folder: label for label, folder in enumerate(sorted(set(folders)))}
    return {"train_split_1": [Annotation(name, labels[f]) for name, f in zip(names, folders, strict=True)]}


def _ucf_splits(folder: Path) -> Splits:
    classes = _read_classes(folder / "classInd.txt")
    splits: Splits = {}
    for number in SPLIT_NUMBERS:
        for part in ("train", "test"):
            path = folder / f"{part}list{number:02d}.txt"
            if path.is_file():
                splits[f"{part}_split_{number}"] = [
                    _ucf_annotation(line, classes, where=f"{path}, line {line_number}")
                    for line_number, line in _lines(path)
                ]
    return splits


def _read_classes(path: Path) -> dict[str, int]:
    """Class name -> zero-based label, in the order of the labels."""
    if not path.is_file():
        raise ValueError(f"No classInd.txt beside the lists in {path.parent}: it says which label a class has.")
    classes: dict[str, int] = {}
    for number, line in _lines(path):
        words = line.split(maxsplit=1)
        if len(words) != 2 or not words[0].isdigit() or int(words[0]) < 1:
            raise ValueError(f"{path}, line {number}: {shown(line)} is not a label and a class such as '1 Archery'.")
        name, label = check_name(words[1], where=f"{path}, line {number}"), int(words[0]) - 1
        if name in classes or label in classes.values():
            raise ValueError(f"{path}, line {number}: {shown(line)} repeats a label or a class: mend it.")
        classes[name] = label
    return classes


def _ucf_annotation(line: str, classes: dict[str, int], *, where: str) -> Annotation:
    """Annotation of one line. The class gets the spelling of classInd.txt, where case alone may tell two apart."""
    match = re.fullmatch(r"(?:(?P<folder>.+)/)?(?P<file>[^/]+?)(?:\s+(?P<label>\d+))?", line)
    if match is None:
        raise ValueError(f"{where}: {shown(line)} names a folder and no video: mend it.")
    folder, label = match["folder"], match["label"]
    check_name(match["file"], where=where)
    if folder is None:
        known = [name for name, index in classes.items() if label and index == int(label) - 1]
    else:
        listed = PurePosixPath(folder).name
        known = [listed] if listed in classes else [name for name in classes if name.casefold() == listed.casefold()]
    if len(known) != 1:
        raise ValueError(f"{where}: the class of {shown(line)} is not in classInd.txt.")
    if label and classes[known[0]] != int(label) - 1:
        raise ValueError(f"{where}: label {label}, but classInd.txt gives {known[0]} {classes[known[0]] + 1}.")
    return Annotation(f"{known[0]}/{without_suffix(match['file'])}", classes[known[0]])


def _hmdb_splits(folder: Path) -> Splits:
    paths = {path: re.fullmatch(r"(.+)_test_split([123])", path.stem) for path in folder.glob("?*_test_split[123].txt")}
    classes = sorted({match[1] for match in paths.values() if match})
    splits: Splits = {}
    for path, match in sorted(paths.items()):
        assert match, "the glob pattern implies it"
        for number, line in _lines(path):
            name, _, use = line.rpartition(" ")
            if use not in ("0", "1", "2"):
                raise ValueError(
                    f"{path}, line {number}: {shown(line)} does not end in 0 (unused), 1 (train) or 2 (test)."
                )
            if use != "0":
                split = splits.setdefault(f"{'train' if use == '1' else 'test'}_split_{match[2]}", [])
                video = check_name(f"{match[1]}/{without_suffix(name.strip())}", where=f"{path}, line {number}")
                split.append(Annotation(video, classes.index(match[1])))
    return splits


def _csv_rows(path: Path) -> Iterator[Row]:
    """The official table of Kinetics."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        table = csv.DictReader(file)
        if missing := [column for column in KINETICS_COLUMNS if column not in (table.fieldnames or ())]:
            raise ValueError(
                f"{path} has no column {', '.join(missing)}: a Kinetics csv has {','.join(KINETICS_COLUMNS)}."
            )
        for row in table:
            label, video, start, end, part = (row[column] for column in KINETICS_COLUMNS)
            yield from _kinetics_row(label, video, (start, end), part, where=f"{path}, line {table.line_num}")


def _json_rows(path: Path, split: str) -> Iterator[Row]:
    """Rows of the official json of Kinetics, with its own `split` for each video, or of a list of names and labels."""
    above = set[str]()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            for video, entry in content.items():
                facts = entry["annotations"]
                yield from _kinetics_row(facts["label"], video, facts["segment"], entry["subset"], where=str(path))
        else:
            for entry in content:
                if not isinstance(label := entry["label"], int) or label < 0:
                    raise TypeError(f"label {label!r}")
                yield split, _listed_name(entry["name"], above, where=path), label
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(
            f'{path} is neither the official json of Kinetics nor a list of {{"name": ..., "label": ...}} '
            f"({type(error).__name__}: {error})."
        ) from error


def _text_rows(path: Path, split: str) -> Iterator[Row]:
    above = set[str]()
    for number, line in _lines(path):
        *name, label = line.rsplit(maxsplit=1)
        if not name or not label.isdecimal():
            raise ValueError(
                f"{path}, line {number}: {shown(line)} is not a path and a label such as 'archery/x.mp4 5'."
            )
        yield split, _listed_name(name[0], above, where=f"{path}, line {number}"), int(label)


def _kinetics_row(label: str, video: str, times: Sequence, part: str, *, where: str) -> Iterator[Row]:
    """Row of a video, named as by the usual downloaders and the published lists; none for a video of the test part."""
    split = next((PARTS[word] for word in PARTS if str(part).startswith(word)), "")
    try:
        start, end = (round(float(time)) for time in times)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{where}: {video} has no start and end in seconds but {tuple(times)}.") from None
    if split == "" or not label or not video:
        raise ValueError(f"{where}: label {label!r}, video {video!r}, split {part!r}; train, val or test was expected.")
    if split:
        yield split, check_name(f"{label.replace(' ', '_')}/{video}_{start:06d}_{end:06d}", where=where), None


def _by_split(paths: Sequence[Path]) -> dict[str, Path]:
    """Lists for training and testing, found by their names; val is preferred to test."""
    found: dict[str, Path] = {}
    for word in PARTS:
        split = PARTS[word] or "test_split_1"
        fitting = [path for path in paths if re.search(rf"(^|[^a-z]){word}", path.stem.lower())]
        if len(fitting) > 1:
            raise ValueError(f"{fitting[0]} and {fitting[1]} are both called {word}: give a folder with one of them.")
        if fitting:
            found.setdefault(split, fitting[0])
    return found


def _numbered(rows: Iterable[Row]) -> Splits:
    """Splits of the rows, labels from 0. Without labels the classes are numbered in alphabetical order."""
    rows = list(dict.fromkeys(rows))
    if not rows:
        raise ValueError("The lists name no video for training or validation: check --ann_dir.")
    label_of: dict[str, int | None] = {}
    for _, name, label in rows:
        if label_of.setdefault(name, label) != label:
            raise ValueError(f"The lists give {name} the labels {label_of[name]} and {label}: mend them.")
    labels = {label for _, _, label in rows}
    first = 0 if 0 in labels else 1
    classes = sorted({PurePosixPath(name).parent.as_posix() for _, name, _ in rows})
    number_of = {name: number for number, name in enumerate(classes, start=first)}
    splits: Splits = {}
    for split, name, label in rows:
        if label is None:
            label = number_of[PurePosixPath(name).parent.as_posix()]
        splits.setdefault(split, []).append(Annotation(name, label - first))
    return splits


def _listed_name(path: str, above: set[str], *, where: object) -> str:
    """ "/data/train/archery/x.mp4" -> "archery/x"

    Args:
        path: as listed.
        above: what stands before the last folder in all names of the list; this one is added. Clips of Kinetics may
            have several, as their names are ids.
        where: file or line that has the path, for the message.

    Raises:
        ValueError: if it is another one than before: it could be the class, and is no part of the name.
    """
    listed = PurePosixPath(path)
    name = check_name((PurePosixPath(listed.parent.name) / without_suffix(listed.name)).as_posix(), where=where)
    above |= set() if CLIP.fullmatch(without_suffix(listed.name)) else {listed.parent.parent.as_posix()}
    if len(above) > 1:
        raise ValueError(
            f"{where}: {shown(path)} stands below another folder than the videos before it "
            f"({' and '.join(sorted(above))}), and a video is named by its last folder and its file alone: write "
            "<class>/<file> in every line."
        )
    return name


def without_suffix(file_name: str) -> str:
    """Stem of a file name: only the ending of a video is removed, because stems may hold dots."""
    path = PurePosixPath(file_name)
    return path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name


def _lines(path: Path) -> list[tuple[int, str]]:
    """(line number, stripped line) of all lines that are not empty."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")  # splitlines would cut at other characters
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def _check_disjoint(splits: Splits, *, where: Path) -> None:
    for number in SPLIT_NUMBERS:
        train = {annotation.name for annotation in splits.get(f"train_split_{number}", [])}
        both = [annotation.name for annotation in splits.get(f"test_split_{number}", []) if annotation.name in train]
        if both:
            raise ValueError(f"{where}: {both[0]} is in the training and the test list of split {number}.")
