"""ResNet of 2-D convolutions, the backbone for pictures.

Architecture: He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385. The stride of a bottleneck is
on its 3x3 convolution, and the state has torchvision's names without `fc`, so torchvision's weights fit at width 64.
Shapes: B batch, C channels, H W pixels.
"""

from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from fedvssl.models.layout import without_overrun

BLOCKS_PER_STAGE = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
STEMS = ("cifar", "imagenet")


class ResNet(nn.Module):
    """Backbone: [B,3,H,W] float -> [B,8*width,H/s,W/s], four times the channels at depth 50; s 8 (cifar) or 32.

    Args:
        depth: 18, 34 or 50 layers.
        width: channels of the first stage; they double with every later one (64 is the published ResNet).
        stem: "cifar": a 3x3 convolution of stride 1, for pictures of some 32 pixels. "imagenet": a 7x7 convolution of
            stride 2 and a 3x3 maximum of stride 2.

    Raises:
        ValueError: for an unknown depth or stem.
    """

    def __init__(self, depth: int = 18, *, width: int = 64, stem: str = "cifar") -> None:
        super().__init__()
        if depth not in BLOCKS_PER_STAGE:
            raise ValueError(f"model.depth={depth} is unknown: choose one of {sorted(BLOCKS_PER_STAGE)}.")
        if stem not in STEMS:
            raise ValueError(f"model.stem={stem} is unknown: choose one of {', '.join(STEMS)}.")
        block = Bottleneck if depth >= 50 else BasicBlock
        self.stem, self.out_channels = stem, 8 * width * block.expansion
        size, stride = (3, 1) if stem == "cifar" else (7, 2)
        self.conv1 = nn.Conv2d(3, width, size, stride, padding=size // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        in_channels = width
        for stage, num_blocks in enumerate(BLOCKS_PER_STAGE[depth]):
            channels = width * 2**stage
            blocks: list[nn.Module] = [block(in_channels, channels, stride=1 if stage == 0 else 2)]
            in_channels = channels * block.expansion
            blocks += [block(in_channels, channels) for _ in range(num_blocks - 1)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pictures: Tensor) -> Tensor:
        """[B,3,H,W] -> features of the last stage.

        Raises:
            ValueError: for clips.
        """
        if pictures.ndim != 4:
            raise ValueError(
                f"A ResNet takes pictures [B,3,H,W] and got {list(pictures.shape)}: give it pictures (input=pictures, "
                "in pre-training a task such as simclr), or choose a model for clips such as model=r3d18."
            )
        x = self.bn1(self.conv1(without_overrun(pictures, channels=self.bn1.num_features))).relu_()
        if self.stem == "imagenet":
            x = max_pool2d(x, 3, stride=2, padding=1)
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return x


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: [B,C,H,W] -> [B,channels,H/stride,W/stride]."""

    expansion = 1  # channels that leave a block over those inside it

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = shortcut(in_channels, channels, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn1(self.conv1(x)).relu_()
        return self.bn2(self.conv2(residual)).add_(self.downsample(x)).relu_()


class Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1: [B,C,H,W] -> [B,4*channels,H/stride,W/stride]."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.downsample = shortcut(in_channels, channels * self.expansion, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn1(self.conv1(x)).relu_()
        residual = self.bn2(self.conv2(residual)).relu_()
        return self.bn3(self.conv3(residual)).add_(self.downsample(x)).relu_()


def shortcut(in_channels: int, out_channels: int, *, stride: int) -> nn.Module:
    """A 1x1 convolution with BatchNorm where channels or resolution change, else the input itself."""
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    convolution = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))
