"""Weighted k-nearest-neighbour classification (Wu et al., CVPR 2018, arXiv 1805.01978), without training.

Features: the global average of the last stage, averaged over the clips, compared by their cosine s. A neighbour votes
for its class with the weight exp(s / temperature).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedvssl.evaluation.curves import draw_curves
from fedvssl.evaluation.features import Features, neighbours
from fedvssl.evaluation.prediction import top_k_right
from fedvssl.evaluation.protocol import Frame, Result, check_ks, fractions, num_independent


@dataclass(frozen=True)
class KNN:
    """Top-1 accuracy for several numbers of neighbours.

    Args:
        ks: numbers of neighbours; if there are fewer training videos, all of them vote.
        temperature: a lower one gives the nearest more weight.
    """

    ks: Sequence[int]
    temperature: float

    def __post_init__(self) -> None:
        check_ks(self.ks)
        if not self.temperature > 0:
            raise ValueError(f"protocol.temperature={self.temperature} must be above 0.")

    def __call__(self, train: Features, test: Features) -> Result:
        cosines, nearest = neighbours(train.clips.mean(dim=1), test.clips.mean(dim=1), k=max(self.ks))
        right = {}
        for k in self.ks:
            scores = votes(cosines[:, :k], train.labels[nearest[:, :k]], temperature=self.temperature)
            right[f"k={k}"] = top_k_right(scores, test.labels, k=1)
        details: dict[str, Any] = {"num_neighbours": [min(k, len(train)) for k in self.ks]}
        if more := [k for k in self.ks if k > len(train)]:
            details["note"] = f"with k={', '.join(map(str, more))} all {len(train)} training samples vote"
        return Result(fractions(right), details, right)

    def draw(self, png: Path, results: Mapping[str, Result], train: Features, test: Features, frame: Frame) -> None:
        """Accuracy over the number of neighbours, a line for each backbone."""
        curves = {name: (self.ks, list(result.metrics.values())) for name, result in results.items()}
        draw_curves(png, curves, num_videos=num_independent(results, test.names), xlabel="neighbours", ticks=self.ks)


def votes(cosines: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    """Votes of the neighbours for each class.

    Args:
        cosines, labels: of each query's neighbours, float [Q,k] and int64 [Q,k].
        temperature: above 0.

    Returns:
        float [Q,K], K the highest label plus 1: sums of exp(s / temperature), divided by the value of the nearest
        neighbour, so that nothing overflows and not all vanish.
    """
    weights = torch.exp((cosines - cosines.amax(dim=1, keepdim=True)) / temperature)
    return torch.zeros(len(labels), int(labels.max()) + 1).scatter_add(1, labels, weights)
