"""Factor of the learning rates: over rounds or epochs by a schedule, over the first steps of an optimizer by a warm-up.

A schedule of your own is a callable, position -> factor, named by `_target_` under `training.schedule`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Schedule = Callable[[int], float]  # rounds or epochs done -> factor


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Multiply by `gamma` at each of the positions `steps`, as published."""

    steps: Sequence[int]
    gamma: float

    def __post_init__(self) -> None:
        if not (isinstance(self.steps, list | tuple) and all(type(step) is int and step >= 0 for step in self.steps)):
            raise ValueError(f"training.steps={self.steps} must be a list of rounds or epochs, such as [100,200].")
        if not (isinstance(self.gamma, int | float) and self.gamma >= 0):
            raise ValueError(f"training.gamma={self.gamma} must be a number, at least 0.")

    def __call__(self, position: int) -> float:
        return self.gamma ** sum(position >= step for step in self.steps)


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Fall from 1 to 0 over `length` positions by half a cosine (SGDR, arXiv 1608.03983, equation 5, no restarts)."""

    length: int

    def __post_init__(self) -> None:
        if not (type(self.length) is int and self.length >= 1):
            raise ValueError(f"training.schedule.length={self.length} must be a whole number, at least 1.")

    def __call__(self, position: int) -> float:
        return (1 + math.cos(math.pi * min(position / self.length, 1))) / 2


def warm_up(step: int, num_steps: int) -> float:
    """Linear factor of an optimizer's step, counted from 0: 1 / num_steps in the first, 1 from the last of them on."""
    return min(1.0, (step + 1) / num_steps) if num_steps else 1.0


def scale_lr(optimizer: Any, factor: float) -> None:
    """Set the learning rate of each parameter group to `factor` times that of the configuration."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor  # torch's schedulers use this name too
