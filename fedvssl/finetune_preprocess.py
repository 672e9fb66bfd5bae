"""Checkpoint -> weights that fine-tuning starts from.

    python -m fedvssl.finetune_preprocess run=last
    python -m fedvssl.finetune_preprocess --pretrained_model_path=outputs/<DATE>/<TIME>/<exp_name>/round-20-weights.npz
    python -m fedvssl.finetune_preprocess --pretrained_model_path=resnet18.pth model=resnet18 model.stem=imagenet

Reads the files of fedvssl.main, the published ones, and those of other programs whose names and shapes are those of the
model. Published arrays have no names, but the order of the model.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fedvssl.chosen_run import with_run
from fedvssl.files.ending import exit_code
from fedvssl.files.given import given_file
from fedvssl.overrides import as_flags

MODEL_WORDS = ("model=", "model.")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return exit_code(lambda: _run(_parse(with_run("finetune_preprocess", words))))


def _run(arguments: argparse.Namespace) -> None:
    path = given_file(arguments.pretrained_model_path, command="finetune_preprocess")
    from fedvssl.conversion import convert  # PyTorch takes seconds, and neither --help nor a wrong path needs it

    convert(path, arguments.output_path, words=arguments.model)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fedvssl.finetune_preprocess",
        description="Turn a checkpoint into weights that fine-tuning starts from.",
    )
    parser.add_argument(
        "--pretrained_model_path",
        type=Path,
        required=True,
        help="round-<N>-weights.npz, or any file with a backbone; run=last or run=<name or folder> in its place",
    )
    parser.add_argument("--output_path", type=Path, default=Path("model_pretrained.pth"), help="default: %(default)s")
    parser.add_argument(
        "model",
        nargs="*",
        help="model=<name> and model.<key>=<value>; default: the run's own, or the one in conf/model that fits",
    )
    arguments = parser.parse_args(as_flags(argv, {"--pretrained_model_path", "--output_path"}))
    if unknown := [word for word in arguments.model if not word.startswith(MODEL_WORDS)]:
        parser.error(f"{unknown[0]} is no setting of a model: write model=<name> or model.<key>=<value>")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
