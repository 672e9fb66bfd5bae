"""Rot3D: Jing et al., arXiv 1811.11387.

A clip is turned by 0, 90, 180 or 270 degrees; the network tells by how much.
Read in the order of the data: `Rot3DSample` (a worker draws the turn), `Rot3D.augment` turns, `Rot3D.forward`.
Shapes: B batch, T frames, H W pixels.
"""

import numpy as np
import torch
from torch import Tensor, nn

from fedvssl.data.video import Video
from fedvssl.tasks.clips import ClassHead, DrawnClip, chance, classify, clips_of, health_of
from fedvssl.tasks.heads import features_of
from fedvssl.tasks.task import Batch

TURNS = 4


class Rot3DSample(DrawnClip):
    """One clip and its turn."""

    def read(self, video: Video, rng: np.random.Generator) -> Batch:
        """Returns what `DrawnClip` does, and "turn", from 0 to 3."""
        answer = int(rng.integers(TURNS))
        return {**super().read(video, rng), "turn": torch.tensor(answer)}


def turned(frames: Tensor, turns: Tensor) -> Tensor:
    """Turn clips counter-clockwise by quarters: [B,T,H,H,3], int64 [B] -> [B,T,H,H,3].

    Deviation: an exact quarter turn; the published code turns about a point half a pixel off and repeats a border.
    """
    turned = frames
    for quarters in range(1, TURNS):
        is_meant = (turns == quarters).view(-1, 1, 1, 1, 1)
        turned = torch.where(is_meant, frames.rot90(quarters, (2, 3)), turned)
    return turned


class Rot3D(nn.Module):
    """The task around a backbone.

    Args:
        backbone: [B,3,T,H,W] -> [B,D,t,h,w], with `out_channels` D.
        dropout: probability with which an averaged feature is dropped.

    Raises:
        ValueError: if the backbone does not tell its features.
    """

    def __init__(self, backbone: nn.Module, *, dropout: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = ClassHead(features_of(backbone), TURNS, dropout=dropout)

    def augment(self, batch: Batch) -> Batch:
        """Batch of `Rot3DSample` -> "clips" float32 [B,3,T,H,W], turned after they are mirrored, "turn", "index"."""
        clips = clips_of(batch, then=lambda frames, part: turned(frames, part["turn"]))
        return {"clips": clips, "turn": batch["turn"], "index": batch["index"]}

    def forward(self, batch: Batch) -> Batch:
        """Scalars "loss" and "top1_acc"."""
        return classify(self.head(self.backbone(batch["clips"])), batch["turn"])

    def trivial(self, batch: Batch) -> Batch:
        """Loss of answering by frequency: scalar "chance", ln 4."""
        return chance(TURNS, like=batch["clips"])

    def health(self) -> Batch:
        """Scalars of the last step, see `health_of`."""
        return health_of(self.head.pooled.detach(), self.backbone)
