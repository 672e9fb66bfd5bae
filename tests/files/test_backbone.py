"""Every kind of file that holds a backbone; the published pickles are in tests/test_finetune_preprocess.py."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedvssl.files.arrays import save_arrays
from fedvssl.files.backbone import load_backbone, load_weights, recognizer_state
from fedvssl.files.tensors import save_torch, to_arrays
from fedvssl.models.r3d import R3D
from fedvssl.models.recognizer import Recognizer


def tiny() -> R3D:
    return R3D(10, width=4)


def save(kind: str, backbone: R3D, folder: Path) -> Path:
    state = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    recognizer = Recognizer(backbone, num_classes=3).state_dict()
    if kind == "round":
        path = folder / "round-2-weights.npz"
        arrays = {f"backbone.{name}": array for name, array in to_arrays(backbone).items()}
        save_arrays(path, {**arrays, "head.fc1.weight": np.zeros((2, 2), np.float32)})
        return path
    path = folder / "x.pth"
    save_torch(
        path,
        {
            "pretrained": state,
            "fine-tuned": {"model": recognizer, "epoch": 3},
            "published": {"state_dict": recognizer, "meta": {}},
        }[kind],
    )
    return path


@pytest.mark.parametrize("kind", ["round", "pretrained", "fine-tuned", "published"])
def test_the_backbone_of_every_kind_of_checkpoint(kind, tmp_path):
    backbone, other = tiny(), tiny()
    load_backbone(other, save(kind, backbone, tmp_path))
    for (name, own), loaded in zip(backbone.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(own, loaded), name


@pytest.mark.parametrize("kind", ["round", "fine-tuned"])
def test_another_architecture_is_refused_by_name(kind, tmp_path):
    path = save(kind, tiny(), tmp_path)
    with pytest.raises(ValueError, match=r"'backbone\.stem\.conv\.weight' is \[4, 3, 3, 7, 7\] in .* and \[8, "):
        load_backbone(R3D(10, width=8), path)
    with pytest.raises(ValueError, match=r"has no 'backbone\.layer1"):
        load_backbone(R3D(18, width=4), path)


def test_a_file_without_a_backbone_is_refused(tmp_path):
    save_torch(tmp_path / "x.pth", {"head.weight": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"it holds 'head\.weight', expected are names such as 'backbone\.stem"):
        load_backbone(tiny(), tmp_path / "x.pth")


@pytest.mark.parametrize("key", ["model", "state_dict", None])
def test_weights_load_from_our_and_from_published_checkpoints(key: str | None) -> None:
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    checkpoint = {key: source.state_dict(), "epoch": 3} if key else source.state_dict()
    load_weights(target, recognizer_state(checkpoint, path=Path("x.pth")), path=Path("x.pth"))
    assert torch.equal(source.weight, target.weight)


@pytest.mark.parametrize(
    "content", [[torch.zeros(1)], torch.zeros(1), {"model": 3}, {"weight": [1.0]}, {1: torch.zeros(1)}]
)
def test_a_file_without_named_tensors_is_refused(content: object) -> None:
    with pytest.raises(ValueError, match=r"x\.pth holds no named tensors"):
        recognizer_state(content, path=Path("x.pth"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda state: state.pop("bias"), "x.pth has no 'bias'"),
        (lambda state: state.update(extra=torch.zeros(1)), "x.pth has an unknown 'extra'"),
        (lambda state: state.update(weight=torch.zeros(4, 3)), r"'weight' is \[4, 3\] in x.pth and \[2, 3\]"),
    ],
)
def test_unfitting_weights_are_refused_by_name(change, sentence: str) -> None:
    state = dict(nn.Linear(3, 2).state_dict())
    change(state)
    with pytest.raises(ValueError, match=sentence):
        load_weights(nn.Linear(3, 2), state, path=Path("x.pth"))
