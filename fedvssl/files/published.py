"""Safe reader of the published code's pickled checkpoints: it runs nothing that is in them.

The authors' repository and the Flower baseline wrote `np.savez(path, x)`, with x a Flower `Parameters` object or a list
of arrays, so the .npz holds a pickle. Normal unpickling calls every function that the file names. Here each name leads
to a stand-in below or to an error, so a hostile file has nothing to call. Its unpacked size is limited as well.
"""

import io
import pickle
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fedvssl.files.arrays import npy_facts, read_array
from fedvssl.files.foreign import AGAIN, UnfitError, first_bytes, open_zip
from fedvssl.files.unpickling import next_pickle

MOST_BYTES = 2**30  # eight times a published checkpoint
MOST_ITEMS = 1000  # arrays and the lists around them; the largest published file has 252 arrays
DTYPE = re.compile(r"[fiu][1248]|b1")


def read_published(path: Path) -> list[np.ndarray]:
    """The arrays of a published checkpoint in their order; they have no names.

    Raises:
        ValueError: if the file is no such checkpoint, or its pickle asks for anything but arrays.
    """
    first_bytes(path)
    try:
        with open_zip(path) as archive:
            _check_size(entry.file_size for entry in archive.infolist())
            entries = sorted(archive.namelist(), key=_number)
            return _flatten([_read_npy(archive.read(entry)) for entry in entries])
    except _ContentError as error:
        raise UnfitError(f"{path} is not a published checkpoint: {error}") from error
    except UnfitError:
        raise
    except Exception as error:  # a damaged or hostile pickle can raise anything
        raise UnfitError(f"{path} is not a published checkpoint: it is damaged, {AGAIN}.") from error


class _ContentError(ValueError):
    """A fault of the content, in words for the user."""


class _Dtype:
    """Stand-in for numpy.dtype: a plain number type, or "O" for an array of objects."""

    def __init__(self, code: str, *_options: object) -> None:
        if not (isinstance(code, str) and (DTYPE.fullmatch(code) or code in ("O", "O8"))):
            raise _ContentError(f"the dtype {code!r} is not a plain number type.")
        self.code = code
        self.byte_order = "="

    def __setstate__(self, state: tuple) -> None:
        _version, byte_order, *_others = state
        self.byte_order = byte_order if byte_order in ("<", ">") else "="

    @property
    def holds_objects(self) -> bool:
        return self.code.startswith("O")

    def numpy(self) -> np.dtype:
        return np.dtype(self.byte_order + self.code)


class _Array:
    """Stand-in for numpy.ndarray and for `_reconstruct`, which makes an empty array before its state is set.

    `content` is an array of numbers, or the list of an object array's items.
    """

    def __init__(self, *_options: object) -> None:
        self.content: Any = None

    def __setstate__(self, state: tuple) -> None:
        _version, shape, dtype, is_fortran, raw = state
        if not isinstance(dtype, _Dtype):
            raise _ContentError("an array without a dtype.")
        if dtype.holds_objects:
            if not isinstance(raw, list):
                raise _ContentError("an array of objects without its list.")
            self.content = raw
        else:
            if not isinstance(raw, bytes):
                raise _ContentError("an array without its bytes.")
            order = "F" if is_fortran else "C"
            self.content = np.frombuffer(raw, dtype.numpy()).reshape(shape, order=order)


class _Scalar(_Array):
    """Stand-in for numpy's `scalar`, which makes a number."""

    def __init__(self, dtype: _Dtype, raw: bytes) -> None:
        super().__init__()
        self.__setstate__((1, (), dtype, False, raw))


class _Parameters:
    """Stand-in for flwr's Parameters: `tensors` is a list of arrays in the .npy format."""

    def __init__(self) -> None:
        self.tensors: Any = None

    def __setstate__(self, state: dict) -> None:
        self.tensors = state["tensors"]


STAND_INS: dict[tuple[str, str], type] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
}


class _Unpickler(pickle.Unpickler):
    """Unpickler that knows the stand-ins and nothing else."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Return the stand-in of a class that the pickle names; a ValueError for any other."""
        if global_name == "Parameters":  # it has moved between flwr's modules
            return _Parameters
        try:
            return STAND_INS[module_name, global_name]
        except KeyError:
            raise _ContentError(
                f"the pickle asks for {module_name}.{global_name}, which no checkpoint needs: do not trust this file."
            ) from None


def _read_npy(data: bytes) -> Any:
    """Read one entry of the .npz: an array of numbers, or the content of its pickle."""
    file = io.BytesIO(data)
    if npy_facts(file)[2].hasobject:
        return _Unpickler(next_pickle(file)).load()
    return read_array(io.BytesIO(data), num_bytes=len(data))


def _flatten(content: Any) -> list[np.ndarray]:
    """Flatten to arrays of numbers, in order; counts all items and bytes, as a small file can repeat one endlessly."""
    arrays, waiting = [], [content]
    for _ in range(MOST_ITEMS):
        if not waiting:
            return arrays
        _check_size(array.nbytes for array in arrays)
        item = waiting.pop()
        if isinstance(item, np.ndarray | int | float):
            arrays.append(np.asarray(item))
        else:
            waiting.extend(reversed(_inner(item)))
    raise _ContentError(f"it holds more than {MOST_ITEMS} arrays and lists.")


def _inner(item: Any) -> list:
    """Items of a list, an array or Parameters."""
    if isinstance(item, _Array):
        return [item.content]
    items = item.tensors if isinstance(item, _Parameters) else item
    if not isinstance(items, list | tuple):
        raise _ContentError(f"a {type(items).__name__} where an array should be.")
    if len(items) > MOST_ITEMS:
        raise _ContentError(f"it holds more than {MOST_ITEMS} arrays.")
    if isinstance(item, _Parameters):
        if not all(isinstance(data, bytes) for data in items):
            raise _ContentError("Parameters without a list of bytes.")
        _check_size(len(data) for data in items)
        return [read_array(io.BytesIO(data), num_bytes=len(data)) for data in items]
    return list(items)


def _check_size(sizes: Iterable[int]) -> None:
    if sum(sizes) > MOST_BYTES:
        raise _ContentError(f"it unpacks to more than {MOST_BYTES} bytes.")


def _number(entry: str) -> int:
    """arr_7.npy -> 7"""
    found = re.fullmatch(r"arr_(\d+)\.npy", entry)
    if not found:
        raise _ContentError(f"the entry '{entry}' has a name; only positional arrays were published.")
    return int(found[1])
