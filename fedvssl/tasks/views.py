"""Two views of a picture or of a video, for every task that compares views.

A worker draws all random parameters of a sample (`TwoViews` of a picture, `TwoClips` of a video), the device applies
them to a whole batch (`Views`). The transforms are those of SimCLR, arXiv 2002.05709, appendix A.
Shapes: B batch, T frames, H W pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fedvssl.data import geometry, image_augment, sampling
from fedvssl.data.image import fit_into, read_picture
from fedvssl.data.video import Video, open_video
from fedvssl.tasks.task import Batch

ATTEMPTS = 10  # at a box that fits into the picture, as in torchvision
Drawn = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class ViewDraw:
    """Random parameters of one view.

    Args:
        crop_scale: least and largest share of the picture's area.
        crop_ratio: least and largest width over height; its logarithm is uniform.
        flip_prob, jitter_prob, grey_prob, blur_prob: probability of each.
        jitter: the factors of brightness, contrast and saturation are 1 +- these, at least 0; the hue is turned by +-
            the fourth, in turns, at most 0.5.
        blur_sigma: least and largest standard deviation of the blur, in pixels of the view.

    Raises:
        ValueError: for a number out of its range.
    """

    crop_scale: tuple[float, float]
    crop_ratio: tuple[float, float]
    flip_prob: float
    jitter: tuple[float, float, float, float]
    jitter_prob: float
    grey_prob: float
    blur_prob: float
    blur_sigma: tuple[float, float]

    def __post_init__(self) -> None:
        for name, most in (("crop_scale", 1.0), ("crop_ratio", math.inf), ("blur_sigma", math.inf)):
            _check(f"sample.draw.{name}", getattr(self, name), count=2, most=most)
        _check("sample.draw.jitter", self.jitter, count=4, most=math.inf, zero=True)
        _check("sample.draw.jitter[3]", self.jitter[3:], count=1, most=0.5, zero=True)
        for name in ("flip_prob", "jitter_prob", "grey_prob", "blur_prob"):
            _check(f"sample.draw.{name}", [getattr(self, name)], count=1, most=1.0, zero=True)

    def __call__(self, rng: np.random.Generator, *, height: int, width: int) -> Drawn:
        """Draw for a picture of this size.

        Returns:
            "box" top, left, height, width in pixels, int64 [4]; "flip" and "grey" bool; "factors" and "order" as for
            `image_augment.jitter`, [4] each; "sigma" float32, 0 for no blur.
        """
        box = self._box(rng, height=height, width=width)
        factors = np.array([1.0, 1.0, 1.0, 0.0])
        order = rng.permutation(4)
        changes = np.array([rng.uniform(-min(most, 1.0), most) for most in self.jitter[:3]])
        hue = rng.uniform(-self.jitter[3], self.jitter[3])
        if rng.random() < self.jitter_prob:
            factors += [*changes, hue]
        grey, sigma = rng.random() < self.grey_prob, rng.uniform(*self.blur_sigma)
        return {
            "box": np.array(box),
            "flip": np.array(rng.random() < self.flip_prob),
            "factors": factors.astype(np.float32),
            "order": order,
            "grey": np.array(grey),
            "sigma": np.array(sigma if rng.random() < self.blur_prob else 0.0, np.float32),
        }

    def _box(self, rng: np.random.Generator, *, height: int, width: int) -> tuple[int, int, int, int]:
        """A box of random area, shape and place; after ten that do not fit, the largest one in the middle."""
        low, high = np.log(self.crop_ratio)
        for _ in range(ATTEMPTS):
            area, ratio = height * width * rng.uniform(*self.crop_scale), math.exp(rng.uniform(low, high))
            h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < h <= height and 0 < w <= width:
                return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
        ratio = min(max(width / height, self.crop_ratio[0]), self.crop_ratio[1])
        h, w = min(height, round(width / ratio)), min(width, round(height * ratio))
        return (height - h) // 2, (width - w) // 2, h, w


def _check(name: str, values: Sequence[float], *, count: int, most: float, zero: bool = False) -> None:
    numbers = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else []
    is_number = [isinstance(v, int | float) and not isinstance(v, bool) for v in numbers]
    fits = len(numbers) == count and all(is_number) and all((v > 0 or (zero and v == 0)) and v <= most for v in numbers)
    if not fits or (count == 2 and numbers[0] > numbers[1]):
        what = {1: "a number", 2: "two ascending numbers"}.get(count, f"{count} numbers")
        upper = "" if most == math.inf else f" and at most {most:g}"
        raise ValueError(f"task.{name}={values} must be {what}, {'at least' if zero else 'above'} 0{upper}.")


@dataclass(frozen=True, kw_only=True)
class TwoViews:
    """A picture and the parameters of two views of it.

    Args:
        max_side: larger pictures are shrunk to it; smaller ones, and those that are no squares, get a margin that no
            view shows. Pictures of this side are taken as they are.
        draw: draws the parameters of a view.
    """

    max_side: int
    draw: ViewDraw

    def __post_init__(self) -> None:
        _check_whole("max_side", self.max_side)

    def __call__(self, path: Path, rng: np.random.Generator) -> Batch:
        """Returns "frames" uint8 [max_side,max_side,3], and the parameters of `ViewDraw` for both views, [2,...]."""
        frames, height, width = fit_into(read_picture(path), self.max_side)
        drawn = [self.draw(rng, height=height, width=width) for _ in range(2)]
        return {"frames": torch.from_numpy(frames), **_both(drawn)}


@dataclass(frozen=True, kw_only=True)
class TwoClips:
    """Two clips of a video, cut to their boxes, and the parameters of what the device does with them.

    Args:
        clip_len: T.
        strides: the distance between the frames of a clip is drawn from these.
        crop_size: H and W of the clips.
        draw: draws the parameters of a view; all frames of a clip have the same.
    """

    clip_len: int
    strides: Sequence[int]
    crop_size: int
    draw: ViewDraw

    def __post_init__(self) -> None:
        _check_whole("clip_len", self.clip_len)
        _check_whole("crop_size", self.crop_size)

    def __call__(self, path: Path, rng: np.random.Generator) -> Batch:
        return self.read(open_video(path), rng)

    def read(self, video: Video, rng: np.random.Generator) -> Batch:
        """Returns "frames" uint8 [2,T,H,W,3], and the parameters of `ViewDraw` but for the box, [2,...]."""
        clips, drawn = [], []
        for _ in range(2):
            indices = sampling.random_clip(len(video), rng, clip_len=self.clip_len, strides=self.strides, jitter=False)
            cut = _Cut(self.draw, rng, size=self.crop_size)
            clips.append(video.read(indices, cut))
            drawn.append({name: value for name, value in cut.drawn.items() if name != "box"})
        return {"frames": torch.from_numpy(np.stack(clips)), **_both(drawn)}


class _Cut:
    """Cuts the same random box out of each frame of one clip and resizes it: [H,W,3] -> [size,size,3]."""

    def __init__(self, draw: ViewDraw, rng: np.random.Generator, *, size: int) -> None:
        self.draw, self.rng, self.size = draw, rng, size
        self.drawn: Drawn = {}

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        if not self.drawn:  # the size of the frames is known now
            self.drawn = self.draw(self.rng, height=frame.shape[0], width=frame.shape[1])
        top, left, height, width = self.drawn["box"]
        box = frame[top : top + height, left : left + width]
        return geometry.resize_to(box, height=self.size, width=self.size)


@dataclass(frozen=True, kw_only=True)
class Views:
    """The device's half: a batch of `TwoViews` or `TwoClips` -> "view1" and "view2".

    Args:
        crop_size: H and W of the views.
        draw: that of the Sample; what it never draws is not computed.
        mean, std: of red, green and blue between 0 and 1; the views are normalised by them. Evaluations normalise by
            those of ImageNet.
    """

    crop_size: int
    draw: ViewDraw
    mean: Sequence[float]
    std: Sequence[float]

    def __post_init__(self) -> None:
        _check_whole("crop_size", self.crop_size, where="module.views")
        _check("module.views.mean", self.mean, count=3, most=1.0, zero=True)
        _check("module.views.std", self.std, count=3, most=1.0)

    def __call__(self, batch: Batch) -> Batch:
        """Returns "view1" and "view2" float32 [B,3,(T,)H,W], and "index"."""
        views = {f"view{number + 1}": self._view(batch, number) for number in range(2)}
        return {**views, "index": batch["index"]}

    def view_shape(self, sample: TwoViews | TwoClips) -> tuple[int, ...]:
        """Shape of each view of a sample: [3,H,W] of a picture, [3,T,H,W] of a video."""
        if isinstance(sample, TwoClips):  # its clips have their size already
            return 3, sample.clip_len, sample.crop_size, sample.crop_size
        return 3, self.crop_size, self.crop_size

    def _view(self, batch: Batch, number: int) -> Tensor:
        own = {name: batch[name][:, number] for name in ("flip", "factors", "order", "grey", "sigma")}
        if "box" in batch:
            x = image_augment.to_planes(batch["frames"])
            x = image_augment.crop(x, box=batch["box"][:, number], flip=own["flip"], size=self.crop_size)
        else:
            x = image_augment.flip(image_augment.to_planes(batch["frames"][:, number]), own["flip"])
        if self.draw.jitter_prob:
            x = image_augment.jitter(x, factors=own["factors"], order=own["order"])
        if self.draw.grey_prob:
            x = image_augment.to_grey(x, own["grey"])
        if self.draw.blur_prob:
            x = image_augment.blur(x, sigma=own["sigma"], most=self.draw.blur_sigma[1])
        return image_augment.normalize(x, mean=self.mean, std=self.std)


def _both(drawn: Sequence[Drawn]) -> Batch:
    """Parameters of both views, stacked."""
    return {name: torch.from_numpy(np.stack([own[name] for own in drawn])) for name in drawn[0]}


def _check_whole(name: str, value: object, *, where: str = "sample") -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"task.{where}.{name}={value} must be a whole number, at least 1.")
