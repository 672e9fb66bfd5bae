"""Round checkpoint -> weights that fine-tuning starts from.

    python -m fedvssl.finetune_preprocess --pretrained_model_path=outputs/<DATE>/<TIME>/<exp_name>/round-20-weights.npz

Reads the files of fedvssl.main and the published ones, whose arrays have no names: their order is that of the model.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fedvssl.training.backbone import read_round
from fedvssl.training.checkpoint import save_torch


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = _parse(argv)
    try:
        arrays = read_round(arguments.pretrained_model_path)
        save_torch(arguments.output_path, {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.output_path}: {len(arrays)} entries of the backbone")
    return 0


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
