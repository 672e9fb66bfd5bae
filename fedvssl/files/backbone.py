"""Load the backbone from any checkpoint: a round, ours or published, a fine-tuned model, or one of other programs."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedvssl.files.arrays import BACKBONE
from fedvssl.files.checkpoint import Checkpoint, read_checkpoint
from fedvssl.files.matching import find_state
from fedvssl.files.names import listed

HEAD_ENTRIES = 6  # head of Catch-the-Patch: three layers with weight and bias


def print_once(line: str) -> None:
    """Print in the first of several processes."""
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        print(line, flush=True)


def load_backbone(backbone: nn.Module, path: Path, *, tell: Callable[[str], object] = print_once) -> None:
    """Load the backbone of a checkpoint, all of its entries and no others.

    Args:
        backbone: the configured network, loaded in place.
        path: round-<N>-weights.npz, a published round-540.npz, model_pretrained.pth, last.pth and best.pth of
            fine-tuning, or a file of another program whose names and shapes are those of the backbone; a head is
            ignored.
        tell: gets a line if names were changed, or objects in the file skipped.

    Raises:
        ValueError: if the file is missing, none of these, of another architecture, or holds values that are not finite.
    """
    state, line = backbone_in(read_checkpoint(path), backbone.state_dict(), path=path)
    if line:
        tell(line)
    backbone.load_state_dict(state)


def backbone_in(checkpoint: Checkpoint, own: Mapping[str, Tensor], *, path: Path) -> tuple[dict[str, Tensor], str]:
    """Tensors of the backbone in a checkpoint, and a line that tells what was changed or skipped; "" for nothing.

    Args:
        checkpoint: content of the file.
        own: state of the backbone; any device, meta included.
        path: of the file, for the sentences.

    Returns:
        entries by the names of `own`, in their shapes and dtypes; counters of BatchNorm are 0 if the file has none.

    Raises:
        ValueError: see `load_backbone`.
    """
    content = checkpoint.content
    if isinstance(content, list) and all(isinstance(array, np.ndarray) for array in content):
        content = name_by_position(content, own)
    state, lines = find_state(content, own, path=path)
    if checkpoint.skipped:
        lines.append(f"skipped, because no tensors: {listed(checkpoint.skipped)}")
    return state, f"{path}: {'; '.join(lines)}." if lines else ""


def name_by_position(arrays: Sequence[np.ndarray], names: Mapping[str, Tensor]) -> dict[str, Tensor]:
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
        whole = array.astype(np.float32 if tensor.is_floating_point() else np.int64)
        named[BACKBONE + name] = torch.from_numpy(whole)
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
