"""Lists of UCF-101 and HMDB-51, as the data sets ship them."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from fedvssl.data.annotations import Annotation
from fedvssl.files.names import check_name, shown

from .list_words import check_label, has_more, lines, listed_name, refuse, whole_number, without_suffix
from .raw_videos import composed

Splits = dict[str, list[Annotation]]  # "train_split_1" -> its videos
UCF_LIST = re.compile(r"(train|test)list0([1-9])", re.IGNORECASE)
HMDB_LIST = re.compile(r"(.+)_test_split([1-9])")


def ucf_splits(paths: Iterable[Path]) -> Splits:
    """Splits of `trainlist01.txt`, `testlist01.txt` and their like, with `classInd.txt` beside them.

    Raises:
        ValueError: if a class is not in `classInd.txt`, or a label is not that of its class.
    """
    paths = sorted(paths)
    folder = paths[0].parent
    classes = _read_classes(
        next((path for path in folder.iterdir() if path.name.casefold() == "classind.txt"), folder / "classInd.txt")
    )
    splits: Splits = {}
    for path in paths:
        match = UCF_LIST.fullmatch(path.stem)
        assert match, "the caller chose by the pattern"
        splits[f"{match[1].lower()}_split_{match[2]}"] = [
            _ucf_annotation(line, classes, where=f"{path}, line {number}") for number, line in lines(path)
        ]
    return splits


def _read_classes(path: Path) -> dict[str, int]:
    """Class name -> zero-based label, in the order of the labels."""
    if not path.is_file():
        raise ValueError(f"No classInd.txt beside the lists in {path.parent}: it says which label a class has.")
    classes: dict[str, int] = {}
    for number, line in lines(path):
        words = line.split(maxsplit=1)
        label = whole_number(words[0])
        if len(words) != 2 or not label:
            raise refuse(path, number, line, "a label and a class such as '1 Archery'")
        where = f"{path}, line {number}"
        name, label = check_name(composed(words[1]), where=where), check_label(label, where=where) - 1
        if name in classes or label in classes.values():
            raise ValueError(f"{where}: {shown(line)} repeats a label or a class: mend it.")
        classes[name] = label
    return classes


def _ucf_annotation(line: str, classes: dict[str, int], *, where: str) -> Annotation:
    """Annotation of one line. The class gets the spelling of classInd.txt, where case alone may tell two apart."""
    match = re.fullmatch(r"(?:(?P<folder>.+)/)?(?P<file>[^/]+?)(?:\s+(?P<label>[0-9]{1,18}))?", line.replace("\\", "/"))
    if match is None:
        raise ValueError(f"{where}: {shown(line)} names a folder and no video: mend it.")
    folder, label = match["folder"], match["label"]
    if has_more(match["file"]):
        raise ValueError(f"{where}: {shown(line)} does not end with the file or with a label from 1: mend it.")
    file = listed_name(match["file"], where=where)
    if folder is None:
        known = [name for name, index in classes.items() if label and index == int(label) - 1]
    else:
        listed = listed_name(PurePosixPath(folder).name, where=where)
        known = [listed] if listed in classes else [name for name in classes if name.casefold() == listed.casefold()]
    if len(known) != 1:
        raise ValueError(f"{where}: the class of {shown(line)} is not in classInd.txt.")
    if label and classes[known[0]] != int(label) - 1:
        raise ValueError(f"{where}: label {label}, but classInd.txt gives {known[0]} {classes[known[0]] + 1}.")
    return Annotation(f"{known[0]}/{without_suffix(file)}", classes[known[0]])


def hmdb_splits(paths: Iterable[Path]) -> Splits:
    """Splits of `<class>_test_split1.txt` and their like: in each line a file and 1 (train), 2 (test) or 0 (unused).

    Raises:
        ValueError: if a line has another number, or none.
    """
    matches = {path: match for path in sorted(paths) if (match := HMDB_LIST.fullmatch(path.stem))}
    classes = sorted({match[1] for match in matches.values()})
    splits: Splits = {}
    for path, match in matches.items():
        for number, line in lines(path):
            name, use = line.rsplit(maxsplit=1) if len(line.split()) > 1 else ("", line)
            if use not in ("0", "1", "2"):
                raise ValueError(
                    f"{path}, line {number}: {shown(line)} does not end in 0 (unused), 1 (train) or 2 (test)."
                )
            if use != "0":
                split = splits.setdefault(f"{'train' if use == '1' else 'test'}_split_{match[2]}", [])
                file = without_suffix(name.replace("\\", "/"))
                video = listed_name(f"{match[1]}/{file}", where=f"{path}, line {number}")
                split.append(Annotation(video, classes.index(match[1])))
    return splits
