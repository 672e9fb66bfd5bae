"""Split lists as data sets ship them -> annotations, one list per split file.

UCF-101 style: `classInd.txt` ("1 Archery"), `trainlist01.txt` ("Archery/v_Archery_g08_c01.avi 1"), `testlist01.txt`
(the same, the label may be missing), splits 1-3 as far as they are there. HMDB-51 style: one
`<class>_test_split1.txt` per class ("clip.avi 1": 1 train, 2 test, 0 unused). Line ends may be CRLF. Without lists the
class of a video is its folder.
"""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from fedvssl.data.annotations import Annotation
from fedvssl.data.video import VIDEO_SUFFIXES

Splits = dict[str, list[Annotation]]  # "train_split_1" -> its videos
SPLIT_NUMBERS = (1, 2, 3)


def read_splits(ann_dir: Path) -> Splits:
    """Read the lists in `ann_dir` or in a folder below it, whichever of the two styles they have.

    Raises:
        ValueError: if there are no lists, a list names an unknown class, a label contradicts the class, or a video
            is in the training and the test list of one split.
    """
    if not ann_dir.is_dir():
        raise ValueError(f"No folder {ann_dir}: --ann_dir is the folder with the split lists.")
    for pattern, read in (("classInd.txt", _ucf_splits), ("*_test_split[123].txt", _hmdb_splits)):
        folders = sorted({path.parent for path in ann_dir.rglob(pattern)})
        if len(folders) > 1:
            raise ValueError(f"Several folders with {pattern} below {ann_dir}: give one of them as --ann_dir.")
        if folders:
            splits = read(folders[0])
            _check_disjoint(splits, where=folders[0])
            return splits
    raise ValueError(
        f"Neither classInd.txt nor *_test_split1.txt in {ann_dir}: --ann_dir is the folder with the lists."
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
    if not splits:
        raise ValueError(f"No trainlist01.txt or testlist01.txt beside {folder / 'classInd.txt'}.")
    return splits


def _read_classes(path: Path) -> dict[str, int]:
    """Class name -> zero-based label, in the order of the labels."""
    classes: dict[str, int] = {}
    for number, line in _lines(path):
        words = line.split(maxsplit=1)
        if len(words) != 2 or not words[0].isdigit() or int(words[0]) < 1:
            raise ValueError(f"{path}, line {number}: '{line}' is not a label and a class such as '1 Archery'.")
        classes[words[1]] = int(words[0]) - 1
    return classes


def _ucf_annotation(line: str, classes: dict[str, int], *, where: str) -> Annotation:
    """One line of a list. The class is matched without regard to case and gets the spelling of classInd.txt."""
    match = re.fullmatch(r"(?:(?P<folder>.+)/)?(?P<file>[^/]+?)(?:\s+(?P<label>\d+))?", line)
    assert match, "the pattern takes any line that is not empty"
    folder, label = match["folder"], match["label"]
    if folder is None:
        known = [name for name, index in classes.items() if label and index == int(label) - 1]
    else:
        known = [name for name in classes if name.casefold() == PurePosixPath(folder).name.casefold()]
    if not known:
        raise ValueError(f"{where}: the class of '{line}' is not in classInd.txt.")
    if label and classes[known[0]] != int(label) - 1:
        raise ValueError(f"{where}: label {label}, but classInd.txt gives {known[0]} {classes[known[0]] + 1}.")
    return Annotation(f"{known[0]}/{without_suffix(match['file'])}", classes[known[0]])


def _hmdb_splits(folder: Path) -> Splits:
    paths = {path: re.fullmatch(r"(.+)_test_split([123])", path.stem) for path in folder.glob("*_test_split[123].txt")}
    classes = sorted({match[1] for match in paths.values() if match})
    splits: Splits = {}
    for path, match in sorted(paths.items()):
        assert match, "the glob pattern implies it"
        for number, line in _lines(path):
            name, _, use = line.rpartition(" ")
            if use not in ("0", "1", "2"):
                raise ValueError(f"{path}, line {number}: '{line}' does not end in 0 (unused), 1 (train) or 2 (test).")
            if use != "0":
                split = splits.setdefault(f"{'train' if use == '1' else 'test'}_split_{match[2]}", [])
                split.append(Annotation(f"{match[1]}/{without_suffix(name.strip())}", classes.index(match[1])))
    return splits


def without_suffix(file_name: str) -> str:
    """The stem: the ending goes only if it is that of a video, because stems may hold dots."""
    path = PurePosixPath(file_name)
    return path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name


def _lines(path: Path) -> list[tuple[int, str]]:
    """(line number, stripped line) of all lines that are not empty."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def _check_disjoint(splits: Splits, *, where: Path) -> None:
    for number in SPLIT_NUMBERS:
        train = {annotation.name for annotation in splits.get(f"train_split_{number}", [])}
        both = [annotation.name for annotation in splits.get(f"test_split_{number}", []) if annotation.name in train]
        if both:
            raise ValueError(f"{where}: {both[0]} is in the training and the test list of split {number}.")
