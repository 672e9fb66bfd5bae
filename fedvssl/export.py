"""Export the backbone of a checkpoint for other programs: safetensors, .pth, torchvision's names, ONNX, a model card.

    python -m fedvssl.export checkpoint=outputs/<DATE>/<TIME>/fedvssl_results/round-20-weights.npz
    python -m fedvssl.export checkpoint=<file> model=resnet18 input=pictures formats=[safetensors,onnx]
    python -m fedvssl.export checkpoint=finetune_results/last.pth formats=[safetensors,onnx] out_dir=exported

Reads a round .npz (ours or a published one), model_pretrained.pth, last.pth and best.pth of fine-tuning, or a file of
another program whose names and shapes are those of the model. Model and input are those of the run in whose folder the
file lies, unless settings say otherwise. Of Segment-Anything the whole model is written, as a folder that transformers'
`from_pretrained` loads. The files are written and checked in a hidden folder, which is renamed at the
end: they appear together or not at all.
"""

import sys

from fedvssl.early import answered

if __name__ == "__main__" and answered("export"):  # before PyTorch is imported, which takes seconds
    sys.exit()

import copy
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

import fedvssl
from fedvssl.building import build
from fedvssl.chosen_run import with_origin
from fedvssl.config import Config, compose
from fedvssl.data.seen import for_pth, read_seen
from fedvssl.files.arrays import BACKBONE, Arrays
from fedvssl.files.atomic import atomic_folder
from fedvssl.files.backbone import load_backbone
from fedvssl.files.ending import exit_code
from fedvssl.files.environment import free_bytes
from fedvssl.files.given import given_file
from fedvssl.files.lock import owned_output
from fedvssl.files.run_log import read_config
from fedvssl.files.tensors import save_torch
from fedvssl.formats.model_card import Card, model_card
from fedvssl.formats.onnx_file import PACKAGES, check_packages, write_onnx
from fedvssl.formats.origin import evaluations, origin_names, training_facts
from fedvssl.formats.torchvision_names import to_torchvision
from fedvssl.formats.whole_model import base_seed, export_whole
from fedvssl.overrides import parse_overrides
from fedvssl.training.loop import seed_torch

FILES = {
    "safetensors": "backbone.safetensors",
    "pth": "backbone.pth",
    "torchvision": "torchvision_{name}.safetensors",  # of the model
    "onnx": "backbone.onnx",
}
CARD = "README.md"
WHOLE = "fedvssl.models.sam."  # begins the names of models that are exported as a whole
SAFETENSORS_METADATA = {"format": "pt"}  # expected of PyTorch by readers of the format


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return exit_code(lambda: export(compose("export", parse_overrides(with_origin("export", words)))))


def export(config: Config) -> None:
    """Write the requested formats and the card.

    Raises:
        ValueError: for a missing or unfitting checkpoint, an unknown format, a folder that is in use or too little
            space, before anything is written; if ONNX computes other features than PyTorch.
    """
    started = time.perf_counter()
    checkpoint = given_file(config["checkpoint"], command="export")
    out_dir = Path(str(config["out_dir"] or checkpoint.parent / f"export-{checkpoint.stem}")).expanduser()
    if config["model"]["_target_"].startswith(WHOLE):
        return export_model(partial(build, config["model"]), config["model"], checkpoint, out_dir, config["formats"])
    formats = checked_formats(config["formats"])
    backbone = load(partial(build, config["model"]), checkpoint)
    named = partial(to_torchvision, backbone.state_dict())
    formats = possible(formats, {"torchvision": named}, asked=config["formats"] is not None)
    frames = (config["clip_len"],) if "clip_len" in config else ()  # pictures have none
    input_shape = 3, *frames, config["crop_size"], config["crop_size"]
    facts = {"model": config["model"], "frame_stride": config.get("frame_stride")}
    facts |= describe(backbone, checkpoint, input_shape=input_shape)
    check_space(out_dir, backbone, num_files=len(formats))
    with owned_output(out_dir.resolve()), atomic_folder(out_dir) as folder:
        write_tensors(backbone, folder, formats, seen=read_seen(checkpoint))
        agreement = None
        if "onnx" in formats:
            print("ONNX, and its check against PyTorch (a minute on two cores) ...", flush=True)
            agreement = write_onnx(backbone, folder / FILES["onnx"], input_shape=input_shape)
            print(f"its features differ by at most {agreement.difference:.2g}, the largest is {agreement.largest:.2g}")
        files = sorted(folder.iterdir())
        card = Card(**facts, agreement=agreement, versions=versions(formats))
        (folder / CARD).write_text(model_card(card, files), encoding="utf-8")
        num_bytes = sum(file.stat().st_size for file in files)
    print(f"{out_dir}: {len(files)} files and {CARD}, {num_bytes:,} bytes, {time.perf_counter() - started:.0f} s")


