"""Contract of a protocol: a callable on the features of training and test videos, and a picture of its results.

A protocol of your own is one file beside this one and one YAML with its `_target_`, for `python -m fedvssl.evaluate`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fedvssl.data.validation import group_of
from fedvssl.evaluation.features import Features
from fedvssl.evaluation.intervals import Interval, effective_number, interval
from fedvssl.tasks.task import Sample

Metrics = dict[str, float]
Frame = Callable[[str], np.ndarray]


@dataclass(frozen=True)
class Result:
    """Result of a protocol for one backbone.

    Args:
        metrics: fractions by their names, in the order of the table.
        details: further results, ready for JSON.
        right: metric that is a fraction of the test videos -> for each of them, in order, whether it counts. Only such
            a metric has an interval.
        chance: metric -> fraction that guessing reaches, where the protocol knows it.
    """

    metrics: Metrics
    details: dict[str, Any] = field(default_factory=dict)
    right: dict[str, list[bool]] = field(default_factory=dict)
    chance: Metrics = field(default_factory=dict)

    def intervals(self, groups: Sequence[str]) -> dict[str, Interval]:
        """The 95 % intervals of the metrics in `right`; `groups` of the test videos as in `interval`."""
        return {name: interval(videos, groups) for name, videos in self.right.items()}


class EvaluationProtocol(Protocol):
    """Evaluates a frozen backbone on the features of labelled videos.

    A protocol with clips of its own has them in the attribute `sample`, a Sample. If that is a `LabellingSample`, the
    labels of the features are what it draws, [V,N], and those of the videos may be anything.

    A protocol with the attribute `held_out` = True refuses a backbone whose pre-training or fine-tuning had the
    training videos.

    `draw` is optional; without it there is no picture.
    """

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


def own_sample(protocol: EvaluationProtocol) -> Sample | None:
    """The attribute `sample` of a protocol with clips of its own; None for the configured clips."""
    return getattr(protocol, "sample", None)


def num_independent(results: Mapping[str, Result], names: Sequence[str]) -> dict[str, float]:
    """Number of independent test videos of each row, by its first accuracy; see `effective_number`.

    Args:
        results: of each row.
        names: of the test videos.
    """
    groups = [group_of(name) for name in names]
    return {row: effective_number(next(iter(result.right.values())), groups) for row, result in results.items()}


def fractions(right: Mapping[str, Sequence[bool]]) -> Metrics:
    """Fraction of right videos for each metric."""
    return {name: sum(videos) / len(videos) for name, videos in right.items()}


def check_ks(ks: Sequence[int]) -> None:
    """Reject invalid numbers of neighbours.

    Raises:
        ValueError: if `ks` is empty or holds anything but whole numbers from 1.
    """
    if not ks or not all(isinstance(k, int) and not isinstance(k, bool) and k >= 1 for k in ks):
        raise ValueError(f"protocol.ks={list(ks)} must be whole numbers from 1, such as [1,5,10].")
