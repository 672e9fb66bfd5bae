"""Supervised recognition of pictures: the samples of fine-tuning, testing and evaluation, and the Task.

Training augments as He et al. do on CIFAR-10 (arXiv 1512.03385, section 4.2): a random crop out of the padded picture,
and a mirror. Pictures are normalised as clips are, by ImageNet's mean and standard deviation.
Shapes: B batch, H W pixels.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fedvssl.data import augment, geometry
from fedvssl.data.image import read_picture
from fedvssl.tasks.recognition import RecognitionTask
from fedvssl.tasks.task import Batch


@dataclass(frozen=True, kw_only=True)
class TrainPicture:
    """A random square of a picture, and whether it is mirrored.

    Args:
        short_side: pixels that the shorter side is resized to; a picture of this size is taken as it is.
        padding: black pixels on each side, around the resized picture.
        crop_size: H and W of the square.
        flip_prob: probability of the mirror.

    Raises:
        ValueError: for a number out of its range, or a square that does not fit.
    """

    short_side: int
    padding: int
    crop_size: int
    flip_prob: float

    def __post_init__(self) -> None:
        _check_whole("train_sample", padding=self.padding, least=0)
        _check_sides("train_sample", self.short_side, self.crop_size, room=2 * self.padding)
        is_number = isinstance(self.flip_prob, int | float) and not isinstance(self.flip_prob, bool)
        if not (is_number and 0 <= self.flip_prob <= 1):
            raise ValueError(f"train_sample.flip_prob={self.flip_prob} must be a number from 0 to 1.")

    def __call__(self, path: Path, rng: np.random.Generator) -> Batch:
        """Returns "frames" uint8 [H,W,3] and "flip", a bool scalar."""
        picture, around = geometry.resize(read_picture(path), self.short_side), (self.padding, self.padding)
        padded = np.pad(picture, (around, around, (0, 0)))
        square = geometry.random_crop(min(padded.shape[:2]), rng, size=self.crop_size)(padded)
        flip = rng.random() < self.flip_prob
        return {"frames": torch.from_numpy(np.ascontiguousarray(square)), "flip": torch.tensor(flip)}


@dataclass(frozen=True, kw_only=True)
class TestPicture:
    """The square in the middle of a picture, nothing random.

    Args:
        short_side: pixels that the shorter side is resized to; a picture of this size is taken as it is.
        crop_size: H and W of the square.

    Raises:
        ValueError: for a number out of its range, or a square that does not fit.
    """

    short_side: int
    crop_size: int

    def __post_init__(self) -> None:
        _check_sides("test_sample", self.short_side, self.crop_size, room=0)

    def __call__(self, path: Path, rng: np.random.Generator) -> Batch:
        """Returns "frames" uint8 [1,H,W,3]."""
        square = geometry.center_crop(self.short_side, size=self.crop_size)(read_picture(path))
        return {"frames": torch.from_numpy(np.ascontiguousarray(square))[None]}


class PictureRecognition(RecognitionTask):
    """Cross-entropy of a recognizer on pictures; see `RecognitionTask` for the arguments and all else."""

    least_batch = 2  # of one picture BatchNorm has no variance where the maps are a single pixel

    def augment(self, batch: Batch) -> Batch:
        """uint8 "frames" [B,H,W,3] with "flip" of `TrainPicture` -> "clips", pictures float32 [B,3,H,W]."""
        frames, flags = batch["frames"], batch["flip"][:, None, None, None]
        pictures = augment.normalize(torch.where(flags, frames.flip(2), frames).float())
        return {"clips": pictures, "label": batch["label"], "index": batch["index"]}


def _check_sides(where: str, short_side: int, crop_size: int, *, room: int) -> None:
    _check_whole(where, least=1, short_side=short_side, crop_size=crop_size)
    if crop_size > short_side + room:
        raise ValueError(
            f"{where}: a crop of {crop_size} pixels does not fit into pictures of {short_side + room}: "
            "lower crop_size or raise short_side."
        )


def _check_whole(where: str, *, least: int, **numbers: object) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{where}.{name}={value} must be a whole number, at least {least}.")
