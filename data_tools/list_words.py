"""Words of split lists, whatever their style: lines, names, numbers, parts and splits in the names of files."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from fedvssl.data.annotations import MOST_CLASSES
from fedvssl.data.video import VIDEO_SUFFIXES
from fedvssl.files.names import check_name, shown
from fedvssl.files.text import read_text

from .raw_videos import composed

Row = tuple[str, str, int | str]  # split, name "<Class>/<stem>", label: a number as listed, or the class
HUGE = 10**18  # labels above it are not told apart
PARTS = {"train": "train", "val": "test", "test": "test"}  # beginnings of the names of parts -> part of our splits


def lines(path: Path) -> list[tuple[int, str]]:
    """(line number, stripped line) of all lines that are not empty."""
    texts = read_text(path).split("\n")  # splitlines would cut at other characters
    return [(number, text.strip()) for number, text in enumerate(texts, start=1) if text.strip()]


def listed_name(name: str, *, where: object) -> str:
    """Name of a list: parts with "/" between them, also where Windows wrote it, in the composed form of Unicode (NFC).

    Raises:
        ValueError: as `check_name`.
    """
    return check_name(composed(name.replace("\\", "/")), where=where)


def without_suffix(file_name: str) -> str:
    """Stem of a file name: only the ending of a video is removed, because stems may hold dots."""
    path = PurePosixPath(file_name)
    return path.stem if is_video(file_name) else path.name


def is_video(file_name: str) -> bool:
    """True for a name with the ending of a video."""
    return PurePosixPath(file_name).suffix.lower() in VIDEO_SUFFIXES


def has_more(path: str) -> bool:
    """True if words follow the ending of a video: "a.mp4 nan" and "a.mp4 1 3" are more than a path."""
    return not is_video(path) and any(is_video(word) for word in path.split()[:-1])


def whole_number(text: str) -> int | None:
    """The number of ASCII digits alone, or HUGE for a higher one; None for other text."""
    if not re.fullmatch("[0-9]+", text):
        return None
    return int(text) if len(text) < 19 else HUGE


def check_label(label: int, *, where: object) -> int:
    """Check a label as listed.

    Raises:
        ValueError: if it is higher than any data set needs.
    """
    if label > MOST_CLASSES:
        raise ValueError(f"{where}: the label {label} is higher than {MOST_CLASSES}: labels number the classes.")
    return label


def part_of(word: str) -> str | None:
    """ "train" -> train; "validate", "Val" and "testing" -> as their beginnings in `PARTS`; None for other words."""
    return next((part for part in PARTS if word.strip().casefold().startswith(part)), None)


def part_in_name(path: Path) -> str | None:
    """Part that the name of a file tells, as `part_of`: "kinetics_val_list.csv" -> val; None for no part or several."""
    stem = path.stem.casefold()
    found = [part for part in PARTS if re.search(rf"(^|[^a-z]){part}", stem)]
    return found[0] if len(found) == 1 else None


def split_in_name(path: Path, above: Path) -> int:
    """Number of the split, 1 to 9, that a file or a folder below `above` tells; 1 where none does.

    "ucf101_train_split_2_videos.txt", "split2/train.txt", "fold_2_val.csv" and "trainlist02.txt" -> 2
    """
    name = path.relative_to(above).with_suffix("").as_posix().casefold()
    after_part = r"(?:^|[^a-z])(?:train|val|test)[a-z]*[\W_]*0*([1-9])(?![0-9a-z])"
    for pattern in (r"(?:split|fold)[\W_]*0*([1-9])(?![0-9])", after_part):
        if match := re.search(pattern, name):
            return int(match[1])
    return 1


def refuse(path: Path, number: int, line: str, wanted: str) -> ValueError:
    """Error of a line that is not what its style asks for."""
    return ValueError(f"{path}, line {number}: {shown(line)} is not {wanted}.")


def tell_left_out(path: Path, numbers: Sequence[int], reason: str) -> None:
    """Print a line that names rows which are left out, if there are any."""
    if numbers:
        rows = f"{some(map(str, numbers))} {'is' if len(numbers) == 1 else 'are'} left out"
        print(f"{path}: line{'s' * (len(numbers) > 1)} {rows}, {reason}.")


def some(words: Iterable[str], most: int = 10) -> str:
    """The first words, and how many there are besides: "a, b and 5 more"."""
    found = list(words)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")
