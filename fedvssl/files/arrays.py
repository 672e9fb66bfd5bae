"""Named arrays, the form of a model in messages and on disk, and their .npz files without pickle."""

import hashlib
import math
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import IO
from zipfile import ZipFile, ZipInfo

import numpy as np

from fedvssl.files.atomic import atomic_path
from fedvssl.files.foreign import UNPACK, UnfitError, first_bytes, in_one_sentence, open_zip
from fedvssl.files.names import shown

Arrays = dict[str, np.ndarray]
BACKBONE = "backbone."  # prefix of the backbone's entries


def npy_header(array: np.ndarray) -> bytes:
    """Header of an array's .npy file; the numbers follow it."""
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    return header.getvalue()


def arrays_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Digest of names, shapes, dtypes and numbers, by which two machines tell whether they have the same arrays."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.shape} {array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]


def num_bytes(arrays: Mapping[str, np.ndarray]) -> int:
    """Bytes of all numbers."""
    return sum(array.nbytes for array in arrays.values())


def save_arrays(path: Path | str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays to an .npz without pickle.

    Raises:
        ValueError: for an array of Python objects, which only pickle could store.
    """
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ValueError(f"'{name}' holds Python objects: only numeric arrays can be saved.")
    with atomic_path(Path(path)) as temporary, ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():  # the bytes that np.savez writes, which copies each array on the way
            whole = np.asarray(array, order="C")
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                file.write(npy_header(whole))
                file.write(whole.reshape(-1).view(np.uint8).data)


def load_arrays(path: Path | str) -> Arrays:
    """Read the named arrays of an .npz.

    Raises:
        ValueError: if the file is missing, damaged, is not an .npz, needs pickle, or would fill the memory.
    """
    if first_bytes(path).startswith(np.lib.format.MAGIC_PREFIX):
        raise UnfitError(f"{path} is not an .npz of named numeric arrays, it is a single array.")
    with in_one_sentence(path), open_zip(path) as archive:
        entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        return {name: _read_entry(path, archive, entry) for name, entry in entries.items()}


def read_array(file: IO[bytes], *, num_bytes: int) -> np.ndarray:
    """Array of a file in the .npy format.

    Raises:
        ValueError: if it is damaged, holds Python objects, or claims another number of bytes than the file has.
    """
    shape, _, dtype = npy_facts(file)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != num_bytes - file.tell():
        raise ValueError("no array of numbers")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def npy_facts(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and dtype from the header of an array in the .npy format; the file goes on behind it."""
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    return readers[version](file)


def _read_entry(path: Path | str, archive: ZipFile, entry: ZipInfo) -> np.ndarray:
    if not entry.filename.endswith(".npy"):
        raise UnfitError(f"{path} is an archive of other files, such as {shown(entry.filename)}: {UNPACK}.")
    with archive.open(entry) as file:
        if npy_facts(file)[2].hasobject:
            held = f"{shown(entry.filename)} holds a pickle, which is not read"
            raise UnfitError(f"{path} is not an .npz of named numeric arrays: {held}.")
        file.seek(0)
        return read_array(file, num_bytes=entry.file_size)
