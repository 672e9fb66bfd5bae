"""Named arrays, the form of a model in messages and on disk, and their .npz files without pickle."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np

from fedvssl.files.atomic import atomic_path

Arrays = dict[str, np.ndarray]
BACKBONE = "backbone."  # prefix of the backbone's entries


def npy_header(array: np.ndarray) -> bytes:
    """Header of an array's .npy file; the numbers follow it."""
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    return header.getvalue()


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
        ValueError: if the file is missing, is not an .npz or needs pickle.
    """
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array")
        with file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise ValueError(f"No file {path}.") from error
    except (ValueError, OSError, EOFError, BadZipFile, AttributeError) as error:
        raise ValueError(f"{path} is not an .npz of named numeric arrays ({error}).") from error
