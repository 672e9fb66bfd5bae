"""R3D: a ResNet of 3-D convolutions, the backbone of every pretext task and of the recognizer.

Architecture: Tran et al., "A Closer Look at Spatiotemporal Convolutions", arXiv 1711.11248, with the settings of
Catch-the-Patch (arXiv 2105.02545). The state has the names of the published checkpoints.
Shapes: B batch, C channels, T frames, H W pixels.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d, pad

BLOCKS_PER_STAGE = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


class R3D(nn.Module):
    """Backbone: [B,3,T,H,W] float -> [B, 8*width, T/8, H/s, W/s] with s = 2 * product of `spatial_strides`.

    Args:
        depth: 10, 18 or 34 layers.
        width: channels of the first stage; they double with every later one (64 is the published R3D-18).
        spatial_strides, temporal_strides: of stages 1-4; spatial (1,2,2,1) for Catch-the-Patch, else (1,2,2,2).

    Raises:
        ValueError: for an unknown depth.
    """

    is_chain = True  # forward is the children one after the other, see split/cut.py

    def __init__(
        self,
        depth: int = 18,
        *,
        width: int = 64,
        spatial_strides: Sequence[int] = (1, 2, 2, 2),
        temporal_strides: Sequence[int] = (1, 2, 2, 2),
    ) -> None:
        super().__init__()
        if depth not in BLOCKS_PER_STAGE:
            raise ValueError(f"model.depth={depth} is unknown: choose one of {sorted(BLOCKS_PER_STAGE)}.")
        self.out_channels = 8 * width
        self.spatial_stride, self.temporal_stride = 2 * math.prod(spatial_strides), math.prod(temporal_strides)
        self.stem = Stem(width)
        in_channels = width
        stages = zip(BLOCKS_PER_STAGE[depth], temporal_strides, spatial_strides, strict=True)
        for stage, (num_blocks, temporal, spatial) in enumerate(stages):
            out_channels = width * 2**stage
            blocks = [BasicBlock(in_channels, out_channels, stride=(temporal, spatial, spatial))]
            blocks += [BasicBlock(out_channels, out_channels) for _ in range(num_blocks - 1)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            in_channels = out_channels
        init_weights(self)

    def forward(self, clips: Tensor) -> Tensor:
        """[B,3,T,H,W] -> features of the last stage.

        Raises:
            ValueError: for pictures.
        """
        if clips.ndim != 5:
            raise ValueError(
                f"An R3D takes clips [B,3,T,H,W] and got {list(clips.shape)}: give it clips (input=clips, in "
                "pre-training a task such as ctp), or choose a model for pictures such as model=resnet18."
            )
        for stage in self.children():
            clips = stage(clips)
        return clips


class Stem(nn.Module):
    """7x7 pixels over 3 frames, spatial stride 2, no pooling: [B,3,T,H,W] -> [B,width,T,H/2,W/2]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, width, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False)
        self.bn = batch_norm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu_()


class BasicBlock(nn.Module):
    """Two 3x3x3 convolutions and a shortcut, which is a 1x1x1 convolution where channels or resolution change."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: tuple[int, int, int] = (1, 1, 1)) -> None:
        super().__init__()
        self.conv1 = Conv(in_channels, out_channels, kernel_size=3, stride=stride)
        self.bn1 = batch_norm(out_channels)
        self.conv2 = Conv(out_channels, out_channels, kernel_size=3)
        self.bn2 = batch_norm(out_channels)
        self.projects = in_channels != out_channels or stride != (1, 1, 1)
        if self.projects:
            self.downsample = Conv(in_channels, out_channels, kernel_size=1, stride=stride)
            self.downsample_bn = batch_norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.downsample_bn(self.downsample(x)) if self.projects else x
        x = self.bn1(self.conv1(x)).relu_()
        return self.bn2(self.conv2(x)).add_(shortcut).relu_()


class Conv(nn.Module):
    """A convolution one level down, because the published state names are `conv1.conv.weight`."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, stride: tuple[int, int, int] = (1, 1, 1)
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] == 2 and self.conv.padding[0] == 1 and torch.is_autocast_enabled("cpu"):
            # oneDNN (with torch 2.15) computes the bfloat16 weight gradient of a padded convolution over two frames
            # wrongly, without an error. Padding the frames before the convolution gives the correct result.
            return conv3d(pad(x, (0, 0, 0, 0, 1, 1)), self.conv.weight, stride=self.conv.stride, padding=(0, 1, 1))
        return self.conv(x)


def batch_norm(channels: int) -> nn.BatchNorm3d:
    return nn.BatchNorm3d(channels, eps=1e-3, momentum=0.1)


def init_weights(module: nn.Module) -> None:
    """Kaiming normal (fan out, ReLU) for every convolution below `module`, zero for its bias if it has one."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
