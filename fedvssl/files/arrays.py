"""Named arrays, the form in which a model travels and is kept, and their .npz files, which need no pickle."""

from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from fedvssl.files.atomic import atomic_path

Arrays = dict[str, np.ndarray]
BACKBONE = "backbone."  # what the names of the backbone's entries begin with


def save_arrays(path: Path | str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays to an .npz without pickle.

    Raises:
        ValueError: for an array of Python objects, which only pickle could store.
    """
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ValueError(f"'{name}' holds Python objects: only numeric arrays can be saved.")
    with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def load_arrays(path: Path | str) -> Arrays:
    """Read what `save_arrays` wrote.

    Raises:
        ValueError: if the file is missing, is not an .npz or needs pickle.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise ValueError(f"No file {path}.") from error
    except (ValueError, OSError, EOFError, BadZipFile, AttributeError) as error:
        raise ValueError(f"{path} is not an .npz of named numeric arrays ({error}).") from error
