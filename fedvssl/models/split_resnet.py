"""ResNet-18 for split learning: a chain of stages that may be cut after any of them.

Architecture: MocoSFL (Li et al., ICLR 2023), for pictures of some 32 pixels. GroupNorm has four channels a group and
every convolution of the trunk standardises its weights, so a client's batch may be one picture, and a forward pass that
is repeated gives the same numbers and moves no statistics.
Shapes: B batch, C channels, H W pixels, D features, E entries of an embedding.
"""

import re

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from fedvssl.models.layout import without_overrun

CHANNELS_PER_GROUP = 4
NUM_BLOCKS = 8
BOTTLENECK = re.compile(r"C([1-9]\d{0,3})S([1-8])")  # channels and stride


class SplitResNet(nn.Module):
    """Backbone: [B,3,H,W] float -> [B,8*width,H/8,W/8]; its children are its stages, in their order.

    They are `stem`, `block1` to `block8`, and with a bottleneck `narrow` and `widen`: `narrow` is for the client, which
    sends few channels, and `widen` for the server.

    Args:
        width: channels of the stem, a multiple of 4; they double with every second block (64 is the published one).
        bottleneck: "C4S2" for four channels and a stride of 2; None for none.
        bottleneck_after: the stage that the bottleneck follows.

    Raises:
        ValueError: for a width, a bottleneck or a stage that is none.
    """

    is_chain = True  # forward is the children one after the other, see split/cut.py

    def __init__(self, width: int = 64, *, bottleneck: str | None = None, bottleneck_after: str = "stem") -> None:
        super().__init__()
        if width % CHANNELS_PER_GROUP:
            raise ValueError(
                f"model.width={width} must be a multiple of {CHANNELS_PER_GROUP}, the channels of a group."
            )
        channels = [width] + [width * 2 ** (number // 2) for number in range(NUM_BLOCKS)]
        self.out_channels = channels[-1]
        stages: dict[str, nn.Module] = {"stem": Stem(width)}
        for number in range(NUM_BLOCKS):
            stride = 2 if channels[number + 1] > channels[number] else 1
            stages[f"block{number + 1}"] = Block(channels[number], channels[number + 1], stride=stride)
        if bottleneck is not None and bottleneck_after not in [*stages][:-1]:
            names = ", ".join([*stages][:-1])
            raise ValueError(f"model.bottleneck_after={bottleneck_after} is no stage that another follows: {names}.")
        for position, (name, stage) in enumerate(stages.items()):
            self.add_module(name, stage)
            if bottleneck is not None and name == bottleneck_after:
                narrow, widen = bottleneck_of(bottleneck, channels[position])
                self.add_module("narrow", narrow)
                self.add_module("widen", widen)

    def forward(self, pictures: Tensor) -> Tensor:
        """[B,3,H,W] -> features of the last block.

        Raises:
            ValueError: for clips.
        """
        if pictures.ndim != 4:
            raise ValueError(
                f"A SplitResNet takes pictures [B,3,H,W] and got {list(pictures.shape)}: give it pictures "
                "(task=mocosfl), or choose a model for clips such as model=r3d18."
            )
        for stage in self.children():
            pictures = stage(pictures)
        return pictures


class StandardConv(nn.Conv2d):
    """A convolution without bias whose weights are standardised for each output channel; Qiao et al., 1903.10520."""

    def __init__(self, in_channels: int, out_channels: int, size: int, *, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, size, stride, padding=size // 2, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        std, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True)  # over n - 1, as published
        return conv2d(input, (self.weight - mean) / (std + 1e-5), stride=self.stride, padding=self.padding)


class Stem(nn.Module):
    """A 3x3 convolution, GroupNorm, ReLU: [B,3,H,W] -> [B,width,H,W]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = StandardConv(3, width, 3), group_norm(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn1(self.conv1(without_overrun(x, channels=self.conv1.out_channels))))


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: [B,C,H,W] -> [B,channels,H/stride,W/stride]."""

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = StandardConv(in_channels, channels, 3, stride=stride), group_norm(channels)
        self.conv2, self.bn2 = StandardConv(channels, channels, 3), group_norm(channels)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != channels or stride != 1:
            convolution = StandardConv(in_channels, channels, 1, stride=stride)
            self.shortcut = nn.Sequential(convolution, group_norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(residual + self.shortcut(x))


class Head(nn.Module):
    """Linear, ReLU, Linear without normalisation ("V2"): [B,D] -> [B,E], for `task.module.projector`.

    Args:
        in_channels: D.
        hidden_channels: of the hidden layer.
        out_channels: E.

    Attributes:
        active_share: fraction of positive hidden units in the last forward pass, a scalar; None before it.
    """

    active_share: Tensor | None

    def __init__(self, in_channels: int, *, hidden_channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels, self.active_share = out_channels, None
        self.hidden, self.out = nn.Linear(in_channels, hidden_channels), nn.Linear(hidden_channels, out_channels)
        for layer in (self.hidden, self.out):
            xavier(layer)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.hidden(x))
        self.active_share = (x.detach() > 0).float().mean()
        return self.out(x)


def bottleneck_of(text: str, channels: int) -> tuple[nn.Sequential, nn.Sequential]:
    """The two sides of a bottleneck such as "C4S2", both with ReLU: fewer channels at a stride, and back.

    Raises:
        ValueError: if the text names none.
    """
    named = BOTTLENECK.fullmatch(text)
    if named is None:
        raise ValueError(f"model.bottleneck={text} must be channels and stride, such as C4S2, or null.")
    few, stride = int(named[1]), int(named[2])
    narrow = nn.Conv2d(channels, few, 3, stride, padding=1)
    widen = nn.ConvTranspose2d(few, channels, 3, stride, padding=1, output_padding=stride - 1)
    for layer in (narrow, widen):
        xavier(layer)
    return nn.Sequential(narrow, nn.ReLU()), nn.Sequential(widen, nn.ReLU())


def xavier(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Initial weights of what is not standardised: Xavier uniform, biases 0."""
    nn.init.xavier_uniform_(layer.weight)
    assert layer.bias is not None, "these layers have biases"
    nn.init.zeros_(layer.bias)


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels)
