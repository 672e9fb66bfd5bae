"""Supervised action recognition: the clips of fine-tuning and testing, and the Task with its logits of whole videos.

Settings: Catch-the-Patch (arXiv 2105.02545) as fine-tuned by FedVSSL (arXiv 2207.01975).
Shapes: B batch, N clips per video, T frames, H W pixels, K classes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedvssl.data import augment, geometry, sampling
from fedvssl.data.video import Video, open_video
from fedvssl.tasks.task import Batch


@dataclass(frozen=True, kw_only=True)
class TrainSample:
    """One random clip of a video and the parameters of its augmentation.

    Args:
        clip_len: T.
        frame_stride: frames from one frame of the clip to the next.
        sizes: (long, short) sides in pixels, one is drawn for each clip.
        crop_size: H and W of the random crop.
        flip_prob, hue_prob, brightness_prob, contrast_prob: probability of each.
        hue: largest shift of the hue, of 180 steps.
        saturation: the factor is exp(uniform(-saturation, saturation)).
        brightness: largest change in grey levels, the same in all frames of a clip.
        contrast: the factor is exp(uniform(-contrast, contrast)), the same in all frames of a clip.
    """

    clip_len: int
    frame_stride: int
    sizes: Sequence[tuple[int, int]]
    crop_size: int
    flip_prob: float
    brightness_prob: float
    brightness: float
    contrast_prob: float
    contrast: float
    hue_prob: float
    hue: float
    saturation: float

    def __post_init__(self) -> None:
        _check_whole(clip_len=self.clip_len, frame_stride=self.frame_stride, crop_size=self.crop_size)
        _check_crop(self.crop_size, self.sizes)

    def __call__(self, path: Path, rng: np.random.Generator) -> Batch:
        return self.read(open_video(path), rng)

    def read(self, video: Video, rng: np.random.Generator) -> Batch:
        """Returns "frames" uint8 [T,H,W,3], "brightness" and "contrast" float32 [T], and float32 or bool scalars."""
        indices = sampling.random_clip(
            len(video), rng, clip_len=self.clip_len, strides=[self.frame_stride], jitter=False
        )
        long, short = self.sizes[int(rng.integers(len(self.sizes)))]
        frames = video.read(indices, geometry.random_crop((long, short), rng, size=self.crop_size))
        delta = rng.uniform(-self.brightness, self.brightness) if rng.random() < self.brightness_prob else 0.0
        factor = np.exp(rng.uniform(-self.contrast, self.contrast)) if rng.random() < self.contrast_prob else 1.0
        return {
            "frames": torch.from_numpy(frames),
            "flip": torch.tensor(rng.random() < self.flip_prob),
            "brightness": torch.full((self.clip_len,), float(delta)),
            "contrast": torch.full((self.clip_len,), float(factor)),
            "recolour": torch.tensor(rng.random() < self.hue_prob),
            "hue": torch.tensor(rng.uniform(-self.hue, self.hue), dtype=torch.float32),
            "saturation": torch.tensor(np.exp(rng.uniform(-self.saturation, self.saturation)), dtype=torch.float32),
        }


@dataclass(frozen=True, kw_only=True)
class TestSample:
    """Clips spread evenly over a video, centre crop, nothing random.

    Args:
        num_clips, clip_len: N and T.
        frame_stride: frames from one frame of a clip to the next.
        size: (long, short) sides in pixels that the frames are resized to.
        crop_size: H and W.
    """

    num_clips: int
    clip_len: int
    frame_stride: int
    size: tuple[int, int]
    crop_size: int

    def __post_init__(self) -> None:
        _check_whole(num_clips=self.num_clips, clip_len=self.clip_len, frame_stride=self.frame_stride)
        _check_whole(crop_size=self.crop_size)
        _check_crop(self.crop_size, [self.size])

    def __call__(self, path: Path, rng: np.random.Generator) -> Batch:
        return self.read(open_video(path), rng)

    def read(self, video: Video, rng: np.random.Generator) -> Batch:
        """Returns "frames" uint8 [N,T,H,W,3]."""
        indices = sampling.uniform_clips(
            len(video), num_clips=self.num_clips, clip_len=self.clip_len, stride=self.frame_stride
        )
        # Neighbouring clips share frames, so each frame is decoded and resized once.
        distinct, positions = np.unique(indices, return_inverse=True)
        long, short = self.size
        frames = video.read(distinct, geometry.center_crop((long, short), size=self.crop_size))
        return {"frames": torch.from_numpy(frames)[positions.reshape(indices.shape)]}


def _check_whole(**numbers: object) -> None:
    for name, value in numbers.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"{name}={value} must be a whole number, at least 1.")


def _check_crop(crop_size: int, sizes: Sequence[tuple[int, int]]) -> None:
    for size in sizes:
        if not (isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(side, int) for side in size)):
            raise ValueError(f"The size {size} must be a pair of pixels, [long, short].")
        if min(size) < crop_size:
            raise ValueError(
                f"A crop of {crop_size} pixels does not fit into frames of {size[0]}x{size[1]}: "
                "lower crop_size or raise the sizes."
            )


class RecognitionTask(nn.Module):
    """Cross-entropy of a recognizer on single clips (a Task), and its logits of whole videos.

    Args:
        backbone: maps clips [B,3,T,H,W] to [B,D,t,h,w], or pictures without time; has the attribute `out_channels` = D.
        recognizer: backbone -> module that maps clips to logits [B,K] and has the attribute `num_classes` = K.
    """

    def __init__(self, backbone: nn.Module, *, recognizer: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.recognizer: Any = recognizer(backbone)
        self.num_classes: Any = self.recognizer.num_classes

    def augment(self, batch: Batch) -> Batch:
        """uint8 "frames" [B,T,H,W,3] with the parameters of `TrainSample` -> "clips" float32 [B,3,T,H,W]."""
        frames = torch.cat([self._augment(part) for part in augment.parts(batch)])
        return {"clips": augment.normalize(frames), "label": batch["label"], "index": batch["index"]}

    def _augment(self, batch: Batch) -> Tensor:
        frames = augment.flip(batch["frames"], batch["flip"]).float()
        frames = augment.contrast(augment.brightness(frames, batch["brightness"]), batch["contrast"])
        return augment.hue_saturation(frames, flags=batch["recolour"], hue=batch["hue"], saturation=batch["saturation"])

    def forward(self, batch: Batch) -> Batch:
        """ "clips" float32 [B,3,T,H,W], "label" int64 [B], zero-based -> scalars "loss" and "top1_acc" (fraction)."""
        logits = self.recognizer(batch["clips"]).float()
        return {
            "loss": functional.cross_entropy(logits, batch["label"]),
            "top1_acc": (logits.argmax(dim=1) == batch["label"]).float().mean(),
        }

    def trivial(self, batch: Batch) -> Batch:
        """Loss of giving every class the same probability: scalar "chance", ln K."""
        return {"chance": torch.tensor(math.log(self.num_classes), device=batch["label"].device)}

    def video_logits(self, frames: Tensor) -> Tensor:
        """Mean of the clips' logits, not of their probabilities: uint8 [B,N,(T,)H,W,3] -> float32 [B,K]."""
        clips = augment.normalize(frames.flatten(0, 1).float())
        return self.recognizer(clips).float().unflatten(0, frames.shape[:2]).mean(dim=1)
