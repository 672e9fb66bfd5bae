"""torchvision's names, against torchvision; tests/test_export.py and tests/parity compare the features."""

from collections.abc import Callable
from functools import partial

import pytest
from torch import nn
from torchvision.models import resnet18, resnet50
from torchvision.models.video import r3d_18

from fedvssl.formats.torchvision_names import to_torchvision
from fedvssl.models.r3d import R3D
from fedvssl.models.resnet import ResNet


@pytest.mark.parametrize(
    ("ours", "name", "theirs"),
    [
        (R3D, "r3d_18", r3d_18),
        (partial(ResNet, 18, stem="imagenet"), "resnet18", resnet18),
        (partial(ResNet, 50, stem="imagenet"), "resnet50", resnet50),
    ],
    ids=["r3d", "resnet18", "resnet50"],
)
def test_every_name_of_torchvision_but_the_classifier_is_made(
    ours: Callable[[], nn.Module], name: str, theirs: type
) -> None:
    expected = {key for key in theirs().state_dict() if not key.startswith("fc.")}
    state = ours().state_dict()
    found, renamed = to_torchvision(state)
    assert found == name and renamed.keys() == expected
    assert all(new is old for new, old in zip(renamed.values(), state.values(), strict=True))


@pytest.mark.parametrize(
    "backbone",
    [R3D(10), R3D(18, width=32), ResNet(18), ResNet(18, width=32, stem="imagenet")],
    ids=["depth 10", "width 32", "CIFAR stem", "ResNet of width 32"],
)
def test_another_backbone_is_refused(backbone: nn.Module) -> None:
    with pytest.raises(ValueError, match="torchvision has only an R3D of depth 18 and ResNets with the ImageNet stem"):
        to_torchvision(backbone.state_dict())
