"""Round checkpoint -> weights that fine-tuning starts from.

    python -m fedvssl.finetune_preprocess --pretrained_model_path=outputs/<DATE>/<TIME>/<exp_name>/round-20-weights.npz

Reads the files of fedvssl.main and the published ones, whose arrays have no names: their order is that of the model.
"""

import argparse
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fedvssl.models.r3d import R3D
from fedvssl.training.checkpoint import Arrays, load_arrays, save_torch
from fedvssl.training.published_checkpoint import read_published

BACKBONE = "backbone."
HEAD_ENTRIES = 6  # of Catch-the-Patch: three layers with weight and bias


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = _parse(argv)
    try:
        arrays = read_backbone(arguments.pretrained_model_path)
        save_torch(arguments.output_path, {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.output_path}: {len(arrays)} entries of the backbone")
    return 0


def read_backbone(path: Path) -> Arrays:
    """`backbone.*` of a checkpoint, ours or published.

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
        raise ValueError(f"{path} has no arrays called '{BACKBONE}...': give a round-<N>-weights.npz of fedvssl.main.")
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


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fedvssl.finetune_preprocess",
        description="Turn a round checkpoint into weights that fine-tuning starts from.",
    )
    parser.add_argument("--pretrained_model_path", type=Path, required=True, help="round-<N>-weights.npz")
    parser.add_argument("--output_path", type=Path, default=Path("model_pretrained.pth"), help="default: %(default)s")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
