"""Parts that the tasks of whole clips share: cut and colours, a classification head, signs of life.

A worker draws all random parameters (`ClipDraw`), the device applies them to a whole batch (`clips_of`).
Shapes: B batch, T frames, H W pixels, D features, K classes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import get_total_norm

from fedvssl.data import augment, geometry, sampling
from fedvssl.data.video import Video, open_video
from fedvssl.tasks.heads import embedding_std
from fedvssl.tasks.task import Batch


@dataclass(frozen=True, kw_only=True)
class ClipDraw:
    """Cut and colours of a clip, the same in all its frames. Without the optional settings a clip is only cut.

    Args:
        sizes: (long, short) sides of the frames in pixels; one is drawn for each clip.
        short_sides: their short side, at the same aspect ratio, in the place of `sizes`.
        crop_size: H and W of the random crop.
        flip_prob, brightness_prob, contrast_prob, hue_prob: probability of each.
        brightness: largest change in grey levels.
        contrast: the factor is exp(uniform(-contrast, contrast)).
        hue: largest shift of the hue, of 180 steps.
        saturation: the factor is exp(uniform(-saturation, saturation)); with the hue.

    Raises:
        ValueError: if the crop does not fit, or not one of both is given.
    """

    sizes: Sequence[tuple[int, int]] = ()
    short_sides: Sequence[int] = ()
    crop_size: int
    flip_prob: float = 0.0
    brightness_prob: float = 0.0
    brightness: float = 0.0
    contrast_prob: float = 0.0
    contrast: float = 0.0
    hue_prob: float = 0.0
    hue: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        if bool(self.sizes) == bool(self.short_sides):
            raise ValueError("task.sample.draw needs sizes or short_sides, one of both.")
        shortest = min([*map(min, self.sizes), *self.short_sides])
        if self.crop_size > shortest:
            raise ValueError(
                f"task.sample.draw.crop_size={self.crop_size} does not fit into frames of {shortest} pixels: lower "
                "crop_size or raise the sizes."
            )

    def read(self, video: Video, indices: np.ndarray, rng: np.random.Generator) -> Batch:
        """Decode and crop frames int64 [T]. Returns "frames" uint8 [T,H,W,3], and float32 and bool scalars."""
        scales: list[geometry.Scale] = [*((long, short) for long, short in self.sizes), *self.short_sides]
        scale = scales[int(rng.integers(len(scales)))]
        frames = video.read(indices, geometry.random_crop(scale, rng, size=self.crop_size))
        brightness = rng.uniform(-self.brightness, self.brightness) if rng.random() < self.brightness_prob else 0.0
        contrast = np.exp(rng.uniform(-self.contrast, self.contrast)) if rng.random() < self.contrast_prob else 1.0
        numbers = {
            "brightness": brightness,
            "contrast": contrast,
            "hue": rng.uniform(-self.hue, self.hue),
            "saturation": np.exp(rng.uniform(-self.saturation, self.saturation)),
        }
        return {
            "frames": torch.from_numpy(frames),
            "flip": torch.tensor(rng.random() < self.flip_prob),
            "recolour": torch.tensor(rng.random() < self.hue_prob),
            **{name: torch.tensor(float(value)) for name, value in numbers.items()},
        }


def clips_of(batch: Batch, *, then: Callable[[Tensor, Batch], Tensor] = lambda frames, _: frames) -> Tensor:
    """Apply what `ClipDraw` drew for a batch: uint8 "frames" [B,T,H,W,3] -> normalised float32 [B,3,T,H,W].

    Args:
        batch: parameters [B], and what `then` needs.
        then: (frames float32 [B,T,H,W,3], part of the batch) -> frames.
    """

    def look(part: Batch) -> Tensor:
        num_frames = part["frames"].shape[1]
        brightness, contrast = (part[name][:, None].expand(-1, num_frames) for name in ("brightness", "contrast"))
        frames = augment.flip(part["frames"], part["flip"]).float()
        frames = augment.contrast(augment.brightness(frames, brightness), contrast)
        own = {"flags": part["recolour"], "hue": part["hue"], "saturation": part["saturation"]}
        return then(augment.hue_saturation(frames, **own), part)

    return augment.normalize(torch.cat([look(part) for part in augment.parts(batch)]))


@dataclass(frozen=True, kw_only=True)
class DrawnClip:
    """One clip of a video, with drawn frames, cut and colours.

    Args:
        clip_len: T.
        strides: the distance between the frames of a clip is drawn from these, with jitter.
        draw: draws cut and colours.
    """

    clip_len: int
    strides: Sequence[int]
    draw: ClipDraw

    def __call__(self, path: Path, rng: np.random.Generator) -> Batch:
        return self.read(open_video(path), rng)

    def read(self, video: Video, rng: np.random.Generator) -> Batch:
        """Returns "frames" uint8 [T,H,W,3] and the parameters of `ClipDraw`."""
        own = {"clip_len": self.clip_len, "strides": self.strides, "jitter": True}
        return self.draw.read(video, sampling.random_clip(len(video), rng, **own), rng)


class TwoDrawnClips(DrawnClip):
    """Two clips of a video, each with frames, cut and colours of its own; for tasks that compare two views."""

    def read(self, video: Video, rng: np.random.Generator) -> Batch:
        """Returns "frames" uint8 [2,T,H,W,3] and the parameters of `ClipDraw` [2]."""
        first, second = super().read(video, rng), super().read(video, rng)
        return {name: torch.stack([first[name], second[name]]) for name in first}


class DrawnViews:
    """The device's half: a batch of `TwoDrawnClips` -> "view1" and "view2"."""

    def __call__(self, batch: Batch) -> Batch:
        """Returns "view1" and "view2" float32 [B,3,T,H,W], and "index"."""
        names = batch.keys() - {"label", "index"}
        views = [clips_of({name: batch[name][:, number] for name in names}) for number in range(2)]
        return {"view1": views[0], "view2": views[1], "index": batch["index"]}


class ClassHead(nn.Module):
    """Global average, dropout and a linear layer with small initial weights: [B,D,t,h,w] -> logits float32 [B,K].

    Args:
        in_channels: D.
        num_classes: K.
        dropout: probability with which an averaged feature is dropped in training.
    """

    def __init__(self, in_channels: int, num_classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc_cls = nn.Linear(in_channels, num_classes)
        nn.init.normal_(self.fc_cls.weight, std=0.01)
        nn.init.zeros_(self.fc_cls.bias)

    def forward(self, features: Tensor) -> Tensor:
        self.pooled = features.flatten(2).mean(2)
        return self.fc_cls(self.dropout(self.pooled)).float()


def classify(logits: Tensor, answers: Tensor) -> Batch:
    """Scalars "loss", the mean cross-entropy, and "top1_acc". logits: [B,K]. answers: int64 [B]."""
    return {"loss": cross_entropy(logits, answers), "top1_acc": (logits.argmax(dim=1) == answers).float().mean()}


def chance(num_classes: int, like: Tensor) -> Batch:
    """Loss of answering by frequency, where all answers are as frequent: scalar "chance", ln K."""
    return {"chance": torch.tensor(math.log(num_classes), device=like.device)}


def health_of(pooled: Tensor, backbone: nn.Module) -> Batch:
    """Scalars "embedding_std" of averaged features [B,D], and "backbone_grad_norm" (L2)."""
    gradients = [weight.grad for weight in backbone.parameters() if weight.grad is not None]
    return {"embedding_std": embedding_std(pooled.float()), "backbone_grad_norm": get_total_norm(gradients)}
