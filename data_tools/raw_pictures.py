"""Search for pictures in folders of their classes, on the disk or in zips, divided into train and test or not.

    <class>/<name>.png      train/<class>/<name>.jpg, test/<class>/...      train.zip, test.zip with <class>/<name>.bmp

The last folder of a picture is its class; a folder or zip above it that is called train, test or val tells the part.
Other folders above it, if there are several, are those of owners: <owner>/<class>/<name>.png.
Nothing is unpacked.
"""

import lzma
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from fedvssl.data.video import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from fedvssl.files.names import check_name
from fedvssl.files.progress import show_bytes

from .archive import zip_entries
from .list_words import some
from .picture_format import PictureError
from .raw_videos import SPLIT_FOLDERS
from .walk import files_ending, is_hidden, walk

PACKED_SUFFIXES = (".zip", ".gz", ".bin")
MAX_MEMBER_BYTES = 200_000_000  # a few bytes in a zip can become more than the memory holds
# RuntimeError covers NotImplementedError; ValueError is raised for a name that is no UTF-8.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, MemoryError, RuntimeError, ValueError)


@dataclass(frozen=True)
class RawPicture:
    """One picture as it was found.

    Args:
        name: "<class>/<stem>", or this below further folders, of which there is one in the data set.
        part: "train" or "test".
        file: the picture itself, or the zip or the binary batch that holds it.
        place: name in the zip, or first byte of the pixels in the batch; None for a file of its own.
        num_bytes: of the pixels in a batch.
    """

    name: str
    part: str
    file: Path
    place: str | int | None = None
    num_bytes: int = 0

    @property
    def class_name(self) -> str:
        """Last folder of the name."""
        return PurePosixPath(self.name).parent.name

    def read(self) -> bytes:
        """Read the file's content, or the pixels in a batch.

        Raises:
            PictureError: if it is damaged in its zip, or larger than a picture can be.
        """
        if isinstance(self.place, str):
            return _read_member(_opened(self.file), self.place)
        if self.place is None:
            return self.file.read_bytes()
        with self.file.open("rb") as batch:
            batch.seek(self.place)
            return batch.read(self.num_bytes)


@dataclass(frozen=True)
class RawPictures:
    """Pictures of a data set, and its classes in the order of their labels."""

    pictures: Sequence[RawPicture]
    classes: Sequence[str]


@dataclass(frozen=True)
class _Found:
    """A file or folder: its path below the raw folder, in which a zip counts as a folder without its ending."""

    path: PurePosixPath
    file: Path
    member: str | None = None

    @property
    def is_folder(self) -> bool:
        return self.member.endswith("/") if self.member else self.file.is_dir()

    def __str__(self) -> str:
        return f"{self.file}: {self.member}" if self.member else str(self.file)


def holds_pictures(raw_dir: Path) -> bool:
    """True for a folder that holds no video but pictures, zips or batches, and for a file, which may be an archive."""
    if any(files_ending(raw_dir, VIDEO_SUFFIXES)):
        return False
    return raw_dir.is_file() or any(files_ending(raw_dir, {*PICTURE_SUFFIXES, *PACKED_SUFFIXES}))


def find_pictures(raw_dir: Path) -> RawPictures:
    """Find all pictures below a folder or in a zip, and their classes in alphabetical order.

    Names are "<class>/<stem>", with "train_" or "test_" before the stem where the pictures are divided. If the folders
    of classes lie in several others, as those of owners, these come first: "<owner>/<class>/<stem>". A stem keeps its
    ending where another picture of the folder differs in it alone.

    Raises:
        ValueError: if a folder of a class holds no picture, a picture lies in no class folder, several folders give one
            class alone, pictures lie inside and outside of parts, there is no training picture, two pictures would have
            one name, no name can be used, or a zip is damaged.
    """
    found = [entry for entry in _walk(raw_dir) if not is_hidden(entry.path.parts)]
    pictures = [entry for entry in found if entry.path.suffix.lower() in PICTURE_SUFFIXES]
    _refuse_empty(found, pictures, raw_dir)
    parts = _parts(pictures, raw_dir)
    named = _named(pictures, parts, raw_dir)
    raws = [RawPicture(name, parts[e.path.parent] or "train", e.file, e.member) for name, e in sorted(named.items())]
    if all(raw.part != "train" for raw in raws):
        raise ValueError(f"{raw_dir} has no training picture: put the folders of the classes into a folder train.")
    return RawPictures(raws, sorted({raw.class_name for raw in raws}))


