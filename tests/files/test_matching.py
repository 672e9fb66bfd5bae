"""Checkpoints of other programs: each form of the same numbers, and the line that tells what was read."""

import argparse
import collections
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fedvssl.files.backbone import load_backbone
from fedvssl.files.renaming import sequential_name, torchvision_name
from fedvssl.models.r3d import R3D
from fedvssl.models.resnet import ResNet

State = dict[str, Tensor]


def tiny() -> R3D:
    return R3D(10, width=2)


def named(state: State, prefix: str = "backbone.") -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def larger(state: State) -> State:
    return {name: tensor + 1 for name, tensor in state.items()}


def without_counters(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if "num_batches" not in name}


def foreign_object() -> Any:
    sys.modules["mmx"] = module = types.ModuleType("mmx")
    module.Buffer = type("Buffer", (), {"__module__": "mmx"})  # pyright: ignore[reportAttributeAccessIssue]
    buffer = module.Buffer()
    buffer.values = np.zeros(3)
    return buffer


# Content of the file -> words of the line; "" for none.
FORMS: dict[str, tuple[Callable[[State], Any], str]] = {
    "ours": (lambda s: {"state_dict": named(s)}, ""),
    "a classifier beside it": (lambda s: {"model": named(s) | {"head.weight": torch.zeros(2)}}, ""),
    "data parallel": (lambda s: {"state_dict": named(s, "module.backbone.")}, "'module.backbone.*' in 'state_dict'"),
    "bare": (lambda s: s, "bare names"),
    "bare with a classifier": (
        lambda s: {"model_state": {**s, "fc.weight": torch.zeros(2)}},
        "bare names in 'model_state'",
    ),
    "momentum contrast": (
        lambda s: {"state_dict": named(s, "encoder_q.0.") | named(larger(s), "encoder_k.0.")},
        "'encoder_q.0.*' in 'state_dict'; 'encoder_k.0.*' in 'state_dict' would fit too",
    ),
    "teacher": (lambda s: {"student": larger(s), "teacher": named(s, "module.")}, "'module.*' in 'teacher'"),
    "online": (lambda s: {"target": larger(s), "online": {"net": s}}, "bare names in 'online.net'"),
    "the same twice": (lambda s: {"a": named(s), "b": named(s)}, "'backbone.*' in 'a'"),
    "a word nobody knows": (lambda s: named(s, "video_tower."), "'video_tower.*'"),
    "torchvision": (lambda s: {torchvision_name(name): t for name, t in s.items()}, "torchvision's names"),
    "torchvision, parallel": (
        lambda s: named({torchvision_name(name): t for name, t in s.items()}, "module."),
        "torchvision's names after 'module.'",
    ),
    "no counters": (lambda s: named(without_counters(s)), "no counters of BatchNorm, which start at 0"),
    "half precision": (lambda s: named({n: t.half() if t.is_floating_point() else t for n, t in s.items()}), ""),
    "counters as floats": (lambda s: named({n: t.double() for n, t in s.items()}), ""),
    "settings": (lambda s: {"args": argparse.Namespace(lr=1), "state_dict": named(s)}, "'argparse.Namespace'"),
    "a number of numpy": (lambda s: {"meta": {"lr": np.float64(1)}, "state_dict": named(s)}, "multiarray.scalar'"),
    "an unknown class": (lambda s: {"hub": [foreign_object()], "state_dict": named(s)}, "'mmx.Buffer'"),
    "a queue": (lambda s: {"last": collections.deque([1]), "state_dict": named(s)}, "'collections.deque'"),
    "parameters": (lambda s: named({n: nn.Parameter(t, requires_grad=False) for n, t in s.items()}), ""),
}


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
@pytest.mark.parametrize("form", FORMS)
def test_a_pth_of_every_form(form: str, old: bool, tmp_path: Path) -> None:
    source, target, lines = filled(tiny()), tiny(), []
    make, words = FORMS[form]
    torch.save(make(dict(source.state_dict())), tmp_path / "x.pth", _use_new_zipfile_serialization=not old)
    load_backbone(target, tmp_path / "x.pth", tell=lines.append)
    tolerance = 1e-3 if form == "half precision" else 0
    for (name, own), loaded in zip(source.state_dict().items(), target.state_dict().values(), strict=True):
        expected = torch.zeros_like(own) if form == "no counters" and "num_batches" in name else own
        torch.testing.assert_close(loaded, expected, rtol=tolerance, atol=tolerance, msg=name)
    if not words:
        assert not lines
    else:
        assert len(lines) == 1 and lines[0].startswith(str(tmp_path / "x.pth"))
        assert all(part in lines[0] for part in words.split("; "))


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
@pytest.mark.parametrize("form", ["ours", "bare", "a word nobody knows", "torchvision", "no counters"])
def test_arrays_and_safetensors_of_the_same_forms(form: str, kind: str, tmp_path: Path) -> None:
    source, target, path = filled(tiny()), tiny(), tmp_path / f"x.{kind}"
    state = FORMS[form][0](dict(source.state_dict()))
    state = state.get("state_dict", state)
    if kind == "npz":
        np.savez_compressed(path, **{name: tensor.numpy() for name, tensor in state.items()})  # pyright: ignore[reportArgumentType]
    else:
        save_file(state, path)
    load_backbone(target, path, tell=lambda _line: None)
    assert torch.equal(target.stem.bn.running_mean, source.stem.bn.running_mean)  # pyright: ignore[reportArgumentType]
    assert torch.equal(target.layer4[0].conv2.conv.weight, source.layer4[0].conv2.conv.weight)  # pyright: ignore


