"""Fast reader of the JPEG frames in a zip, without zipfile's work for each member.

The zips of `data_tools.extract_frames` store up to 99,999 frames uncompressed under names of one length. So all entries
of their directory have one size, and only those of the requested frames are parsed. zipfile would make an object for
each of the 200 frames of a UCF-101 video, which takes almost as long as decoding a clip.
Format: APPNOTE.TXT of PKWARE, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.16 (its end).
"""

import hashlib
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np

SUFFIXES = (".jpg", ".jpeg")
END = struct.Struct("<4s4H2LH")
ENTRY = struct.Struct("<4s4xHH4xLLL3H8xL")  # signature, flags, compression, crc, sizes, lengths, offset; then the name
SAME_IN_ALL = [*range(4), *range(8, 12), *range(28, 34), *range(-4, 0)]  # signature to compression, lengths, ".jpg"
DATE = slice(12, 16)  # of an entry: time and date at which a frame was added
LOCAL_HEADER_SIZE = 30
TAIL_BYTES = 1 << 15  # holds the directory of 550 frames


class Frames(Protocol):
    """The JPEG members of a zip in the order of their names."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """Read one member.

        Raises:
            OSError, zipfile.BadZipFile: if it is damaged.
        """
        ...


class RegularFrames:
    """Frames of a zip whose directory is regular.

    Args:
        file: the zip, unbuffered; it is closed with this object.
        directory: entries of one size, one after the other.
        order: index of each frame's entry, with the frames in the order of their names.
    """

    def __init__(self, file: FileIO, directory: bytes, order: Sequence[int]) -> None:
        self._file, self._directory, self._order = file, directory, order
        self._entry_size = len(directory) // len(order)

    def __del__(self) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._order)

    def read(self, index: int) -> bytes:
        """Read one JPEG, and check its CRC-32."""
        entry = self._order[index] * self._entry_size
        _, _, _, checksum, size, _, _, _, _, offset = ENTRY.unpack_from(self._directory, entry)
        name = self._directory[entry + ENTRY.size : entry + self._entry_size]
        start = LOCAL_HEADER_SIZE + len(name)
        stored = os.pread(self._file.fileno(), start + size, offset)
        jpeg = stored[start:]
        if extra_length := int.from_bytes(stored[28:30], "little"):  # of the local header alone
            jpeg = os.pread(self._file.fileno(), size, offset + start + extra_length)
        if stored[:4] != b"PK\3\4" or stored[LOCAL_HEADER_SIZE:start] != name or zlib.crc32(jpeg) != checksum:
            raise zipfile.BadZipFile(f"{name.decode(errors='replace')} is not what the directory says")
        return jpeg


class OtherFrames:
    """Frames of any other zip, read with zipfile; numbers in their names may differ in length."""

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path)
        names = (name for name in self._archive.namelist() if name.lower().endswith(SUFFIXES))
        self._names = sorted(names, key=by_number)

    def __len__(self) -> int:
        return len(self._names)

    def read(self, index: int) -> bytes:
        return self._archive.read(self._names[index])


def by_number(name: str) -> list[Any]:
    """Sort key that counts numbers in names as numbers: img_99999.jpg comes before img_100000.jpg."""
    key: list[Any] = re.split("([0-9]+)", name)  # texts and numbers in turn
    key[1::2] = [(len(number.lstrip("0")), number.lstrip("0")) for number in key[1::2]]
    return key


def open_frames(path: Path) -> Frames:
    """Open a zip of JPEG frames.

    Raises:
        OSError, zipfile.BadZipFile: if it cannot be read.
    """
    file = FileIO(path)
    count, directory = _read_directory(file)
    order = _regular_order(directory, count) if count else None
    if order is None:
        file.close()
        return OtherFrames(path)
    return RegularFrames(file, directory, order)


def directory_digest(path: Path) -> str:
    """Digest of names and contents of all members by the directory, which has the CRC of each; no frame is read.

    Raises:
        OSError, zipfile.BadZipFile: if it cannot be read.
    """
    with FileIO(path) as file:
        count, directory = _read_directory(file)
    if count and _regular_order(directory, count) is not None:
        entries = np.frombuffer(directory, np.uint8).reshape(count, -1)
        return hashlib.sha256(np.delete(entries, DATE, axis=1).tobytes()).hexdigest()
    with zipfile.ZipFile(path) as archive:
        members = [(member.filename, member.CRC, member.file_size) for member in archive.infolist()]
    return hashlib.sha256(repr(members).encode()).hexdigest()


def _read_directory(file: FileIO) -> tuple[int, bytes]:
    """Number of members and their entries; (0, b"") unless the file ends with these and a plain end entry."""
    length = file.seek(0, os.SEEK_END)
    tail = os.pread(file.fileno(), TAIL_BYTES, max(0, length - TAIL_BYTES))
    if len(tail) < END.size:
        return 0, b""
    signature, _, _, _, count, size, offset, comment = END.unpack(tail[-END.size :])
    if signature != b"PK\5\6" or comment or count == 0xFFFF or offset + size + END.size != length:
        return 0, b""
    directory = tail[-END.size - size : -END.size]
    return count, directory if len(directory) == size else os.pread(file.fileno(), size, offset)


def _regular_order(directory: bytes, count: int) -> Sequence[int] | None:
    """Indices of the entries in the order of names; None unless all are uncompressed .jpg with names of one length.

    A comment, an extra field, encryption or a size beyond 4 GB makes a zip irregular too.
    """
    entry_size, rest = divmod(len(directory), count)
    name_length = entry_size - ENTRY.size
    if rest or name_length <= 0:
        return None
    signature, flags, compression, _, _, _, *lengths, _ = ENTRY.unpack_from(directory)
    if (signature, flags, compression, *lengths) != (b"PK\1\2", 0, 0, name_length, 0, 0):
        return None
    entries = np.frombuffer(directory, np.uint8).reshape(count, entry_size)
    alike = entries[:, SAME_IN_ALL]
    if not directory.endswith(b".jpg") or (alike != alike[-1]).any():
        return None
    names = entries[:, ENTRY.size :].copy().view(f"S{name_length}").ravel()
    return range(count) if (names[:-1] < names[1:]).all() else np.argsort(names, kind="stable").tolist()
