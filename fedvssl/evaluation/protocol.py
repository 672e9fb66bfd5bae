"""What a protocol is: a callable on the features of training and test videos, and a picture of what it found.

A protocol of your own is one file beside this one and one YAML with its `_target_`, for `python -m fedvssl.evaluate`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fedvssl.evaluation.features import Features

Metrics = dict[str, float]
Frame = Callable[[str], np.ndarray]


@dataclass(frozen=True)
class Result:
    """What a protocol found for one backbone.

    Args:
        metrics: fractions by their names, in the order of the table.
        details: whatever else is worth keeping, ready for JSON.
    """

    metrics: Metrics
    details: dict[str, Any] = field(default_factory=dict)


class EvaluationProtocol(Protocol):
    """Judges a frozen backbone by the features of labelled videos."""

    def __call__(self, train: Features, test: Features) -> Result:
        """Judge one backbone."""
        ...

    def draw(self, png: Path, results: Mapping[str, Result], train: Features, test: Features, frame: Frame) -> None:
        """Make a picture.

        Args:
            png: where to.
            results: by the names of the table's rows; the backbone that was asked for comes first.
            train, test: of the first row.
            frame: name of a video -> its middle frame, uint8 [H,W,3].
        """
        ...


def check_ks(ks: Sequence[int]) -> None:
    """Refuse what are no numbers of neighbours.

    Raises:
        ValueError: if `ks` is empty or holds anything but whole numbers from 1.
    """
    if not ks or not all(isinstance(k, int) and not isinstance(k, bool) and k >= 1 for k in ks):
        raise ValueError(f"protocol.ks={list(ks)} must be whole numbers from 1, such as [1,5,10].")
