"""Round checkpoint -> weights that fine-tuning starts from.

    python -m fedvssl.finetune_preprocess run=last
    python -m fedvssl.finetune_preprocess --pretrained_model_path=outputs/<DATE>/<TIME>/<exp_name>/round-20-weights.npz

Reads the files of fedvssl.main and the published ones. Published arrays have no names, but the order of the model.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fedvssl.building import build
from fedvssl.chosen_run import with_run
from fedvssl.config import compose
from fedvssl.data.seen import for_pth, read_seen
from fedvssl.files.backbone import read_round
from fedvssl.files.lock import owned_output
from fedvssl.files.tensors import save_torch
from fedvssl.overrides import as_flags
from fedvssl.training.processes import exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return exit_code(lambda: _run(_parse(with_run("finetune_preprocess", words))))


def _run(arguments: argparse.Namespace) -> None:
    convert(arguments.pretrained_model_path, arguments.output_path)


def convert(round_path: Path, output_path: Path) -> None:
    """Write the backbone of a round as a .pth of named tensors, with the record of the videos that it has seen."""
    arrays = read_round(round_path, names=published_names())
    state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    with owned_output(output_path):
        save_torch(output_path, {**state, **for_pth(read_seen(round_path))})
    print(f"{output_path}: {len(arrays)} entries of the backbone")


def published_names() -> dict[str, torch.Tensor]:
    """State of the published backbone, without its numbers."""
    with torch.device("meta"):
        return build(compose("export", [])["model"]).state_dict()


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fedvssl.finetune_preprocess",
        description="Turn a round checkpoint into weights that fine-tuning starts from.",
    )
    parser.add_argument(
        "--pretrained_model_path",
        type=Path,
        required=True,
        help="round-<N>-weights.npz; run=last or run=<name or folder> in its place",
    )
    parser.add_argument("--output_path", type=Path, default=Path("model_pretrained.pth"), help="default: %(default)s")
    return parser.parse_args(as_flags(argv, {"--pretrained_model_path", "--output_path"}))


if __name__ == "__main__":
    sys.exit(main())