def export_model(
    new_model: Callable[[], Any], settings: Mapping[str, Any], checkpoint: Path, out_dir: Path, formats: Any
) -> None:
    """Write a model that is exported as a whole.

    Args:
        new_model: builds it with its base.
        settings: section "model" of the configuration.
        checkpoint: the round file.
        out_dir: new folder.
        formats: of the configuration; it writes one of its own.

    Raises:
        ValueError: if formats are named, and as `base_seed` and `export_whole`.
    """
    if formats is not None:
        raise ValueError(f"formats={formats}: this model is written as a folder of transformers, leave formats out.")
    seed_torch((base_seed(read_config(checkpoint.parent / "config.yaml"), settings, checkpoint),))
    base = settings.get("weights", "random weights")
    export_whole(new_model(), checkpoint, out_dir, base=base)


def checked_formats(formats: Any) -> list[str]:
    """The formats in the order of FILES, each once; for None all whose packages are installed.

    Raises:
        ValueError: if they are no list of known formats, or the packages for ONNX, which is named, are not installed.
    """
    names = list(FILES) if formats is None else formats
    if not isinstance(names, list) or not names or not set(map(str, names)) <= FILES.keys():
        raise ValueError(f"formats={formats} must be a list of some of: {', '.join(FILES)}.")
    return possible([name for name in FILES if name in names], {"onnx": check_packages}, asked=formats is not None)


def possible(formats: Sequence[str], checks: Mapping[str, Callable[[], object]], *, asked: bool) -> list[str]:
    """The formats without those whose check fails, which is told.

    Raises:
        ValueError: if one that was asked for by its name fails.
    """
    found = []
    for name in formats:
        try:
            if name in checks:
                checks[name]()
        except ValueError as error:
            if asked:
                raise ValueError(f"{error} Or leave {name} out of formats.") from error
            print(f"Without {name}: {error}", flush=True)
        else:
            found.append(name)
    return found


def load(new_backbone: Callable[[], nn.Module], checkpoint: Path) -> nn.Module:
    """The backbone of the checkpoint in eval mode, on the CPU.

    Raises:
        ValueError: if it is not of this model, or holds numbers that are not finite.
    """
    backbone = new_backbone().eval()
    load_backbone(backbone, checkpoint)
    return backbone


def check_space(out_dir: Path, backbone: nn.Module, *, num_files: int) -> None:
    """Reject a disk that cannot hold the files.

    Raises:
        ValueError: naming the needed and the free bytes.
    """
    needed = num_files * sum(tensor.nbytes for tensor in backbone.state_dict().values())
    if (free := free_bytes(out_dir)) < needed:
        raise ValueError(
            f"The export needs {needed:,} bytes and the disk of {out_dir} has {free:,} left: make room, name another "
            "out_dir, or ask for fewer formats."
        )


def describe(backbone: nn.Module, checkpoint: Path, *, input_shape: tuple[int, ...]) -> dict[str, Any]:
    """Facts of the card that do not depend on the files and the settings.

    Raises:
        ValueError: if the backbone does not take an input of this shape.
    """
    module = inspect.getmodule(type(backbone))
    shadow = copy.deepcopy(backbone).to("meta")  # computes shapes only
    try:
        with torch.no_grad():
            features = shadow(torch.empty(1, *input_shape, device="meta"))
    except RuntimeError as error:
        reason, name = str(error).partition("\n")[0], type(backbone).__name__
        raise ValueError(f"{name} takes no {list(input_shape)}, see input and crop_size: {reason}") from error
    return {
        "checkpoint": checkpoint,
        "summary": (inspect.getdoc(module) or "").partition("\n")[0],  # its first line says what the architecture is
        "num_parameters": sum(parameter.numel() for parameter in backbone.parameters()),
        "num_entries": len(backbone.state_dict()),
        "input_shape": input_shape,
        "feature_shape": tuple(features.shape[1:]),
        "training": training_facts(checkpoint),
        "evaluations": evaluations(checkpoint),
        "names": origin_names(checkpoint) | {type(backbone).__name__},
    }


def write_tensors(backbone: nn.Module, folder: Path, formats: Sequence[str], *, seen: Arrays) -> None:
    """Write the formats that only store the tensors, under our names or others; `seen` goes into the .pth."""
    state = backbone.state_dict()
    # `save` and not `save_file`, which makes files that only their owner can read.
    if "safetensors" in formats:
        (folder / FILES["safetensors"]).write_bytes(save(state, metadata=SAFETENSORS_METADATA))
    if "torchvision" in formats:
        name, renamed = to_torchvision(state)
        (folder / FILES["torchvision"].format(name=name)).write_bytes(save(renamed, metadata=SAFETENSORS_METADATA))
    if "pth" in formats:  # inside "state_dict", because the published code knows the prefix only there
        named = {BACKBONE + name: tensor for name, tensor in state.items()}
        save_torch(folder / FILES["pth"], {"state_dict": named, **for_pth(seen)})


def versions(formats: Sequence[str]) -> dict[str, str]:
    """Versions of the packages that write these formats."""
    packages = ["torch", "safetensors", *(PACKAGES if "onnx" in formats else ())]
    return {"fedvssl": fedvssl.__version__, **{package: version(package) for package in packages}}


if __name__ == "__main__":
    sys.exit(main())
