"""Model card: one Markdown file about a backbone, its origin and how to load it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedvssl.data.augment import IMAGENET_MEAN, IMAGENET_STD
from fedvssl.data.seen import seen_words
from fedvssl.data.validation import evaluated_videos
from fedvssl.evaluation.intervals import in_percent
from fedvssl.files.references import bibtex, terms
from fedvssl.files.settings import sha256
from fedvssl.formats.onnx_file import Agreement
from fedvssl.sweeping.comparison import clip_words, recipe_words

# Contents of the files, and code that loads them in the folder of the card.
RESNETS = ("resnet18", "resnet34", "resnet50")  # of torchvision
CONTENTS = {
    "backbone.safetensors": "the state of the backbone (safetensors)",
    "backbone.pth": "the same for PyTorch, as {'state_dict': {'backbone.<name>': tensor}}, tensors only: "
    "`pretrained` of fedvssl.finetune and of the published Catch-the-Patch and Flower configurations",
    "torchvision_r3d_18.safetensors": "the same under the names of torchvision's r3d_18",
    **{f"torchvision_{name}.safetensors": f"the same for torchvision's {name}" for name in RESNETS},
    "backbone.onnx": "the backbone as ONNX",
    "backbone.onnx.data": "the weights of backbone.onnx, which does not work without it",
}
TORCHVISION = """\
from safetensors.torch import load_file
from torchvision.models.video import r3d_18

model = r3d_18()
model.load_state_dict(load_file("torchvision_r3d_18.safetensors"), strict=False)  # its classifier `fc` stays random
model.apply(lambda layer: setattr(layer, "eps", 1e-3) if hasattr(layer, "eps") else None)  # BatchNorm; theirs is 1e-5
"""
TORCHVISION_RESNET = """\
from safetensors.torch import load_file
from torchvision.models import {name}

