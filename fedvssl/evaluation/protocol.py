"""Contract of a protocol: a callable on the features of training and test videos, and a picture of its results.

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
    """Result of a protocol for one backbone.

    Args:
        metrics: fractions by their names, in the order of the table.
        details: further results, ready for JSON.
    """

    metrics: Metrics
    details: dict[str, Any] = field(default_factory=dict)


class EvaluationProtocol(Protocol):
    """Evaluates a frozen backbone on the features of labelled videos."""

    def __call__(self, train: Features, test: Features) -> Result:
        """Evaluate one backbone."""
        ...

    def draw(self, png: Path, results: Mapping[str, Result], train: Features, test: Features, frame: Frame) -> None:
        """Draw the results.

        Args:
            png: file to write.
            results: row of the table -> result; the requested backbone comes first.
            train, test: features of the first row.
            frame: name of a video -> its middle frame, uint8 [H,W,3].
        """
        ...


def check_ks(ks: Sequence[int]) -> None:
    """Reject invalid numbers of neighbours.

    Raises:
        ValueError: if `ks` is empty or holds anything but whole numbers from 1.
    """
    if not ks or not all(isinstance(k, int) and not isinstance(k, bool) and k >= 1 for k in ks):
        raise ValueError(f"protocol.ks={list(ks)} must be whole numbers from 1, such as [1,5,10].")
