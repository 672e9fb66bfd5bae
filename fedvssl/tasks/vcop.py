"""VCOP: Xu et al., "Self-supervised Spatiotemporal Learning via Video Clip Order Prediction", CVPR 2019.

Three clips of a video come in one of six orders; the network tells which.
Read in the order of the data: `VCOPSample` (a worker draws the order), `VCOP.augment`, `VCOP.forward`.
Shapes: B batch, N clips, T frames, H W pixels, D features, E entries of a pair.
"""

from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedvssl.data import augment
from fedvssl.data.video import Video, open_video
from fedvssl.tasks.clips import ClipDraw, chance, classify, health_of
from fedvssl.tasks.heads import features_of
from fedvssl.tasks.task import Batch

NUM_CLIPS = 3
ORDERS = tuple(permutations(range(NUM_CLIPS)))
PAIRS = tuple(combinations(range(NUM_CLIPS), 2))


@dataclass(frozen=True, kw_only=True)
class VCOPSample:
    """Three clips of consecutive frames in a random order, with one cut for all.

    Args:
        clip_len: T.
        gap: most frames between two clips.
        draw: draws the cut; its colours and its mirroring are not used.
    """

    clip_len: int
    gap: int
    draw: ClipDraw

    def __call__(self, path: Path, rng: np.random.Generator) -> Batch:
        return self.read(open_video(path), rng)

    def read(self, video: Video, rng: np.random.Generator) -> Batch:
        """Returns "frames" uint8 [3,T,H,W,3] in the drawn order, and "order", its index among `ORDERS`."""
        answer = int(rng.integers(len(ORDERS)))
        indices = self.indices(len(video), rng)
        frames = self.draw.read(video, indices.flatten(), rng)["frames"].unflatten(0, indices.shape)
        return {"frames": frames[list(ORDERS[answer])], "order": torch.tensor(answer)}

    def indices(self, num_frames: int, rng: np.random.Generator) -> np.ndarray:
        """Frames int64 [3,T] in their true order; the clips of a short video overlap, and are clamped to its end."""
        room = (num_frames - NUM_CLIPS * self.clip_len) // (NUM_CLIPS - 1)
        if room > 0:
            gap = min(self.gap, room)
            span = NUM_CLIPS * self.clip_len + (NUM_CLIPS - 1) * gap
            start = int(rng.integers(0, num_frames - span, endpoint=True))
            starts = start + (self.clip_len + gap) * np.arange(NUM_CLIPS)
        else:
            part = max(0, num_frames - self.clip_len + 1) / NUM_CLIPS
            starts = (part * (np.arange(NUM_CLIPS) + 0.5)).astype(np.int64)
        return np.minimum(starts[:, None] + np.arange(self.clip_len), num_frames - 1)


class VCOPHead(nn.Module):
    """Tells the order of clips from their averaged features: [B,3,D] -> logits float32 [B,6].

    Args:
        in_channels: D.
        hidden_channels: E.
        dropout: probability with which an entry of a pair is dropped in training.

    Attributes:
        active_share: fraction of positive entries of the pairs in the last forward pass, a scalar.
    """

    active_share: Tensor

    def __init__(self, in_channels: int, *, hidden_channels: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(2 * in_channels, hidden_channels)
        self.fc2 = nn.Linear(len(PAIRS) * hidden_channels, len(ORDERS))
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        pairs = [torch.relu(self.fc1(features[:, pair].flatten(1))) for pair in PAIRS]
        hidden = torch.cat(pairs, dim=1)
        self.active_share = (hidden.detach() > 0).float().mean()
        return self.fc2(self.dropout(hidden)).float()


class VCOP(nn.Module):
    """The task around a backbone.

    Args:
        backbone: [B,3,T,H,W] -> [B,D,t,h,w], with `out_channels` D.
        hidden_channels, dropout: see `VCOPHead`.

    Raises:
        ValueError: if the backbone does not tell its features.
    """

    def __init__(self, backbone: nn.Module, *, hidden_channels: int, dropout: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = VCOPHead(features_of(backbone), hidden_channels=hidden_channels, dropout=dropout)

    def augment(self, batch: Batch) -> Batch:
        """Batch of `VCOPSample` -> "clips" float32 [3*B,3,T,H,W], "order", "index"."""
        clips = augment.normalize(batch["frames"].flatten(0, 1).float())
        return {"clips": clips, "order": batch["order"], "index": batch["index"]}

    def forward(self, batch: Batch) -> Batch:
        """Scalars "loss" and "top1_acc"."""
        pooled = self.backbone(batch["clips"]).flatten(2).mean(2)
        self.pooled = pooled.detach()
        return classify(self.head(pooled.unflatten(0, (-1, NUM_CLIPS))), batch["order"])

    def trivial(self, batch: Batch) -> Batch:
        """Loss of answering by frequency: scalar "chance", ln 6."""
        return chance(len(ORDERS), like=batch["clips"])

    def health(self) -> Batch:
        """Scalars of the last step, see `health_of`, and "active_share" of the head's pairs."""
        return {**health_of(self.pooled, self.backbone), "active_share": self.head.active_share}