def _named(pictures: Sequence[_Found], parts: dict[PurePosixPath, str], raw_dir: Path) -> dict[str, _Found]:
    """Name in the data set -> picture. A name that no data set can hold costs its own picture alone, and is told."""
    folders = _folders_of_names(parts, raw_dir)
    stems = Counter(entry.path.with_suffix("") for entry in pictures)
    named, unusable = dict[str, _Found](), list[str]()
    for entry in pictures:
        folder = entry.path.parent
        stem = entry.path.stem if stems[entry.path.with_suffix("")] == 1 else entry.path.name
        name = f"{folders[folder]}/{f'{parts[folder]}_' * bool(parts[folder])}{stem}"
        try:
            check_name(name, where=raw_dir)
        except ValueError as error:
            unusable.append(str(error))
            continue
        if name in named:
            raise ValueError(f"{named[name]} and {entry} would both become {name}: remove or rename one of them.")
        named[name] = entry
    if not named:
        raise ValueError(f"{unusable[0]} No other picture is there.")
    if unusable:
        print(f"{len(unusable)} pictures are left out: {some(unusable)}")
    return named


def _folders_of_names(parts: dict[PurePosixPath, str], raw_dir: Path) -> dict[PurePosixPath, str]:
    """Folder of pictures -> folder in their names: that of the class, after those above it where these differ."""
    above = {folder: [name for name in folder.parts[:-1] if not _kind(name)] for folder in parts}
    if len({tuple(names) for names in above.values()}) == 1:
        return {folder: folder.name for folder in parts}
    if len({folder.name for folder in parts}) == 1:
        first, second, *_ = sorted(parts)
        raise ValueError(
            f"{raw_dir}: {first} and {second} would both be the class {first.name}: "
            "the last folder of a picture is its class, move the pictures or rename the folders."
        )
    return {folder: "/".join([*names, folder.name]) for folder, names in above.items()}


def _walk(raw_dir: Path) -> Iterator[_Found]:
    """All folders and files below the raw folder, and those in zips."""
    for file in (raw_dir,) if raw_dir.is_file() else _searched(raw_dir):
        path = PurePosixPath(file.relative_to(raw_dir.parent if raw_dir.is_file() else raw_dir).as_posix())
        if file.suffix.lower() != ".zip" or file.is_dir() or file.name.startswith("."):
            yield _Found(path, file)
            continue
        for entry in zip_entries(file):
            yield _Found(path.with_suffix("") / entry.filename, file, entry.filename)


def _searched(raw_dir: Path) -> list[Path]:
    """All files and folders below a folder; what is passed over is told."""
    found = walk(raw_dir)
    for line in found.lines(raw_dir):
        print(line)
    return sorted([*found.folders, *found.files])


def _refuse_empty(found: Sequence[_Found], pictures: Sequence[_Found], raw_dir: Path) -> None:
    """Reject a folder that holds neither a picture nor a folder."""
    suffixes = ", ".join(sorted(suffix[1:] for suffix in PICTURE_SUFFIXES))
    if not pictures:
        raise ValueError(f"No picture ({suffixes}) in {raw_dir}, its folders or its zips.")
    folders = {entry.path: entry for entry in found if entry.is_folder}
    filled = {parent for entry in pictures for parent in entry.path.parents}
    around = {parent for path in folders for parent in path.parents}
    for path in folders.keys() - filled - around:
        raise ValueError(f"{folders[path]} is a class folder without a picture ({suffixes}): fill or remove it.")


def _parts(pictures: Sequence[_Found], raw_dir: Path) -> dict[PurePosixPath, str]:
    """Folder of pictures -> its part: "train", "test", or "" for all if the pictures are not divided."""
    kinds: dict[PurePosixPath, str] = {}
    for entry in pictures:
        folder = entry.path.parent
        above = [kind for name in folder.parts[:-1] if (kind := _kind(name))]
        kinds[folder] = above[-1] if above else ""
        if not folder.name or (_kind(folder.name) and not above):
            raise ValueError(f"{entry} lies in no class folder: the folder of a picture is its class.")
    if {"test", "val"} <= set(kinds.values()):
        raise ValueError(f"{raw_dir} holds both test and val: give a folder with one of them beside train.")
    outside = next((folder for folder, kind in kinds.items() if not kind), None)
    if outside and any(kinds.values()):
        raise ValueError(f"{raw_dir}: {outside} lies in neither train nor test, as other folders do: move it.")
    return {folder: "test" if kind == "val" else kind for folder, kind in kinds.items()}


def _kind(name: str) -> str:
    """ "Training" -> "train"; "" for a folder that is no part."""
    name = name.casefold()
    return next((kind for kind in ("train", "test", "val") if name.startswith(kind)), "") * (name in SPLIT_FOLDERS)


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    size = archive.getinfo(name).file_size
    if size > MAX_MEMBER_BYTES:
        raise PictureError(
            f"has {show_bytes(size)} in its zip, more than the {show_bytes(MAX_MEMBER_BYTES)} of a picture"
        )
    try:
        return archive.read(name)
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's; bzip2's has no number
        raise PictureError(f"is damaged in its zip ({str(error) or type(error).__name__})") from error


@cache
def _opened(path: Path) -> zipfile.ZipFile:
    """Zip that stays open: its directory may have 50,000 entries."""
    return zipfile.ZipFile(path)
