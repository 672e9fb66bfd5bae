"""The learning rate over rounds or epochs."""

from collections.abc import Sequence


def step_lr(lr: float, *, steps: Sequence[int], gamma: float, position: int) -> float:
    """Learning rate after `position` rounds or epochs: `lr`, times `gamma` for each step that has been reached."""
    return lr * gamma ** sum(position >= step for step in steps)
