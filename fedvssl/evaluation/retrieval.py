"""Nearest-neighbour retrieval as in the FedVSSL paper (arXiv 2207.01975).

Features: the last stage pooled to 2x3x3, averaged over the clips, compared by their cosine. A query, a test video,
counts for R@k if one of its k nearest videos in the gallery, the training videos, has its class.
Shapes: Q queries, G videos in the gallery, F features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedvssl.evaluation.features import Features, neighbours
from fedvssl.evaluation.protocol import Frame, Result, check_ks, fractions
from fedvssl.files.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN_QUERIES, SHOWN_NEAREST = 8, 5
RIGHT, WRONG = "tab:green", "tab:red"


@dataclass(frozen=True)
class Retrieval:
    """R@k of the test videos among the training videos.

    Args:
        ks: numbers of nearest videos; a smaller gallery is searched as a whole.
    """

    ks: Sequence[int]

    def __post_init__(self) -> None:
        check_ks(self.ks)

    def __call__(self, train: Features, test: Features) -> Result:
        _, nearest = neighbours(train.grid, test.grid, k=max(self.ks))
        found = train.labels[nearest] == test.labels[:, None]
        right = {f"R@{k}": found[:, :k].any(dim=1).tolist() for k in self.ks}
        return Result(fractions(right), {"nearest": nearest[:, :SHOWN_NEAREST].tolist()}, right)

    def draw(self, png: Path, results: Mapping[str, Result], train: Features, test: Features, frame: Frame) -> None:
        """Draw some queries, evenly spread over the test list, with their nearest videos; right ones framed green."""
        from matplotlib.figure import Figure  # without pyplot: no global state, no display

        nearest = next(iter(results.values())).details["nearest"]
        queries = np.unique(np.linspace(0, len(test) - 1, SHOWN_QUERIES).round().astype(int))
        figure = Figure(figsize=(1.75 * (1 + SHOWN_NEAREST), 1.65 * len(queries)), layout="constrained")
        rows = figure.subplots(len(queries), 1 + SHOWN_NEAREST, squeeze=False)
        for row, query in zip(rows, queries, strict=True):
            _show(row[0], frame(test.names[query]), test.names[query], colour=None)
            for axes in row[1:]:
                axes.axis("off")  # a small gallery leaves places empty
            for axes, index in zip(row[1:], nearest[query], strict=False):
                is_right = bool(train.labels[index] == test.labels[query])
                name = train.names[index]
                _show(axes, frame(name), name, colour=RIGHT if is_right else WRONG)
        rows[0][0].set_title("query", fontsize=9)
        for place, axes in enumerate(rows[0][1:], start=1):
            axes.set_title(f"nearest {place}", fontsize=9)
        with atomic_path(png) as temporary:
            figure.savefig(temporary, dpi=110, format="png")


def _show(axes: "Axes", picture: np.ndarray, name: str, *, colour: str | None) -> None:
    axes.axis("on")
    axes.imshow(picture)
    axes.set(xticks=[], yticks=[])
    shown = {"fontsize": 8, "color": colour or "black", "parse_math": False}  # a name may hold a $
    axes.set_xlabel(name.rpartition("/")[0] or name, **shown)
    for spine in axes.spines.values():
        spine.set(color=colour or "black", linewidth=4 if colour else 1)
