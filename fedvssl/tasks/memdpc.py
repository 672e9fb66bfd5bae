"""MemDPC: Han et al., "Memory-augmented Dense Predictive Coding", ECCV 2020, arXiv 2008.01065.

From the first blocks of a clip the features of the next ones are predicted, as mixtures of a learned memory; the same
is done backwards. A prediction must fit the feature of its place, block and video better than all others.
Read in the order of the data: `MemDPCSample` (a worker draws the clip), `MemDPC.augment`, `MemDPC.forward`.
Shapes: B batch, N blocks, P predicted blocks, T frames of a block, H W pixels, D features, F of a prediction, M memory.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

from fedvssl.data.video import Video, open_video
from fedvssl.tasks.clips import ClipDraw, clips_of, health_of
from fedvssl.tasks.heads import features_of
from fedvssl.tasks.task import Batch

log = logging.getLogger(__name__)


@lru_cache(maxsize=1 << 16)
def length_of(path: Path) -> int:
    """Number of frames of a video; kept, because every epoch asks."""
    return len(open_video(path))


@dataclass(frozen=True, kw_only=True)
class MemDPCSample:
    """Blocks of frames that follow each other, with one cut and one look.

    Args:
        num_blocks: N.
        clip_len: T.
        frame_stride: frames of the video from one frame of a block to the next.
        draw: draws cut and colours.
    """

    num_blocks: int
    clip_len: int
    frame_stride: int
    draw: ClipDraw

    @property
    def span(self) -> int:
        return self.num_blocks * self.clip_len * self.frame_stride

    def select(self, paths: Sequence[Path]) -> list[int]:
        """Indices of the videos with more frames than the blocks span; others are left out, as published.

        Raises:
            ValueError: if there is no such video.
        """
        asked = length_of.cache_info().misses
        chosen = [index for index, path in enumerate(paths) if length_of(path) > self.span]
        number = f"{len(paths) - len(chosen)} of {len(paths)} videos have at most {self.span} frames"
        if paths and not chosen:
            raise ValueError(f"{number}, too few for MemDPC: give longer ones, or lower task.sample.frame_stride.")
        if len(chosen) < len(paths) and length_of.cache_info().misses > asked:  # not in every epoch
            log.info("%s, too few for MemDPC: they are left out.", number)
        return chosen

    def __call__(self, path: Path, rng: np.random.Generator) -> Batch:
        return self.read(open_video(path), rng)

    def read(self, video: Video, rng: np.random.Generator) -> Batch:
        """Returns "frames" uint8 [N*T,H,W,3] and the parameters of `ClipDraw`."""
        return self.draw.read(video, self.indices(len(video), rng), rng)

    def indices(self, num_frames: int, rng: np.random.Generator) -> np.ndarray:
        """Frames int64 [N*T] from a uniform start.

        Raises:
            ValueError: if the video is too short.
        """
        if num_frames <= self.span:
            raise ValueError(f"A video of {num_frames} frames is too short for MemDPC, which needs {self.span + 1}.")
        start = int(rng.integers(num_frames - self.span))
        return start + self.frame_stride * np.arange(self.num_blocks * self.clip_len)


class ConvGRU(nn.Module):
    """A GRU of 1x1 convolutions over maps [B,F,h,w], with dropout of its state after each step.

    Args:
        channels: F, of input and state.
        dropout: probability with which an entry of the state is dropped in training.
    """

    def __init__(self, channels: int, *, dropout: float) -> None:
        super().__init__()
        self.reset_gate, self.update_gate, self.out_gate = (nn.Conv2d(2 * channels, channels, 1) for _ in range(3))
        self.dropout = nn.Dropout(dropout)
        for gate in (self.reset_gate, self.update_gate, self.out_gate):
            nn.init.orthogonal_(gate.weight)
            nn.init.zeros_(gate.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """Input and state [B,F,h,w] -> the next state."""
        both = torch.cat([x, state], dim=1)
        update, reset = torch.sigmoid(self.update_gate(both)), torch.sigmoid(self.reset_gate(both))
        new = torch.tanh(self.out_gate(torch.cat([x, state * reset], dim=1)))
        return self.dropout(state * (1 - update) + new * update)


class MemDPCHead(nn.Module):
    """Predicts the features of blocks from those before them.

    Args:
        in_channels: D.
        out_channels: F.
        memory_size: M.
        num_predicted: P.
        dropout: of the GRUs.
    """

    def __init__(
        self, in_channels: int, *, out_channels: int, memory_size: int, num_predicted: int, dropout: float
    ) -> None:
        super().__init__()
        self.num_predicted = num_predicted
        self.mb = nn.Parameter(torch.randn(memory_size, out_channels))
        self.proj_head = nn.Conv3d(in_channels, out_channels, 1)
        self.agg_f, self.agg_b = (ConvGRU(out_channels, dropout=dropout) for _ in range(2))
        self.network_pred = nn.Sequential(
            nn.Conv2d(out_channels, out_channels, 1), nn.ReLU(), nn.Conv2d(out_channels, memory_size, 1)
        )

    def forward(self, features: Tensor) -> list[tuple[Tensor, Tensor]]:
        """features [B,N,D,t,h,w] -> (predictions, targets) [B,P,F,h,w] each, forwards and backwards."""
        blocks = self.proj_head(features.flatten(0, 1)).mean(2).unflatten(0, features.shape[:2])
        ways = ((blocks, self.agg_f), (blocks.flip(1), self.agg_b))
        return [(self._predict(own, gru), own[:, -self.num_predicted :]) for own, gru in ways]

    def _predict(self, blocks: Tensor, gru: ConvGRU) -> Tensor:
        """Predictions [B,P,F,h,w] of the last blocks from the ones before them."""
        state = torch.zeros_like(blocks[:, 0])
        for block in blocks[:, : -self.num_predicted].unbind(1):
            state = gru(relu(block), state)
        predictions = []
        for _ in range(self.num_predicted):
            shares = self.network_pred(state).softmax(1)
            predictions.append(torch.einsum("bmhw,mf->bfhw", shares, self.mb.to(shares.dtype)))
            state = gru(relu(predictions[-1]), state)
        return torch.stack(predictions, dim=1)


def dense_nce(predictions: Tensor, targets: Tensor) -> Batch:
    """Cross-entropy of the dot products of all predictions with all targets, on the diagonal.

    Args:
        predictions, targets: [B,P,F,h,w].

    Returns:
        scalars "loss" and "top1_acc", the fraction of predictions that fit their own target best.
    """
    with torch.autocast(predictions.device.type, enabled=False):
        rows = [maps.float().movedim(2, -1).flatten(0, -2) for maps in (predictions, targets)]
        logits = rows[0] @ rows[1].T
    own = torch.arange(len(logits), device=logits.device)
    return {"loss": cross_entropy(logits, own), "top1_acc": (logits.argmax(dim=1) == own).float().mean()}


class MemDPC(nn.Module):
    """The task around a backbone.

    Args:
        backbone: [B,3,T,H,W] -> [B,D,t,h,w], with `out_channels` D.
        num_blocks: N, above P.
        out_channels, memory_size, num_predicted, dropout: see `MemDPCHead`.

    Raises:
        ValueError: if the backbone does not tell its features, or too few blocks are given.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_blocks: int,
        num_predicted: int,
        out_channels: int,
        memory_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        if not 1 <= num_predicted < num_blocks:
            raise ValueError(f"task.module.num_predicted={num_predicted} must be from 1 to {num_blocks - 1}.")
        self.num_blocks = num_blocks
        self.backbone = backbone
        own = {
            "out_channels": out_channels,
            "memory_size": memory_size,
            "num_predicted": num_predicted,
            "dropout": dropout,
        }
        self.head = MemDPCHead(features_of(backbone), **own)

    def augment(self, batch: Batch) -> Batch:
        """Batch of `MemDPCSample` -> "blocks" float32 [B*N,3,T,H,W], "index"."""
        clips = clips_of(batch)
        blocks = clips.unflatten(2, (self.num_blocks, -1)).movedim(2, 1).flatten(0, 1)
        return {"blocks": blocks, "index": batch["index"]}

    def forward(self, batch: Batch) -> Batch:
        """Scalars "loss", the sum of both directions, and "top1_acc", their mean."""
        features = self.backbone(batch["blocks"])
        self.pooled = features.detach().flatten(2).mean(2)
        found = [dense_nce(*pair) for pair in self.head(features.unflatten(0, (-1, self.num_blocks)))]
        self.num_targets = math.prod(features.shape[3:]) * self.head.num_predicted * len(batch["index"])
        return {
            "loss": torch.stack([scalars["loss"] for scalars in found]).sum(),
            "top1_acc": torch.stack([scalars["top1_acc"] for scalars in found]).mean(),
        }

    def trivial(self, batch: Batch) -> Batch:
        """Loss of a guess among the targets of a batch, in both directions: scalar "chance"."""
        return {"chance": torch.tensor(2 * math.log(self.num_targets), device=batch["blocks"].device)}

    def health(self) -> Batch:
        """Scalars of the last step, see `health_of`."""
        return health_of(self.pooled, self.backbone)
