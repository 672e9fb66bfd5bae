"""Names of other programs for our entries: of torchvision's r3d_18, and of a ResNet as nn.Sequential of its children.

A ResNet for pictures has torchvision's names.
"""

import re

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


def torchvision_name(name: str) -> str:
    """layer1.0.bn2.weight -> layer1.0.conv2.1.weight"""
    for ours, theirs in TORCHVISION.items():
        name = name.replace(ours, theirs)
    return name


def sequential_name(name: str) -> str:
    """conv1.weight -> 0.weight, layer1.0.bn2.weight -> 4.0.bn2.weight: places 2 and 3 are ReLU and pooling."""
    name = re.sub(r"^conv1\.", "0.", re.sub(r"^bn1\.", "1.", name))
    return re.sub(r"^layer(\d)\.", lambda found: f"{int(found[1]) + 3}.", name)
