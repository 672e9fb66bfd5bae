"""Our R3D-18 is torchvision's `r3d_18` under other names; only the eps of its BatchNorm must be set to 1e-3.

Stem (3x7x7, stride 1x2x2), blocks, strides and shortcuts are the same; tests/parity/test_r3d.py compares the features.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torchvision.models.video import r3d_18

TORCHVISION = {
    "stem.conv.": "stem.0.",
    "stem.bn.": "stem.1.",
    "conv1.conv.": "conv1.0.",
    "bn1.": "conv1.1.",
    "conv2.conv.": "conv2.0.",
    "bn2.": "conv2.1.",
    "downsample.conv.": "downsample.0.",
    "downsample_bn.": "downsample.1.",
}


def to_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State of an R3D-18 under torchvision's names: all entries of `r3d_18` except its classifier `fc`.

    Raises:
        ValueError: if the backbone is no R3D of depth 18 and width 64.
    """
    renamed = {_rename(name): tensor for name, tensor in state.items()}
    with torch.device("meta"):
        theirs = {name: tensor.shape for name, tensor in r3d_18().state_dict().items() if not name.startswith("fc.")}
    if {name: tensor.shape for name, tensor in renamed.items()} != theirs:
        raise ValueError(
            "torchvision has only an R3D of depth 18 and width 64, this backbone is another: leave torchvision out, "
            "formats=[safetensors,pth,onnx]."
        )
    return renamed


def _rename(name: str) -> str:
    """layer1.0.bn2.weight -> layer1.0.conv2.1.weight"""
    for ours, theirs in TORCHVISION.items():
        name = name.replace(ours, theirs)
    return name