def test_a_resnet_as_numbered_layers(tmp_path: Path) -> None:
    source, target, lines = filled(ResNet(18, width=2)), ResNet(18, width=2), []
    torch.save({f"backbone.{sequential_name(name)}": t for name, t in source.state_dict().items()}, tmp_path / "x.pth")
    load_backbone(target, tmp_path / "x.pth", tell=lines.append)
    assert torch.equal(target.conv1.weight, source.conv1.weight) and "numbered layers after 'backbone.'" in lines[0]


UNFIT: dict[str, tuple[Callable[[State], Any], str]] = {
    "two of equal right": (
        lambda s: {"a": s, "b": larger(s)},
        r"holds two backbones, bare names in 'a' and bare names in",
    ),
    "a name is missing": (lambda s: {n: t for n, t in s.items() if n != "stem.bn.bias"}, r"has no 'stem\.bn\.bias'"),
    "the first is missing": (lambda s: named({n: t for n, t in [*s.items()][1:]}), r"has no 'backbone\.stem\.conv\.w"),
    "some counters are missing": (
        lambda s: named({n: t for n, t in s.items() if n != "stem.bn.num_batches_tracked"}),
        r"has no 'backbone\.stem\.bn\.num_batches_tracked'",
    ),
    "a further stage": (lambda s: {**s, "layer5.0.conv1.conv.weight": torch.zeros(1)}, r"has an unknown 'layer5\."),
    "another shape": (lambda s: {**s, "stem.conv.weight": torch.zeros(3)}, r"'stem\.conv\.weight' is \[3\] in"),
    "complex": (lambda s: {n: t.to(torch.complex64) for n, t in s.items()}, "is complex64 in .* float32 in the model"),
    "integers": (lambda s: {n: t.int() for n, t in s.items()}, "is int32 in .* and float32 in the model"),
    "too large for us": (lambda s: {n: t.double() * 1e300 for n, t in s.items()}, "not finite: take an earlier round"),
    "another model": (
        lambda _: {"a.b": torch.zeros(1), "c": torch.zeros(1)},
        r"holds 'a\.b', 'c', expected are .*'backbone\.stem",
    ),
    "no tensors": (lambda _: {"epoch": 3}, "holds no named tensors, expected are"),
    "a whole module": (lambda _: nn.Linear(2, 2), r"save the model's state_dict\(\)"),
}


@pytest.mark.parametrize("form", UNFIT)
def test_what_does_not_fit_is_refused_and_nothing_is_loaded(form: str, tmp_path: Path) -> None:
    target = tiny()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    make, words = UNFIT[form]
    torch.save(make(dict(filled(tiny()).state_dict())), tmp_path / "x.pth")
    with pytest.raises(ValueError, match=words):
        load_backbone(target, tmp_path / "x.pth")
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())


def filled(module: Any) -> Any:
    """The module with small numbers that all differ from those of a new one."""
    torch.manual_seed(7)
    for tensor in module.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape) + 3)
    return module
