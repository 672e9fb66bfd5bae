"""A module's state as named arrays and back, and .pth files of tensors; code in a file is never run."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fedvssl.files.arrays import Arrays
from fedvssl.files.atomic import atomic_path
from fedvssl.files.foreign import UnfitError, first_bytes
from fedvssl.files.names import listed
from fedvssl.files.pth import read_pth

HALF = (torch.bfloat16, torch.float16)


def to_arrays(module: nn.Module) -> Arrays:
    """State entries by full name, in the module's order; on the CPU they are views that change with the module.

    Half precision becomes float32, as a copy: numpy has no bfloat16, and an average should not be rounded to it.
    """
    arrays = {}
    for name, tensor in module.state_dict().items():
        tensor = tensor.float() if tensor.dtype in HALF else tensor
        arrays[name] = tensor.cpu().numpy()
    return arrays


def load_arrays_into(module: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Copy arrays into the module's state entries of the same names; other entries keep their values.

    Raises:
        ValueError: for a name that the module does not have, a different shape, or floats for an integer entry.
    """
    state = module.state_dict()
    if unknown := [name for name in arrays if name not in state]:
        raise ValueError(f"The model has no {listed(unknown)}: the arrays belong to another model.")
    for name, array in arrays.items():
        tensor = state[name]
        if tuple(tensor.shape) != array.shape:
            raise ValueError(f"'{name}' has shape {array.shape}, the model's has {tuple(tensor.shape)}.")
        if not tensor.is_floating_point() and array.dtype.kind == "f":
            raise ValueError(f"'{name}' is {array.dtype}, the model's is {tensor.dtype}: a counter cannot be a float.")
    for name, array in arrays.items():
        _copy_into(state[name], array)


def save_torch(path: Path | str, content: Any) -> None:
    """Save with torch.save, whole or not at all; the same content gives the same bytes."""
    # Through memory: given a path, torch writes its name into the archive and reports a full disk as a RuntimeError.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_torch(path: Path | str) -> Any:
    """Read tensors and plain containers of a .pth of ours onto the CPU; code in the file is never run.

    Raises:
        ValueError: if the file is missing, damaged, or holds anything else.
    """
    first_bytes(path)
    content, skipped = read_pth(path)
    if skipped:
        raise UnfitError(f"{path} is not a checkpoint of tensors and numbers alone: it holds {listed(skipped)} too.")
    return content


def _copy_into(tensor: torch.Tensor, array: np.ndarray) -> None:
    if tensor.device.type == "cpu" and tensor.dtype not in HALF:
        np.copyto(tensor.numpy(), array, casting="same_kind")
    else:
        tensor.copy_(torch.from_numpy(np.array(array)))  # copied, because torch warns about read-only arrays
