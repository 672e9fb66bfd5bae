"""The pretext tasks on videos at a size for tests, and videos that ask what each can answer."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedvssl.data.video import Step, whole

SHARED = ("model.depth=10", "model.width=8", "training.num_workers=0", "training.precision=32-true")
CROP = ("task.sample.draw.crop_size=32",)
SIZES = "task.sample.draw.sizes=[[43,32],[48,36]]"
SMALL: dict[str, tuple[str, ...]] = {
    "vcop": ("task.sample.clip_len=4", "task.sample.gap=4", "task.sample.draw.sizes=[[43,32]]", *CROP),
    "speed": ("task.sample.clip_len=8", "task.sample.draw.short_sides=[32,36]", *CROP),
    "rot3d": ("task.sample.clip_len=8", "task.sample.strides=[1,2]", SIZES, *CROP),
    "memdpc": (
        *("task.sample.num_blocks=4", "task.sample.clip_len=2", "task.sample.frame_stride=2", SIZES, *CROP),
        *("task.module.num_predicted=1", "task.module.out_channels=16", "task.module.memory_size=32"),
    ),
    "moco_clips": (
        *("task.sample.clip_len=8", "task.sample.strides=[1,2]", SIZES, *CROP),
        *("task.module.queue_length=64", "task.module.projector.out_channels=16"),
    ),
}


def words_of(name: str, *others: str) -> list[str]:
    """Words of the command line for a task at the size of a test."""
    return [f"task={name}", *SHARED, *SMALL[name], *others]


class Falling:
    """Grey bars and patches of an own colour that fall by two pixels a frame and brighten, below a bright sky.

    So a video has an up, a direction that no mirror turns round, a speed, an order and an owner.
    """

    def __init__(self, seed: int, *, num_frames: int = 40, height: int = 36, width: int = 48) -> None:
        rng = np.random.default_rng(seed)
        cells = rng.integers(0, 110, (num_frames, width // 8, 1)) * rng.uniform(0.3, 1, 3)
        self.texture = cells.repeat(4, axis=0).repeat(8, axis=1)
        self.num_frames, self.height = num_frames, height

    def __len__(self) -> int:
        return self.num_frames

    def read(self, indices: np.ndarray, then: Step = whole) -> np.ndarray:
        return np.stack([then(self.frame(int(index))) for index in indices])

    def frame(self, index: int) -> np.ndarray:
        """uint8 [H,W,3]."""
        picture = np.roll(self.texture, 2 * index, axis=0)[: self.height] + 2 * index
        picture[: self.height // 4] += 70
        return np.clip(picture, 0, 255).astype(np.uint8)


def draw_batch(sample: Any, size: int, *, step: int = 0, video: Callable[[int], Any] = Falling) -> dict[str, Tensor]:
    """Samples of as many videos, of others in each step."""
    items = [sample.read(video(step * size + number), np.random.default_rng((step, number))) for number in range(size)]
    stacked = {name: torch.stack([item[name] for item in items]) for name in items[0]}
    return {**stacked, "index": torch.arange(size), "label": torch.zeros(size, dtype=torch.int64)}
