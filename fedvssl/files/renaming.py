"""Names of torchvision's r3d_18 for the entries of our R3D-18; ResNets for pictures have the same names in both."""

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
