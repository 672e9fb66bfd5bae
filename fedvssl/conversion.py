"""A checkpoint of any program becomes weights that fine-tuning starts from: its backbone by the names of a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fedvssl.building import build
from fedvssl.config import compose, conf_dir
from fedvssl.data.seen import for_pth, read_seen
from fedvssl.files.arrays import BACKBONE
from fedvssl.files.backbone import backbone_in
from fedvssl.files.checkpoint import Checkpoint, read_checkpoint
from fedvssl.files.lock import owned_output
from fedvssl.files.runs import CONFIG, config_of_run
from fedvssl.files.settings import foreign_class
from fedvssl.files.tensors import save_torch
from fedvssl.overrides import parse_overrides

USUAL = "model=r3d18"  # the published model


def convert(path: Path, output_path: Path, *, words: Sequence[str] = ()) -> None:
    """Write the backbone of a checkpoint as a .pth of named tensors, with the record of the videos that it has seen.

    Args:
        path: the checkpoint.
        output_path: the file to write.
        words: overrides that choose the model, `model=<name>` and `model.<key>=<value>`. Without them it is that of the
            run in whose folder the file lies, or the one in conf/model that fits.

    Raises:
        ValueError: if the file has no backbone of the model, whole and of finite numbers.
    """
    checkpoint = read_checkpoint(path)
    state, lines = fitting(checkpoint, path=path, words=words)
    for line in lines:
        print(line)
    named = {BACKBONE + name: tensor for name, tensor in state.items()}
    with owned_output(output_path):
        save_torch(output_path, {**named, **for_pth(read_seen(path))})
    print(f"{output_path}: {len(named)} entries of the backbone")


def fitting(checkpoint: Checkpoint, *, path: Path, words: Sequence[str]) -> tuple[dict[str, Tensor], list[str]]:
    """State of the backbone and lines about it, see `convert`."""
    faults = []
    for name, model in models_of(path, words).items():
        try:
            state, line = backbone_in(checkpoint, entries(model), path=path)
        except ValueError as error:
            faults.append(error)
        else:
            return state, [f"{path} is of {name}."] * (name not in ("", USUAL)) + [line] * bool(line)
    advice = " Or name its model, such as model=resnet18 or model.depth=10." if len(faults) > 1 else ""
    raise ValueError(f"{faults[0]}{advice}") from faults[0]


def models_of(path: Path, words: Sequence[str]) -> dict[str, Mapping[str, object]]:
    """Settings of the models that a checkpoint may be of, by name; "" where there is one only."""
    if words:
        return {"": compose("export", parse_overrides(words))["model"]}
    if "model" in (own := config_of_run(path)):
        if foreign := foreign_class(own["model"]):
            raise ValueError(f"{path.parent / CONFIG} names {foreign}: name the model yourself, model=<name>.")
        return {"": own["model"]}
    others = sorted({f"model={file.stem}" for file in (conf_dir() / "model").glob("*.yaml")} - {USUAL})
    return {name: compose("export", [name])["model"] for name in (USUAL, *others)}


def entries(model: Mapping[str, object]) -> dict[str, Tensor]:
    """State of a model, without its numbers."""
    with torch.device("meta"):
        return build(dict(model)).state_dict()