model = {name}()
model.load_state_dict(load_file("torchvision_{name}.safetensors"), strict=False)  # its classifier `fc` stays random
"""
OURS = """\
from safetensors.torch import load_file
from {module} import {name}
backbone = {name}({arguments})
backbone.load_state_dict(load_file("backbone.safetensors"))
features = backbone.eval()({inputs})  # {inputs}: float32 {shape}
"""
ONNX = """\
import onnxruntime
session = onnxruntime.InferenceSession("backbone.onnx")
(features,) = session.run(None, {{"{inputs}": {inputs}}})  # {inputs}: numpy float32 {shape}
"""
LICENCE = """\
The software is under Apache-2.0. The weights carry no licence of their own here: whoever passes them on decides, within
the terms of the data they were trained on, of which nothing is in these files. {terms}
"""


@dataclass(frozen=True, kw_only=True)
class Card:
    """The facts of a model card.

    Args:
        checkpoint: the file that was exported.
        model: `_target_` and arguments of the backbone.
        summary: one sentence about the architecture.
        num_parameters, num_entries: of the backbone, and of its state with counters.
        input_shape, feature_shape: (3, T, H, W) and (D, t, h, w), of pictures without T and t.
        frame_stride: frames of the video from one frame of a clip to the next; None for pictures.
        training, evaluations: from `origin.training_facts` and `origin.evaluations`.
        names: of classes and data sets, by which papers and terms are chosen, see `fedvssl.files.references`.
        agreement: of the ONNX file with PyTorch, None without ONNX.
        versions: of the packages that wrote the files.
    """

    checkpoint: Path
    model: Mapping[str, Any]
    summary: str
    num_parameters: int
    num_entries: int
    input_shape: Sequence[int]
    feature_shape: Sequence[int]
    frame_stride: int | None
    training: Mapping[str, str]
    evaluations: Sequence[Mapping[str, Any]]
    names: Collection[str]
    agreement: Agreement | None
    versions: Mapping[str, str]


def model_card(card: Card, files: Sequence[Path]) -> str:
    """Markdown of the card.

    Args:
        card, files: the facts, and the written files, whose sizes and SHA-256 go into the card.
    """
    names = [file.name for file in files]
    sections = {
        "Architecture": _architecture(card),
        "Input": _input(card),
        "Training": _training(card),
        "Evaluation": _evaluation(card.evaluations),
        "Files": _files(card, files),
        "How to load": _loading(card, names),
        "Licence and data": LICENCE.format(terms=terms(card.names) or "They are not known here."),
        "Citation": _code(bibtex(card.names), "bibtex"),
    }
    title = f"# {_medium(card).capitalize()} backbone {_model_name(card.model)}, from {card.checkpoint.name}\n"
    return "\n".join([title, *(f"## {heading}\n\n{text.rstrip()}\n" for heading, text in sections.items())])


def _architecture(card: Card) -> str:
    rows = {
        "model": _model_name(card.model),
        "parameters": f"{card.num_parameters:,}",
        "entries of the state": str(card.num_entries),
        "input": f"float32 {_shape(card.input_shape)}",
        "output": f"float32 {_shape(card.feature_shape)}, the features of the last stage",
        "strides": "those of fine-tuning and testing",
    }
    return f"{card.summary}\n\n{_table(('', ''), rows.items())}\n\n" + (
        "The mean over the last three axes is the feature of a clip, with which videos are compared and classified."
        if _medium(card) == "video"
        else "The mean over the last two axes is the feature of a picture."
    )


def _input(card: Card) -> str:
    _channels, *frames, height, width = card.input_shape
    stride = f"{card.frame_stride} frames of the video from one frame of the clip to the next"
    clips = {"frames": str(frames[0]), "frame stride": stride} if frames else {}
    rows = {
        **clips,
        "pixels": f"{height} x {width}",
        "colours": "RGB, divided by 255, minus the mean, divided by the standard deviation",
        "mean": ", ".join(map(str, IMAGENET_MEAN)),
        "standard deviation": ", ".join(map(str, IMAGENET_STD)),
        "axes": "batch, colour, frame, row, column" if frames else "batch, colour, row, column",
    }
    return _table(("", ""), rows.items())


def _training(card: Card) -> str:
    if not card.training:
        return "Not known: no config.yaml of its run lay beside the checkpoint."
    return _table(("", ""), card.training.items())


def _evaluation(results: Sequence[Mapping[str, Any]]) -> str:
    """One table for each result; metrics are fractions and are shown in percent, with their intervals if known."""
    if not results:
        return "No results lay beside the checkpoint."
    tables = []
    for result in results:
        metrics = list(dict.fromkeys(metric for row in result["rows"].values() for metric in row))
        ends = {name: result.get("intervals", {}).get(name, {}) for name in result["rows"]}
        rows = [
            (name, *(in_percent(row[metric], ends[name].get(metric)) if metric in row else "-" for metric in metrics))
            for name, row in result["rows"].items()
        ]
        videos = f"{evaluated_videos(result, result.get('num_test', ''))} of " if "held_out" in result else ""
        title = f"{result['protocol']}{recipe_words(result)} on "
        title += f"{videos}{result['dataset']} split {result['split']}, {clip_words(result)}, "
        title += f"seed {result.get('seed', 'not recorded')}, percent"
        title += seen_words(result)
        tables.append(f"{title}:\n\n{_table(('', *metrics), rows)}")
    return "\n\n".join(tables)


def _files(card: Card, files: Sequence[Path]) -> str:
    rows = [(file.name, CONTENTS[file.name], f"{file.stat().st_size:,}", f"`{sha256(file)}`") for file in files]
    rows.append(
        (card.checkpoint.name, "the checkpoint that was exported, not here", "", f"`{sha256(card.checkpoint)}`")
    )
    text = _table(("file", "what it holds", "bytes", "SHA-256"), rows)
    if card.agreement is not None:
        text += f"\n\nThe features of the ONNX file differ from PyTorch's by at most {card.agreement.difference:.2g}, "
        text += f"where the largest feature is {card.agreement.largest:.2g}. "
        text += f"The number of {_inputs(card)} in a batch is free, the other sizes are fixed."
    return text + "\n\nWritten with " + ", ".join(f"{name} {version}" for name, version in card.versions.items()) + "."


def _loading(card: Card, names: Sequence[str]) -> str:
    module, _, name = card.model["_target_"].rpartition(".")
    arguments = ", ".join(f"{key}={value!r}" for key, value in card.model.items() if key != "_target_")
    inputs = {"inputs": _inputs(card), "shape": _shape(card.input_shape)}
    ways = {
        "backbone.safetensors": ("fedvssl", OURS.format(module=module, name=name, arguments=arguments, **inputs)),
        "torchvision_r3d_18.safetensors": ("torchvision", TORCHVISION),
        "backbone.onnx": ("onnxruntime", ONNX.format(**inputs)),
    }
    for theirs in RESNETS:
        ways[f"torchvision_{theirs}.safetensors"] = "torchvision", TORCHVISION_RESNET.format(name=theirs)
    texts = [f"With {ways[name][0]}:\n\n{_code(ways[name][1], 'python')}" for name in names if name in ways]
    if "backbone.pth" in names:
        own = "" if _medium(card) == "video" else f" model=<this one> input=pictures crop_size={card.input_shape[-1]}"
        texts.append(f"For fine-tuning: `python -m fedvssl.finetune finetune pretrained=backbone.pth{own}`.")
    return "\n\n".join(texts)


def _medium(card: Card) -> str:
    return "video" if len(card.input_shape) == 4 else "picture"


def _inputs(card: Card) -> str:
    """Name of what the backbone takes."""
    return "clips" if _medium(card) == "video" else "pictures"


def _model_name(model: Mapping[str, Any]) -> str:
    """R3D, depth 18, width 64"""
    arguments = [f"{key} {value}" for key, value in model.items() if key != "_target_"]
    return ", ".join([model["_target_"].rpartition(".")[2], *arguments])


def _shape(sizes: Sequence[int]) -> str:
    return f"[B, {', '.join(map(str, sizes))}]"


def _code(text: str, language: str) -> str:
    return f"```{language}\n{text}```"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
