"""The bytes of the JPEG frames in a zip, without what zipfile does for each of its members.

The zips of `data_tools.extract_frames` store frames without compression under names of one length, so their directory
is an array of records of one size and is read as such. zipfile, which makes an object of each of the 200 frames of a
UCF-101 video, would take almost as long as the decoding of a clip.
Format: APPNOTE.TXT of PKWARE, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.16 (its end).
"""

import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Protocol

import numpy as np

SUFFIXES = (".jpg", ".jpeg")
END = struct.Struct("<4s4H2LH")
LOCAL_HEADER_SIZE, DIRECTORY_HEADER_SIZE = 30, 46
TAIL_BYTES = 1 << 15  # holds the directory of 550 frames


class Frames(Protocol):
    """The JPEG members of a zip in the order of their names."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """One member.

        Raises:
            OSError, zipfile.BadZipFile: if it is damaged.
        """
        ...


class RegularFrames:
    """Frames of a zip whose directory is regular.

    Args:
        path: the zip, for reading; it stays open as long as this object lives.
        directory: structured array [frames] of `_record_type`, in the order of the names.
    """

    def __init__(self, path: Path, directory: np.ndarray) -> None:
        self._names, self._offsets, self._sizes, self._sums = (
            directory[field].tolist() for field in ("name", "offset", "size", "crc")
        )
        self._file = path.open("rb", buffering=0)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def __len__(self) -> int:
        return len(self._names)

    def read(self, index: int) -> bytes:
        name = self._names[index]
        start = LOCAL_HEADER_SIZE + len(name)
        stored = os.pread(self._file.fileno(), start + self._sizes[index], self._offsets[index])
        jpeg = stored[start:]
        if stored[LOCAL_HEADER_SIZE:start] != name or zlib.crc32(jpeg) != self._sums[index]:
            raise zipfile.BadZipFile(f"{name.decode(errors='replace')} is not what the directory says")
        return jpeg


class OtherFrames:
    """Frames of any other zip, by way of zipfile."""

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path)
        self._names = sorted(name for name in self._archive.namelist() if name.lower().endswith(SUFFIXES))

    def __len__(self) -> int:
        return len(self._names)

    def read(self, index: int) -> bytes:
        return self._archive.read(self._names[index])


def open_frames(path: Path) -> Frames:
    """Open a zip of JPEG frames.

    Raises:
        OSError, zipfile.BadZipFile: if it cannot be read.
    """
    directory = _regular_directory(path)
    return OtherFrames(path) if directory is None else RegularFrames(path, directory)


def _regular_directory(path: Path) -> np.ndarray | None:
    """The directory in the order of the names; None unless all members are uncompressed .jpg with names of one length.

    A member with more than this (a comment, an extra field, encryption, sizes beyond 4 GB) makes a zip irregular too.
    """
    with path.open("rb", buffering=0) as file:
        length = file.seek(0, os.SEEK_END)
        tail = os.pread(file.fileno(), TAIL_BYTES, max(0, length - TAIL_BYTES))
        if len(tail) < END.size:
            return None
        signature, _, _, _, count, size, offset, comment = END.unpack(tail[-END.size :])
        if signature != b"PK\5\6" or comment or not 0 < count < 0xFFFF or offset + size + END.size != length:
            return None
        stored = tail[-END.size - size : -END.size]
        if len(stored) < size:
            stored = os.pread(file.fileno(), size, offset)
    record_size, rest = divmod(size, count)
    if rest or record_size <= DIRECTORY_HEADER_SIZE:
        return None
    directory = np.frombuffer(stored, _record_type(record_size - DIRECTORY_HEADER_SIZE))
    names = directory["name"]
    regular = (directory["signature"] == b"PK\1\2") & (directory["name_length"] == names.itemsize)
    regular &= (directory["flags"] == 0) & (directory["compression"] == 0)
    regular &= (directory["extra_length"] == 0) & (directory["comment_length"] == 0)
    if not regular.all() or not all(name.endswith(b".jpg") for name in names.tolist()):
        return None
    return directory if (names[:-1] < names[1:]).all() else directory[np.argsort(names, kind="stable")]


def _record_type(name_length: int) -> np.dtype:
    fields = [
        *(("signature", "S4"), ("versions", "<u4"), ("flags", "<u2"), ("compression", "<u2")),
        *(("time", "<u4"), ("crc", "<u4"), ("size", "<u4"), ("full_size", "<u4")),
        *(("name_length", "<u2"), ("extra_length", "<u2"), ("comment_length", "<u2"), ("disk", "<u2")),
        *(("attributes", "S6"), ("offset", "<u4"), ("name", f"S{name_length}")),
    ]
    return np.dtype(fields)
