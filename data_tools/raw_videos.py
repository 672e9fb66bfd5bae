"""Search for the raw file of every video: nested and flat folders, any container, matched to lists by stem."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fedvssl.data.video import VIDEO_SUFFIXES
from fedvssl.files.names import check_name, shown

from .walk import walk

CLIP = re.compile(r"(.+)_\d{6}_\d{6}")  # of Kinetics: <youtube_id>_<start>_<end>
SECONDS = re.compile(r"(.+)_(\d{1,6})(?:\.0+)?_(\d{1,6})(?:\.0+)?")  # its clips as some downloaders call them
SPLIT_FOLDERS = {"train", "training", "val", "valid", "validation", "test", "testing"}  # never told to be classes
# Spellings by which a folder is told to be a class's, strict ones first.
SPELLINGS: tuple[Callable[[str], str], ...] = (
    str,
    lambda name: name.casefold().replace(" ", "_"),
    lambda name: re.sub(r"[\W_]", "", name.casefold()),
)


class Match(NamedTuple):
    """Listed names and their raw files.

    Args:
        found: name -> raw file; no file has two names.
        missing: names without a file.
        doubtful: name -> reason for which it gets none: another listed name has as good a claim to its file, or no data
            set can hold the name.
    """

    found: dict[str, Path]
    missing: list[str]
    doubtful: dict[str, str]


def find_raw_videos(raw_dir: Path) -> list[Path]:
    """All files below `raw_dir` with the ending of a video, sorted.

    Raises:
        ValueError: if there are none.
    """
    if not raw_dir.is_dir():
        raise ValueError(f"No folder {raw_dir}: --raw_dir is the folder with the raw videos.")
    found = walk(raw_dir)
    for line in found.lines(raw_dir):
        print(line)
    paths = [path for path in found.files if path.suffix.lower() in VIDEO_SUFFIXES]
    if not paths:
        raise ValueError(f"No video in {raw_dir} or its folders: --raw_dir is the folder with the raw videos.")
    return paths


def match_to_names(paths: Collection[Path], names: Iterable[str], raw_dir: Path) -> Match:
    """Find the raw file of every listed video by its stem.

    Case does not matter (UCF-101 spells HandStandPushups and HandstandPushups), nor does the ending. A file in the
    folder of another class never fits; `_Folders` says which folders are those of classes. If several files fit, those
    in the folder of the class are preferred, then those that agree in case. A clip `<youtube_id>_<start>_<end>` of
    Kinetics may also be called `<youtube_id>`, or have its seconds without zeros before them; there the case matters.

    Args:
        paths: raw files below `raw_dir`.
        names: "<Class>/<stem>" as in the annotation files.

    Raises:
        ValueError: if several files fit a name equally well.
    """
    names = list(dict.fromkeys(names))
    folders = _Folders(paths, names, raw_dir)
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        for stem in {composed(path.stem), padded(path.stem)}:
            by_stem[stem.casefold()].append(path)
    found: dict[str, Path] = {}
    for name in names:
        candidates = _best(_fitting(by_stem, name, folders), name, folders)
        if len(candidates) > 1:
            raise ValueError(f"{candidates[0]} and {candidates[1]} both fit {name}: remove or rename one of them.")
        if candidates:
            found[name] = candidates[0]
    missing = [name for name in names if name not in found]
    doubtful = dict([*_claimed_twice(found), *_labelled_twice(names)])
    return Match(
        {name: path for name, path in found.items() if name not in doubtful},
        [name for name in missing if name not in doubtful],
        doubtful,
    )


def composed(name: str) -> str:
    """Name in the composed form of Unicode (NFC): macOS hands out "u\u0308" for the "\u00fc" of a list."""
    return unicodedata.normalize("NFC", name)


def padded(stem: str) -> str:
    """ "id_1_11" and "id_1.0_11.0" -> "id_000001_000011", as lists have it; other stems stay."""
    match = SECONDS.fullmatch(composed(stem))
    return f"{match[1]}_{match[2]:0>6}_{match[3]:0>6}" if match else composed(stem)


def name_by_path(paths: Collection[Path], raw_dir: Path) -> Match:
    """Name the videos after their paths, for use without lists, so that two owners may have files of one name.

    Returns:
        "<folders>/<stem>" -> raw file. Where files of one folder differ in their endings alone, these stay in the
        names.
    """
    found, unusable = dict[str, Path](), dict[str, str]()
    stems = Counter(path.with_suffix("") for path in paths)
    for path in paths:
        own = path if stems[path.with_suffix("")] > 1 else path.with_suffix("")
        name = unicodedata.normalize("NFC", own.relative_to(raw_dir).as_posix())
        try:
            found[check_name(name, where=raw_dir)] = path
        except ValueError as error:  # a name costs its own video alone
            unusable[shown(name)] = str(error)
    return Match(found, [], unusable)


class _Folders:
    """Classes of the folders below `raw_dir`, told by the listed classes.

    A folder is that of the listed class of its name or of a name around it. Any other folder counts as that of a class
    which is not listed, except `raw_dir`, folders around those of listed classes, and, where no folder has the name of
    a listed class, the one folder that holds the listed videos of several classes, also divided into train and test.
    """

    def __init__(self, paths: Collection[Path], names: Collection[str], raw_dir: Path) -> None:
        self._raw_dir = raw_dir
        self._called: list[dict[str, set[str]]] = []
        for spell in SPELLINGS:
            self._called.append(defaultdict(set))
            for name in {composed(PurePosixPath(name).parent.name) for name in names} - {""}:
                self._called[-1][spell(name)].add(name)
        self._classes_of = cache(self._find_classes)
        holding = {folder for path in paths for folder in self._above(path.parent)}
        of_classes = [folder for folder in holding if self._by_name(folder.name)]
        around = {outer for folder in of_classes for outer in self._above(folder.parent)}
        self._of_no_class = {raw_dir, *(around if of_classes else self._flat(paths, names))}

    def fits(self, path: Path, name: str) -> bool:
        """False for a file that lies in the folder of another class than the name's.

        A Kinetics clip may lie in the folder of an unlisted class: its id tells it from all others.
        """
        listed, classes = PurePosixPath(name), self._classes_of(path.parent)
        if classes is None or not listed.parent.name:
            return True
        return listed.parent.name in classes or not (classes or CLIP.fullmatch(listed.name) is None)

    def has_class(self, path: Path, name: str) -> bool:
        """True for a file in a folder of the name's class."""
        return PurePosixPath(name).parent.name in (self._classes_of(path.parent) or ())

    def _find_classes(self, folder: Path) -> set[str] | None:
        """Listed classes that a folder may be of: empty for another class's, None for a folder of no class."""
        inner = next((classes for place in self._above(folder) if (classes := self._by_name(place.name))), None)
        return inner or (None if folder in self._of_no_class else set())

    def _flat(self, paths: Iterable[Path], names: Iterable[str]) -> set[Path]:
        """The folders of all listed videos if they are one, whole or divided into splits, with several classes."""
        classes: dict[str, set[str]] = defaultdict(set)
        for name in map(PurePosixPath, names):
            classes[name.name.casefold()].add(name.parent.name)
        stems = {path: composed(path.stem).casefold() for path in paths}
        listed = [path for path, stem in stems.items() if stem in classes]
        whole = {path.parent.parent if path.parent.name.casefold() in SPLIT_FOLDERS else path.parent for path in listed}
        inside = set().union(*(classes[stems[path]] for path in listed if path.parent != self._raw_dir))
        one = len(whole - {self._raw_dir}) == 1 and len(inside) > 1
        return {path.parent for path in listed} if one or whole == {self._raw_dir} else set()

    def _by_name(self, folder: str) -> set[str]:
        found = (called.get(spell(composed(folder))) for spell, called in zip(SPELLINGS, self._called, strict=True))
        return next((classes for classes in found if classes), set())

    def _above(self, folder: Path) -> Iterator[Path]:
        """The folder and those around it, inner ones first, without `raw_dir`."""
        while folder != self._raw_dir and folder != folder.parent:
            yield folder
            folder = folder.parent


