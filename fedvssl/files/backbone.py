"""Load the backbone from any checkpoint: a round, ours or published, or a checkpoint of fine-tuning."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedvssl.files.arrays import BACKBONE, Arrays, load_arrays
from fedvssl.files.published import read_published
from fedvssl.files.tensors import load_torch

HEAD_ENTRIES = 6  # head of Catch-the-Patch: three layers with weight and bias


def load_backbone(backbone: nn.Module, path: Path) -> None:
    """Load the backbone of a checkpoint, all of its entries and no others.

    Args:
        backbone: the configured network, loaded in place.
        path: round-<N>-weights.npz, a published round-540.npz, model_pretrained.pth, or last.pth and best.pth of
            fine-tuning; a head is ignored.

    Raises:
        ValueError: if the file is missing, none of these, of another architecture, or holds values that are not finite.
    """
    if path.suffix == ".npz":
        arrays = read_round(path, names=backbone.state_dict())
        state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    else:
        state = recognizer_state(load_torch(path), path=path)
    own = {name.removeprefix(BACKBONE): tensor for name, tensor in state.items() if name.startswith(BACKBONE)}
    if not own:
        raise ValueError(
            f"{path} has no tensors called '{BACKBONE}*': give a checkpoint of pre-training or fine-tuning."
        )
    load_weights(backbone, own, path=path)
    for name, tensor in own.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"'{name}' in {path} holds values that are not finite: take an earlier round.")


def read_round(path: Path, *, names: Mapping[str, Tensor]) -> Arrays:
    """Read the `backbone.*` arrays of a round file, ours or published.

    Args:
        names: state of a backbone; it gives the arrays of a published round their names, see `name_by_position`.

    Raises:
        ValueError: if the file is missing, damaged or no round file.
    """
    if not path.is_file():
        raise ValueError(f"No file {path}.")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not an .npz file.")
    try:
        with zipfile.ZipFile(path) as archive:
            is_positional = any(name.startswith("arr_") for name in archive.namelist())
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged ({error}).") from error
    if is_positional:
        return name_by_position(read_published(path), names)
    arrays = {name: array for name, array in load_arrays(path).items() if name.startswith(BACKBONE)}
    if not arrays:
        raise ValueError(f"{path} has no arrays called '{BACKBONE}*': give a round-<N>-weights.npz of fedvssl.main.")
    return arrays


def name_by_position(arrays: Sequence[np.ndarray], names: Mapping[str, Tensor]) -> Arrays:
    """Name the backbone's arrays in a published round: the backbone alone, or the whole Catch-the-Patch model.

    Args:
        arrays: without names, in the order of the model.
        names: state of the backbone that was published, R3D-18 with 120 entries; any device, meta included.

    Raises:
        ValueError: for another number of arrays or another shape.
    """
    if len(arrays) == 2 * (len(names) + HEAD_ENTRIES):
        raise ValueError(
            f"The checkpoint has {len(arrays)} arrays, which the published Flower baseline makes by concatenating two "
            "lists instead of adding them; the clients never used the second one. Pre-train again with fedvssl.main."
        )
    if len(arrays) not in (len(names), len(names) + HEAD_ENTRIES):
        raise ValueError(
            f"The checkpoint has {len(arrays)} arrays; this backbone has {len(names)}, "
            f"with the head of Catch-the-Patch {len(names) + HEAD_ENTRIES}. The published ones are of R3D-18."
        )
    named = {}
    for (name, tensor), array in zip(names.items(), arrays[: len(names)], strict=True):
        if array.shape != tuple(tensor.shape):
            raise ValueError(f"Array for '{name}' has shape {array.shape} instead of {tuple(tensor.shape)}.")
        # The published averages turned counters into floats.
        named[BACKBONE + name] = array.astype(np.float32 if tensor.is_floating_point() else np.int64)
    return named


def recognizer_state(checkpoint: Any, *, path: Path) -> dict[str, Tensor]:
    """Named tensors of a checkpoint: ours ("model"), a published one ("state_dict"), or the tensors themselves.

    Raises:
        ValueError: if it holds something else; names the file `path`.
    """
    state = checkpoint
    if isinstance(checkpoint, dict):
        state = checkpoint.get("model", checkpoint.get("state_dict", checkpoint))
    if not (isinstance(state, dict) and all(isinstance(name, str) and torch.is_tensor(state[name]) for name in state)):
        raise ValueError(f"{path} holds no named tensors: give a file of fedvssl.finetune or finetune_preprocess.")
    return state


def load_weights(module: nn.Module, state: dict[str, Tensor], *, path: Path) -> None:
    """Load named tensors, all of them and no others.

    Raises:
        ValueError: naming the first tensor that is missing, unknown or of another shape, and the file.
    """
    own = module.state_dict()
    for name in [*own, *state]:
        if name not in state or name not in own:
            fault = "has no" if name not in state else "has an unknown"
            raise ValueError(f"{path} {fault} '{name}': it is a checkpoint of another model.")
        if own[name].shape != state[name].shape:
            raise ValueError(
                f"'{name}' is {list(state[name].shape)} in {path} and {list(own[name].shape)} in this configuration: "
                "check model and data.num_classes."
            )
    module.load_state_dict(state)
