"""Our R3D-18 and ResNets are torchvision's under other or the same names; of R3D-18 the eps of BatchNorm differs, 1e-3.

Stem, blocks, strides and shortcuts are the same; tests/parity/test_r3d.py and test_resnet.py compare the features.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torchvision.models import resnet18, resnet34, resnet50
from torchvision.models.video import r3d_18

from fedvssl.files.renaming import torchvision_name

MODELS = {"r3d_18": r3d_18, "resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}


def to_torchvision(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Name of torchvision's model and its state: all entries but those of its classifier `fc`.

    Raises:
        ValueError: if torchvision has no such backbone.
    """
    for name, build in MODELS.items():
        with torch.device("meta"):
            theirs = {key: tensor.shape for key, tensor in build().state_dict().items() if not key.startswith("fc.")}
        own = {(torchvision_name(key) if name == "r3d_18" else key): tensor for key, tensor in state.items()}
        if {key: tensor.shape for key, tensor in own.items()} == theirs:
            return name, own
    raise ValueError(
        "torchvision has only an R3D of depth 18 and ResNets with the ImageNet stem, all of width 64, and this "
        "backbone is another."
    )
