"""The backbone out of any file that holds one: a round, ours or published, and what fine-tuning reads and writes."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedvssl.models.r3d import R3D
from fedvssl.training.checkpoint import Arrays, load_arrays, load_torch
from fedvssl.training.published_checkpoint import read_published
from fedvssl.training.recognition import load_weights, recognizer_state

BACKBONE = "backbone."
HEAD_ENTRIES = 6  # of Catch-the-Patch: three layers with weight and bias


def load_backbone(backbone: nn.Module, path: Path) -> None:
    """Load the backbone of a checkpoint, all of its entries and no others.

    Args:
        backbone: as configured.
        path: round-<N>-weights.npz, a published round-540.npz, model_pretrained.pth, or last.pth and best.pth of
            fine-tuning; a head is left aside.

    Raises:
        ValueError: if there is no such file, it is none of these, it is of another architecture, or training has
            diverged in it.
    """
    state = read_backbone(path)
    load_weights(backbone, state, path=path)
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"'{name}' in {path} holds values that are not finite: take an earlier round.")


def read_backbone(path: Path) -> dict[str, Tensor]:
    """The named tensors of the backbone in any file that `load_backbone` knows, without the "backbone." of the file.

    Raises:
        ValueError: as `load_backbone`.
    """
    if path.suffix == ".npz":
        state = {name: torch.from_numpy(np.array(array)) for name, array in read_round(path).items()}
    else:
        state = recognizer_state(load_torch(path), path=path)
    own = {name.removeprefix(BACKBONE): tensor for name, tensor in state.items() if name.startswith(BACKBONE)}
    if not own:
        raise ValueError(
            f"{path} has no tensors called '{BACKBONE}*': give a checkpoint of pre-training or fine-tuning."
        )
    return own


def read_round(path: Path) -> Arrays:
    """`backbone.*` of the file of a round, ours or published.

    Raises:
        ValueError: if the file is neither.
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
        return name_by_position(read_published(path))
    arrays = {name: array for name, array in load_arrays(path).items() if name.startswith(BACKBONE)}
    if not arrays:
        raise ValueError(f"{path} has no arrays called '{BACKBONE}*': give a round-<N>-weights.npz of fedvssl.main.")
    return arrays


def name_by_position(arrays: Sequence[np.ndarray]) -> Arrays:
    """Name the arrays of a published R3D-18: its 120 entries, or the 126 of the whole Catch-the-Patch model.

    Raises:
        ValueError: for another number of arrays or another shape.
    """
    with torch.device("meta"):
        state = R3D().state_dict()
    if len(arrays) == 2 * (len(state) + HEAD_ENTRIES):
        raise ValueError(
            f"The checkpoint has {len(arrays)} arrays, which the published Flower baseline makes by concatenating two "
            "lists instead of adding them; the clients never used the second one. Pre-train again with fedvssl.main."
        )
    if len(arrays) not in (len(state), len(state) + HEAD_ENTRIES):
        raise ValueError(
            f"The checkpoint has {len(arrays)} arrays; R3D-18 has {len(state)}, "
            f"with the head of Catch-the-Patch {len(state) + HEAD_ENTRIES}."
        )
    named = {}
    for (name, tensor), array in zip(state.items(), arrays[: len(state)], strict=True):
        if array.shape != tuple(tensor.shape):
            raise ValueError(f"Array for '{name}' has shape {array.shape} instead of {tuple(tensor.shape)}.")
        # The published averages turned counters into floats.
        named[BACKBONE + name] = array.astype(np.float32 if tensor.is_floating_point() else np.int64)
    return named
