"""Motion probe: does a frozen backbone know the direction of motion? It needs no labels of videos.

A clip is seen through a window that moves over the frames of a video in one of eight directions. The frames are the
video's own, so everything in them moves too. A logistic regression on the features of the training videos, pooled over
time and space, predicts the direction for the test videos. Chance is 12.5 percent. The protocol is this project's own;
docs/decisions.md has its controls.
Shapes: V videos, N clips per video, T frames, H W pixels, D features, K = 8 directions.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from fedvssl.data.geometry import resize
from fedvssl.data.sampling import uniform_clips
from fedvssl.data.video import Video, open_video
from fedvssl.evaluation.features import Features
from fedvssl.evaluation.protocol import Frame, Result, fractions
from fedvssl.files.atomic import atomic_path
from fedvssl.tasks.task import Batch

ARROWS = "→↘↓↙←↖↑↗"  # movement of the window in the direction 0, 1, ..., in steps of 45 degrees
NUM_DIRECTIONS = len(ARROWS)
LARGEST_FRAME = 10  # windows; a side in pixels is above it
MOST_STEPS = 500  # of LBFGS; it converges in about 100


@dataclass(frozen=True, kw_only=True)
class MotionSample:
    """Clips seen through a moving window, with its directions as labels (a `LabellingSample`).

    Lengths count in windows, so that another `crop_size` asks the same at another size. The middle of a path lies at
    the middle of the frames, but for jitter, so that a single frame hardly tells the direction. The window lies on
    whole pixels: interpolation would blur along the axis of motion.

    Args:
        num_clips, clip_len: N and T; the clips are evenly spread over the video.
        frame_stride: frames of the video from one frame of a clip to the next.
        crop_size: side of the window in pixels, H and W.
        short_side: short side of the resized frames, in windows.
        velocity: of the window, in windows per frame of the clip, the same for all directions.
        start_jitter: a path is moved by up to this on each axis, in windows.
        frame_jitter: each frame's window is moved further by up to this on each axis, in windows.
    """

    num_clips: int
    clip_len: int
    frame_stride: int
    crop_size: int
    short_side: float
    velocity: float
    start_jitter: float
    frame_jitter: float

    def __post_init__(self) -> None:
        for name, least in (("num_clips", 1), ("clip_len", 2), ("frame_stride", 1), ("crop_size", 1)):
            _check_number(name, getattr(self, name), least, whole=True)
        for name in ("short_side", "velocity", "start_jitter", "frame_jitter"):
            _check_number(name, getattr(self, name), 0)
        if not (self.velocity > 0 and self.short_side <= LARGEST_FRAME):
            raise ValueError(
                f"velocity={self.velocity} and short_side={self.short_side} count in windows of crop_size pixels: give "
                f"a velocity above 0, such as 0.03125, and a short_side up to {LARGEST_FRAME}, such as 1.5."
            )
        needed = 1 + self.velocity * (self.clip_len - 1) + 2 * (self.start_jitter + self.frame_jitter)
        if self.side < self.crop_size * needed:
            raise ValueError(
                f"The window leaves the frames: its path of {self.clip_len} frames needs short_side="
                f"{math.ceil(100 * needed) / 100} or more, but short_side is {self.short_side}. Raise it, or lower "
                "velocity, clip_len or a jitter."
            )

    @property
    def side(self) -> int:
        """Short side of the resized frames in pixels."""
        return round(self.short_side * self.crop_size)

    def draw_labels(self, rng: np.random.Generator) -> Tensor:
        """Draw the direction of each clip, uniformly: int64 [N] in 0..7."""
        return torch.from_numpy(rng.integers(NUM_DIRECTIONS, size=self.num_clips))

    def draw_corners(self, directions: np.ndarray, rng: np.random.Generator, *, height: int, width: int) -> np.ndarray:
        """Draw the paths of the window over frames of the given size in pixels: top and left, int64 [N,T,2]."""
        angles = directions * (2 * np.pi / NUM_DIRECTIONS)
        towards = np.stack([np.sin(angles), np.cos(angles)], axis=1)[:, None]  # rows count downwards
        places = self.velocity * (np.arange(self.clip_len) - (self.clip_len - 1) / 2)[:, None] * towards
        places = places + rng.uniform(-self.start_jitter, self.start_jitter, (len(directions), 1, 2))
        places = places + rng.uniform(-self.frame_jitter, self.frame_jitter, places.shape)
        middle = np.array([height - self.crop_size, width - self.crop_size]) / 2
        return np.rint(middle + self.crop_size * places).astype(np.int64)

    def __call__(self, path: Path, rng: np.random.Generator) -> Batch:
        return self.read(open_video(path), rng)

    def read(self, video: Video, rng: np.random.Generator) -> Batch:
        """Returns "frames" uint8 [N,T,H,W,3]. A short video repeats its last frame; the window moves on."""
        directions = self.draw_labels(rng).numpy()
        clips = uniform_clips(len(video), num_clips=self.num_clips, clip_len=self.clip_len, stride=self.frame_stride)
        frames = video.read(clips.ravel(), partial(resize, scale=self.side))
        corners = self.draw_corners(directions, rng, height=frames.shape[1], width=frames.shape[2])
        windows = [
            frame[top : top + self.crop_size, left : left + self.crop_size]
            for frame, (top, left) in zip(frames, corners.reshape(-1, 2).tolist(), strict=True)
        ]
        return {"frames": torch.from_numpy(np.stack(windows)).unflatten(0, clips.shape)}


@dataclass(frozen=True, kw_only=True)
class MotionProbe:
    """Accuracy of the predicted directions, on the first clip of each test video: a video counts once.

    Args:
        sample: the clips, see `EvaluationProtocol`.
        weight_decay: of the logistic regression on all training clips.
    """

    sample: MotionSample
    weight_decay: float

    def __post_init__(self) -> None:
        _check_number("protocol.weight_decay", self.weight_decay, 0)

    def __call__(self, train: Features, test: Features) -> Result:
        clips = train.clips.flatten(0, 1).double()
        mean, std = clips.mean(dim=0), clips.std(dim=0, correction=0).clamp(min=1e-6)
        weights, bias = logistic_regression(
            (clips - mean) / std, train.labels.flatten(), num_classes=NUM_DIRECTIONS, weight_decay=self.weight_decay
        )
        predicted = ((test.clips[:, 0].double() - mean) / std @ weights + bias).argmax(dim=1)
        directions = test.labels[:, 0]
        confusion = one_hot(directions, NUM_DIRECTIONS).T @ one_hot(predicted, NUM_DIRECTIONS)
        right = {"top1_acc": (predicted == directions).tolist()}
        chance = {"top1_acc": 1 / NUM_DIRECTIONS}
        return Result(fractions(right), {"confusion": confusion.tolist()}, right, chance)

    def draw(self, png: Path, results: Mapping[str, Result], train: Features, test: Features, frame: Frame) -> None:
        """Draw a confusion matrix for each row: directions of the window downwards, predicted ones to the right."""
        from matplotlib.figure import Figure  # without pyplot: no global state, no display

        from fedvssl.files.matrices import write_numbers

        most = max(np.max(result.details["confusion"]) for result in results.values())  # one scale for all rows
        figure = Figure(figsize=(3 * len(results), 3.4), layout="constrained")
        panels = figure.subplots(1, len(results), squeeze=False)[0]
        for axes, (row, result) in zip(panels, results.items(), strict=True):
            counts = np.array(result.details["confusion"]).astype(int)
            image = axes.imshow(counts, cmap="Blues", vmin=0, vmax=most)
            write_numbers(axes, image, counts)
            axes.set(title=f"{row}: {100 * result.metrics['top1_acc']:.1f} %", xlabel="predicted", ylabel="direction")
            axes.set_xticks(range(NUM_DIRECTIONS), ARROWS)
            axes.set_yticks(range(NUM_DIRECTIONS), ARROWS)
        with atomic_path(png) as temporary:
            figure.savefig(temporary, dpi=110, format="png")


def logistic_regression(
    inputs: Tensor, labels: Tensor, *, num_classes: int, weight_decay: float
) -> tuple[Tensor, Tensor]:
    """Minimise mean cross-entropy + weight_decay / 2 * |weights|^2 by LBFGS from zero; nothing is random.

    Args:
        inputs: float64 [V,D], standardised.
        labels: int64 [V] in 0..num_classes - 1.

    Returns:
        weights float64 [D,num_classes] and bias float64 [num_classes]; logits are inputs @ weights + bias.
    """
    weights = torch.zeros(inputs.shape[1], num_classes, dtype=inputs.dtype, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=inputs.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights, bias], max_iter=MOST_STEPS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = cross_entropy(inputs @ weights + bias, labels) + weight_decay / 2 * weights.square().sum()
        value.backward()
        return value

    optimizer.step(loss)  # pyright: ignore[reportArgumentType]: its type asks for a float
    return weights.detach(), bias.detach()


def _check_number(name: str, value: Any, least: int, *, whole: bool = False) -> None:
    is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not (is_number and least <= value < math.inf):
        raise ValueError(f"{name}={value} must be a {'whole ' if whole else ''}number, at least {least}.")
