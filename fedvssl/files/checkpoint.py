"""Read a checkpoint of any program by its content, whatever its name ends with: .npz, .pth or .safetensors."""

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from fedvssl.files.arrays import load_arrays
from fedvssl.files.foreign import UnfitError, first_bytes, in_one_sentence, is_safetensors, open_zip
from fedvssl.files.pth import read_pth
from fedvssl.files.published import read_published

LENGTH = 8  # bytes before the header of safetensors, which is JSON


@dataclass(frozen=True)
class Checkpoint:
    """Content of a file.

    Args:
        content: nested dictionaries with tensors, or the arrays without names of a published round.
        skipped: names of the classes and arrays that are no tensors, and were passed over.
    """

    content: Any
    skipped: list[str] = field(default_factory=list)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU; nothing in it is run.

    Raises:
        ValueError: in one sentence, if it is missing, damaged, of another kind, or would fill the memory.
    """
    start = first_bytes(path)
    if zipfile.is_zipfile(path):
        with open_zip(path) as archive:
            names = archive.namelist()
        if names and all(name.endswith(".npy") for name in names):
            if any(name.startswith("arr_") for name in names):
                return Checkpoint(read_published(path))
            return _tensors_of(load_arrays(path))
    if start.startswith(np.lib.format.MAGIC_PREFIX):
        raise UnfitError(f"{path} is a single array, not a checkpoint: give an .npz of named arrays.")
    if is_safetensors(start):
        return Checkpoint(_read_safetensors(path))
    return Checkpoint(*read_pth(path))


def _tensors_of(arrays: dict[str, np.ndarray]) -> Checkpoint:
    numeric = {name: array for name, array in arrays.items() if _is_numeric(array.dtype)}
    tensors = {name: torch.from_numpy(_native(array)) for name, array in numeric.items()}
    return Checkpoint(tensors, sorted(arrays.keys() - numeric.keys()))


def _is_numeric(dtype: np.dtype) -> bool:
    return dtype.kind in "biufc" and dtype.itemsize <= (16 if dtype.kind == "c" else 8)


def _native(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(array.shape)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name; the header is looked at first, because the library ends some faults outside Python."""
    with in_one_sentence(path):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH), "little")
            if length > path.stat().st_size - LENGTH:
                raise EOFError
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        num_bytes = path.stat().st_size - LENGTH - length
        if any(
            not 0 <= start <= end <= num_bytes for start, end in (entry["data_offsets"] for entry in header.values())
        ):
            raise EOFError
        return load_file(path)
