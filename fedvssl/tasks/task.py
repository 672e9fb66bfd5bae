"""Contracts of a task, without base classes: a Sample runs in a worker, a Task on the device.

A task of your own is one file beside this one and one YAML that names both.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

Batch = dict[str, Tensor]


class Sample(Protocol):
    """Work on one file in a worker: open it, decode what is needed, crop, draw every random parameter.

    The file is a video (`data/video.py` reads it), a picture, or what the Sample understands; no other part opens it.

    Optional: `measure(rng) -> {name: value}`, values for settings of the task that the configuration leaves to "auto";
    `select(paths) -> indices` of the files that the task has a use for; a ValueError if it has none, though there are
    files. Others, such as videos that are too short, are left out. Every epoch asks, so keep what took a decoder.
    """

    def __call__(self, path: Path, rng: np.random.Generator) -> Batch: ...


class Task(Protocol):
    """Loss of a batch on the device. Every Task is an nn.Module.

    Optional; the first two are logged with the scalars of each step:
    `trivial(batch) -> {name: loss}`, losses of predictors that need not look at the samples, as "trivial_<name>";
    `health() -> {name: number}`, signs of life after the backward pass, with gradients that may be clipped. A round
    in which "active_share" is nearly 0 is warned of;
    `least_loss`, a number below which no loss of the task lies, 0 if it is not given: a server refuses what lies below;
    `start_round()`, called once before the first step of each round of a client, its state loaded;
    `least_batch`, the fewest samples that it can compare, 1 if it is not given: a last batch with fewer is left out;
    `check_batch(size)`, called before a run with the samples of its largest batch, to raise a ValueError;
    `after_step()`, called after each step of the optimizer: a network that follows another one moves here;
    `mean` and `std`, its own or those of its `views`, by which it normalises red, green and blue from 0 to 1, those of
    ImageNet if they are not given: scripts/show_task.py draws by them.

    What must not travel, such as that network, is a state entry that the strategy does not share; its client keeps it.

    Every step gives the same names: before a run one step tells the server which metrics there are, and others are left
    out of its records. Names that the loop or the server writes, such as "lr" and "num_clips", are refused.
    """

    def augment(self, batch: Batch) -> Batch:
        """Pixel arithmetic of the whole batch on the device, without gradients."""
        ...

    def __call__(self, batch: Batch) -> Batch:
        """Scalars of a batch: "loss" is minimised, all are logged."""
        ...


class VideoClassifier(Task, Protocol):
    """A Task that classifies whole videos."""

    num_classes: int

    def eval(self) -> object: ...

    def video_logits(self, frames: Tensor) -> Tensor:
        """Clips of each video, uint8 [B,N,T,H,W,3] -> logits float32 [B,K]."""
        ...