def _fitting(by_stem: Mapping[str, list[Path]], name: str, folders: _Folders) -> list[Path]:
    """Files that may be the video; `by_stem` has its keys in lower case."""
    stem = PurePosixPath(name).name
    clip = CLIP.fullmatch(stem)
    for wanted in dict.fromkeys((stem, padded(stem), clip[1] if clip else stem)):
        candidates = by_stem.get(wanted.casefold(), [])
        if CLIP.fullmatch(padded(stem)):  # ids are told apart by case
            candidates = [path for path in candidates if wanted in (composed(path.stem), padded(path.stem))]
        if fitting := [path for path in candidates if folders.fits(path, name)]:
            return fitting
    return []


def _best(candidates: list[Path], name: str, folders: _Folders) -> list[Path]:
    """Narrow down by each preference that at least one candidate meets."""
    candidates = [path for path in candidates if folders.has_class(path, name)] or candidates
    return [path for path in candidates if _is_called(path, name)] or candidates


def _is_called(path: Path, name: str) -> bool:
    return composed(path.stem) == composed(PurePosixPath(name).name)


def _claimed_twice(found: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """Names that share a raw file with another, and the reason.

    A name that alone agrees in case keeps the file; links within one class keep their own names, as the label is right.
    """
    by_file: dict[tuple[int, int], list[str]] = defaultdict(list)
    for name, path in found.items():
        by_file[path.stat().st_dev, path.stat().st_ino].append(name)  # a file may have several hard links
    for names in by_file.values():
        exact = [name for name in names if _is_called(found[name], name)]
        one_class = len({PurePosixPath(name).parent for name in names}) == 1
        keepers = exact if len(exact) == 1 or one_class else []
        for name in names if len(names) > 1 else ():
            if name not in keepers:
                other = next(other for other in (*keepers, *names) if other != name)
                yield name, f"its file {found[name]} is that of {other} too"


def _labelled_twice(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Kinetics clips that are listed in several classes, and the reason: their names are ids."""
    by_clip: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if CLIP.fullmatch(PurePosixPath(name).name):
            by_clip[PurePosixPath(name).name].append(name)
    for same in by_clip.values():
        for name in same if len(same) > 1 else ():
            yield name, f"the same clip is listed as {next(other for other in same if other != name)} too"
