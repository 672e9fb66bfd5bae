"""What a task is: a Sample in a worker, a Task on the device. Contracts, found by their shape; no base classes.

A task of your own is one file beside this one and one YAML that names both.
"""

from typing import Protocol

import numpy as np
from torch import Tensor

from fedvssl.data.video import Video

Batch = dict[str, Tensor]


class Sample(Protocol):
    """What a worker does with one video: decode what is needed, crop, draw every random parameter."""

    def __call__(self, video: Video, rng: np.random.Generator) -> Batch: ...


class Task(Protocol):
    """What is learned from a batch. Every Task is an nn.Module."""

    def augment(self, batch: Batch) -> Batch:
        """Pixel arithmetic of the whole batch on the device, without gradients."""
        ...

    def __call__(self, batch: Batch) -> Batch:
        """Scalars: "loss" is minimised, everything is logged."""
        ...
