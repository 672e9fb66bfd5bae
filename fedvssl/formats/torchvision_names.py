"""Our R3D-18 and ResNets are torchvision's under other or the same names; of R3D-18 the eps of BatchNorm differs, 1e-3.

Stem, blocks, strides and shortcuts are the same; tests/parity/test_r3d.py and test_resnet.py compare the features.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torchvision.models import resnet18, resnet34, resnet50
from torchvision.models.video import r3d_18

MODELS = {"r3d_18": r3d_18, "resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}
RENAMED = {
    "stem.conv.": "stem.0.",
    "stem.bn.": "stem.1.",
    "conv1.conv.": "conv1.0.",
    "bn1.": "conv1.1.",
    "conv2.conv.": "conv2.0.",
    "bn2.": "conv2.1.",
    "downsample.conv.": "downsample.0.",
    "downsample_bn.": "downsample.1.",
}


def to_torchvision(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Name of torchvision's model and its state: all entries but those of its classifier `fc`.

    Raises:
        ValueError: if torchvision has no such backbone.
    """
    for name, build in MODELS.items():
        with torch.device("meta"):
            theirs = {key: tensor.shape for key, tensor in build().state_dict().items() if not key.startswith("fc.")}
        own = {(_rename(key) if name == "r3d_18" else key): tensor for key, tensor in state.items()}
        if {key: tensor.shape for key, tensor in own.items()} == theirs:
            return name, own
    raise ValueError(
        "torchvision has only an R3D of depth 18 and ResNets with the ImageNet stem, all of width 64, and this "
        "backbone is another."
    )


def _rename(name: str) -> str:
    """layer1.0.bn2.weight -> layer1.0.conv2.1.weight"""
    for ours, theirs in RENAMED.items():
        name = name.replace(ours, theirs)
    return name
