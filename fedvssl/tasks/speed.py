"""SpeedNet: Benaim et al., CVPR 2020, arXiv 2004.06130, in the form of Catch-the-Patch's toolkit with seven speeds.

A clip is played slowly or fast, forwards or backwards, or stands still; the network tells which.
Read in the order of the data: `SpeedSample` (a worker draws the speed), `Speed.augment`, `Speed.forward`.
Shapes: B batch, T frames, H W pixels, K speeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fedvssl.data import sampling
from fedvssl.data.video import Video, open_video
from fedvssl.tasks.clips import ClassHead, ClipDraw, chance, classify, clips_of, health_of
from fedvssl.tasks.heads import features_of
from fedvssl.tasks.task import Batch


@dataclass(frozen=True, kw_only=True)
class SpeedSample:
    """One clip at a random speed.

    Args:
        clip_len: T.
        speeds: frames of the video from one frame of a clip to the next, negative backwards, 0 the same frame T times;
            one is drawn for each clip.
        draw: draws cut and colours.
    """

    clip_len: int
    speeds: Sequence[int]
    draw: ClipDraw

    def __call__(self, path: Path, rng: np.random.Generator) -> Batch:
        return self.read(open_video(path), rng)

    def read(self, video: Video, rng: np.random.Generator) -> Batch:
        """Returns "frames" uint8 [T,H,W,3], the parameters of `ClipDraw`, and "speed", the index of the speed."""
        answer = int(rng.integers(len(self.speeds)))
        return {**self.draw.read(video, self.indices(len(video), answer, rng), rng), "speed": torch.tensor(answer)}

    def indices(self, num_frames: int, answer: int, rng: np.random.Generator) -> np.ndarray:
        """Frames int64 [T] at a speed, clamped to the end of a short video before they are reversed."""
        speed = self.speeds[answer]
        own = {"clip_len": self.clip_len, "strides": [abs(speed)], "jitter": False}
        indices = sampling.random_clip(num_frames, rng, **own)
        return indices[::-1].copy() if speed < 0 else indices


class Speed(nn.Module):
    """The task around a backbone.

    Args:
        backbone: [B,3,T,H,W] -> [B,D,t,h,w], with `out_channels` D.
        speeds: those of the sample, K.
        dropout: probability with which an averaged feature is dropped.

    Raises:
        ValueError: if the backbone does not tell its features.
    """

    def __init__(self, backbone: nn.Module, *, speeds: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.num_speeds = len(speeds)
        self.backbone = backbone
        self.head = ClassHead(features_of(backbone), len(speeds), dropout=dropout)

    def augment(self, batch: Batch) -> Batch:
        """Batch of `SpeedSample` -> "clips" float32 [B,3,T,H,W], "speed", "index"."""
        return {"clips": clips_of(batch), "speed": batch["speed"], "index": batch["index"]}

    def forward(self, batch: Batch) -> Batch:
        """Scalars "loss" and "top1_acc"."""
        return classify(self.head(self.backbone(batch["clips"])), batch["speed"])

    def trivial(self, batch: Batch) -> Batch:
        """Loss of answering by frequency: scalar "chance", ln K."""
        return chance(self.num_speeds, like=batch["clips"])

    def health(self) -> Batch:
        """Scalars of the last step, see `health_of`."""
        return health_of(self.head.pooled.detach(), self.backbone)
