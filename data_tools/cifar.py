"""The official binary batches of CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): pictures without a decoder or pickle.

A batch is a row of records: the label, one byte (CIFAR-100: two, coarse and fine), then 3,072 bytes of pixels, a plane
of 32 rows of 32 bytes for each of red, green and blue. A text file beside the batches names the classes in the order of
the labels; of CIFAR-100 the fine ones are taken.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedvssl.data.video import PICTURE_SUFFIXES
from fedvssl.files.lock import owned
from fedvssl.files.names import check_name

from .archive import holds_files, unpack
from .raw_pictures import RawPicture, RawPictures
from .walk import files_ending

SIDE = 32
PIXEL_BYTES = 3 * SIDE * SIDE
ARCHIVES = "*.tar.gz"


@dataclass(frozen=True)
class Layout:
    """Files of one data set; the last byte before the pixels is the label."""

    classes: str
    label_bytes: int
    train: Sequence[str]
    test: Sequence[str]


LAYOUTS = (
    Layout("batches.meta.txt", 1, [f"data_batch_{number}.bin" for number in range(1, 6)], ["test_batch.bin"]),
    Layout("fine_label_names.txt", 2, ["train.bin"], ["test.bin"]),
)


def find_cifar(raw_dir: Path, unpack_dir: Path) -> RawPictures | None:
    """Pictures in the official batches, or in the official archive of them, which is unpacked first.

    Names are "<class>/train_00001", numbered in the order of the batches.

    Args:
        raw_dir: folder with the batches or the archive, or the archive.
        unpack_dir: folder for the archive's content, in a folder of its name.

    Returns:
        None if there is neither.

    Raises:
        ValueError: if there are several, the batches are not those of the archive beside them, the archive holds no
            such batches, or a file is missing or damaged.
    """
    archives = [raw_dir] if raw_dir.match(ARCHIVES) and raw_dir.is_file() else sorted(raw_dir.rglob(ARCHIVES))
    if any(files_ending(raw_dir, {".zip", *PICTURE_SUFFIXES})):
        archives = []  # the pictures beside it were taken out of it
    unpacked = [unpack_dir / archive.name.removesuffix(".tar.gz") for archive in archives]
    # What an earlier run has unpacked may lie in the raw folder, and is no second source.
    own = [folder.resolve() for folder in unpacked]
    found = [entry for entry in _find_layouts(raw_dir) if not {*entry[0].resolve().parents}.intersection(own)]
    if len(archives) + len(found) > 1 and not (len(found) == len(archives) == 1):
        raise ValueError(f"{raw_dir} holds several archives or folders of batches: give one of them as --raw_dir.")
    if archives and found:
        _check_same(archives[0], *found[0])
    if archives and not found:
        return _read_archive(archives[0], unpacked[0])
    return _read(*found[0]) if found else None


def to_pixels(record: bytes) -> np.ndarray:
    """Pixels of a record as uint8 [32,32,3] RGB."""
    return np.frombuffer(record, np.uint8).reshape(3, SIDE, SIDE).transpose(1, 2, 0)


def _read_archive(archive: Path, unpacked: Path) -> RawPictures:
    """Unpack if it is not there yet, and read; what cannot be read is removed, or it would be kept for ever."""
    with owned(unpacked.parent):
        found = _find_layouts(unpack(archive, unpacked))
        if not found:
            shutil.rmtree(unpacked)
            raise ValueError(
                f"{archive} is not the binary version of CIFAR-10 or CIFAR-100, the only one that is read here: "
                "other versions are pickled, and unpickling can run any program."
            )
        try:
            return _read(*found[0])
        except ValueError as error:
            shutil.rmtree(unpacked)
            raise ValueError(f"{error} {unpacked} is removed, so the same command unpacks {archive} again.") from error


def _read(folder: Path, layout: Layout) -> RawPictures:
    classes = _class_names(folder / layout.classes)
    pictures = [
        picture
        for part in ("train", "test")
        for picture in _pictures(folder, getattr(layout, part), part, layout=layout, classes=classes)
    ]
    return RawPictures(pictures, classes)


def _find_layouts(folder: Path) -> list[tuple[Path, Layout]]:
    return [(path.parent, layout) for layout in LAYOUTS for path in sorted(folder.rglob(layout.classes))]


def _check_same(archive: Path, folder: Path, layout: Layout) -> None:
    """Reject batches beside an archive of others: only the user knows which are meant."""
    files = (folder / name for name in (layout.classes, *layout.train, *layout.test))
    if not holds_files(archive, (file for file in files if file.is_file())):  # a missing one is told of when it is read
        raise ValueError(f"{folder} is not the content of {archive} beside it: give one of them as --raw_dir.")


def _class_names(path: Path) -> list[str]:
    names = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{path} names no class, or one twice: unpack the archive again.")
    return [check_name(name, where=path) for name in names]


def _pictures(
    folder: Path, files: Sequence[str], part: str, *, layout: Layout, classes: Sequence[str]
) -> Iterator[RawPicture]:
    number = 0
    for file in files:
        for place, label in _records(folder / file, label_bytes=layout.label_bytes, num_classes=len(classes)):
            number += 1
            yield RawPicture(f"{classes[label]}/{part}_{number:05d}", part, folder / file, place, PIXEL_BYTES)


def _records(path: Path, *, label_bytes: int, num_classes: int) -> Iterator[tuple[int, int]]:
    """First byte of the pixels, and label, of each picture in a batch."""
    size = label_bytes + PIXEL_BYTES
    if not path.is_file():
        raise ValueError(f"{path} is missing: unpack the archive again.")
    content = np.fromfile(path, np.uint8)
    if not len(content) or len(content) % size:
        raise ValueError(f"{path} has {len(content)} bytes, not pictures of {size} bytes each: unpack it again.")
    labels = content.reshape(-1, size)[:, label_bytes - 1].tolist()
    if max(labels) >= num_classes:
        raise ValueError(f"{path} has the label {max(labels)}, but {num_classes} classes are named: fetch it again.")
    for number, label in enumerate(labels):
        yield number * size + label_bytes, label
