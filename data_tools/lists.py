"""Split lists as data sets ship them -> annotations, one list per split file.

- UCF-101: `classInd.txt` ("1 Archery"), `trainlist01.txt` ("Archery/v_Archery_g08_c01.avi 1") and `testlist01.txt` (the
  same, the label may be missing), splits as far as they are there.
- HMDB-51: one `<class>_test_split1.txt` per class ("clip.avi 1": 1 train, 2 test, 0 unused), splits as far as they are
  there.
- Kinetics: the official csv or json, in any number of files; validation becomes `test_split_1`. Without a column
  `split` the name of the csv tells it.
- Labelled lists as those of SlowFast, VideoMAE and mmaction: .txt, .csv or .tsv with lines "<path> <label>" or
  "<path> <frames> <label>", divided by blanks, commas, semicolons or tabs, with a header or without, or .json with
  `[{"name": "<path>", "label": 1}]`; called `*train*` and `*val*`, with the number of the split if there are several
  (`ucf101_train_split_2_videos.txt`). The labels count from 0 or from 1, or are names of classes.

Encodings, ends of lines and backslashes of Windows are read as they come. Without lists the class of a video is its
folder.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from fedvssl.data.annotations import Annotation
from fedvssl.files.text import read_json_text

from . import kinetics_lists, labelled_lists
from .list_tables import read_table
from .list_words import PARTS, Row, lines, part_in_name, some, split_in_name
from .official_lists import HMDB_LIST, UCF_LIST, Splits, hmdb_splits, ucf_splits
from .walk import files_ending

TABLES, JSON = {".csv", ".tsv"}, ".json"
COLUMNS = {*chain(*kinetics_lists.COLUMNS.values()), *labelled_lists.PATHS, *labelled_lists.LABELS}


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
    files = sorted(files_ending(ann_dir, {".txt", *TABLES, JSON}))
    texts = [path for path in files if path.suffix.lower() == ".txt"]
    labelled = any("_train_split" in path.stem for path in texts)  # beside "ucf101_test_split1.txt"
    for title, pattern, read in (
        ("trainlist01.txt", UCF_LIST, ucf_splits),
        ("*_test_split1.txt", HMDB_LIST, hmdb_splits),
    ):
        fitting = [path for path in texts if pattern.fullmatch(path.stem)]
        if len({path.parent for path in fitting}) > 1:
            raise ValueError(f"Several folders with {title} below {ann_dir}: give one of them as --ann_dir.")
        if fitting and not (labelled and pattern is HMDB_LIST):
            return read(fitting)
    rows = _table_rows([path for path in files if path.suffix.lower() in TABLES], ann_dir)
    if rows is not None:
        return _numbered(rows)
    for suffix, read in ((".txt", _text_rows), (JSON, _json_rows)):
        if lists := _by_split([path for path in files if path.suffix.lower() == suffix], ann_dir):
            return _numbered(row for split, path in lists.items() for row in read(path, split, ann_dir))
    if official := [path for path in files if kinetics_lists.is_official_json(path)]:
        return _numbered(row for path in official for row in _json_rows(path, "", ann_dir))
    found = f"; it has {some(path.relative_to(ann_dir).as_posix() for path in files)}" if files else ""
    raise ValueError(
        f"No lists in {ann_dir}{found}: --ann_dir is the folder with trainlist01.txt (UCF-101), *_test_split1.txt "
        "(HMDB-51), train.csv (Kinetics) or lists of paths and labels such as train.txt and val.txt."
    )


def splits_from_names(names: Iterable[str]) -> Splits:
    """All videos as one training split, labelled by their last folders in alphabetical order.

    Raises:
        ValueError: if some videos lie in folders and some do not.
    """
    names = sorted(names)
    folders = [PurePosixPath(name).parent.name for name in names]
    if "" in folders and any(folders):
        name = names[folders.index("")]
        raise ValueError(f"{name} lies in no class folder: without lists the folder of a video is its class.")
    labels = {folder: label for label, folder in enumerate(sorted(set(folders)))}
    return {"train_split_1": [Annotation(name, labels[f]) for name, f in zip(names, folders, strict=True)]}


def _table_rows(paths: list[Path], ann_dir: Path) -> list[Row] | None:
    """Rows of all lists of Kinetics among the files; where none is one, of the labelled lists; None without lists."""
    rows: list[Row] = []
    others = []
    for path in paths:
        table = read_table(path, lines(path), COLUMNS)
        if table and kinetics_lists.is_kinetics(table):
            rows += kinetics_lists.csv_rows(table, ann_dir)
        else:
            others.append(path)
    if len(others) < len(paths):
        return rows
    lists = _by_split(others, ann_dir)
    return [row for split, path in lists.items() for row in _text_rows(path, split, ann_dir)] if lists else None


def _text_rows(path: Path, split: str, _ann_dir: Path) -> Iterator[Row]:
    numbered = lines(path)
    if table := read_table(path, numbered, COLUMNS):
        return labelled_lists.table_rows(table, split)
    return labelled_lists.text_rows(path, numbered, split)


def _json_rows(path: Path, split: str, ann_dir: Path) -> Iterator[Row]:
    """Rows of the official json of Kinetics, with its own `split` for each video, or of a list of names and labels."""
    content: Any = read_json_text(path)
    if isinstance(content, dict):
        return kinetics_lists.json_rows(content, path, ann_dir)
    if isinstance(content, list):
        return labelled_lists.json_rows(content, path, split)
    raise ValueError(f"{path} holds neither a list nor an object: {labelled_lists.WANTED_JSON}.")


def _by_split(paths: list[Path], ann_dir: Path) -> dict[str, Path]:
    """Lists of the splits, found by their names; val is preferred to test."""
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in paths:
        if part := part_in_name(path):
            number = split_in_name(path, ann_dir)
            if (other := found[f"{PARTS[part]}_split_{number}"].setdefault(part, path)) != path:
                raise ValueError(
                    f"{other} and {path} are both called {part}, of split {number}: give a folder with one of them, or "
                    "write the numbers of their splits into their names."
                )
    return {split: own.get("val") or next(iter(own.values())) for split, own in found.items()}


def _numbered(rows: Iterable[Row]) -> Splits:
    """Splits of the rows, labels from 0. Names of classes are numbered in alphabetical order."""
    rows = list(dict.fromkeys(rows))
    if not rows:
        raise ValueError("The lists name no video for training or validation: check --ann_dir.")
    label_of: dict[str, int | str] = {}
    for _, name, label in rows:
        if label_of.setdefault(name, label) != label:
            both = " and ".join(str(value)[:80] for value in (label_of[name], label))
            raise ValueError(f"The lists give {name} the labels {both}: mend them.")
    classes = sorted({label for label in label_of.values() if isinstance(label, str)})
    numbers = {label for label in label_of.values() if isinstance(label, int)}
    if classes and numbers:
        raise ValueError(
            f"Some labels are numbers, such as {min(numbers)}, and others classes, such as {classes[0]}: choose one."
        )
    first = 0 if 0 in numbers else 1
    number_of = {label: number for number, label in enumerate(classes)} | {label: label - first for label in numbers}
    splits: Splits = {}
    for split, name, label in rows:
        splits.setdefault(split, []).append(Annotation(name, number_of[label]))
    return splits


def _check_disjoint(splits: Splits, *, where: Path) -> None:
    for split, listed in splits.items():
        part, _, number = split.partition("_")
        train = {annotation.name for annotation in splits.get(f"train_{number}", [])} if part == "test" else set()
        if both := [annotation.name for annotation in listed if annotation.name in train]:
            number = number.removeprefix("split_")
            raise ValueError(f"{where}: {both[0]} is in the training and the test list of split {number}.")
