"""Plot of accuracies, one line for each backbone, with their 95 % intervals as bands."""

from collections.abc import Mapping, Sequence
from itertools import chain, cycle
from pathlib import Path

import numpy as np

from fedvssl.evaluation.intervals import wilson
from fedvssl.evaluation.protocol import Result, num_independent
from fedvssl.files.atomic import atomic_path

DASHED = ("--", ":", "-.")  # styles of the baselines


def draw_curves(
    png: Path,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    num_videos: Mapping[str, float],
    xlabel: str,
    ticks: Sequence[int] | None = None,
) -> None:
    """Draw top-1 accuracies (fractions, shown in percent).

    Args:
        png: file to write.
        curves: name -> (x, accuracy); the first one is the evaluated backbone, its baselines are dashed.
        num_videos: name -> number of independent test videos, which decides its band.
        xlabel: meaning of x.
        ticks: marked values of x on a logarithmic axis; None for a linear axis.
    """
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel=xlabel, ylabel="top-1 accuracy (percent), 95 % interval")
    for style, (name, (x, accs)) in zip(chain("-", cycle(DASHED)), curves.items(), strict=False):
        (line,) = axes.plot(x, [100 * acc for acc in accs], style, marker="o" if len(x) <= 20 else None, label=name)
        lows, highs = zip(*(wilson(acc, num_videos[name]) for acc in accs), strict=True)
        axes.fill_between(x, 100 * np.array(lows), 100 * np.array(highs), color=line.get_color(), alpha=0.15, lw=0)
    if ticks is not None:
        axes.set_xscale("log")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.set_title(png.stem.replace("_", " "))
    figure.legend(loc="outside lower center", ncols=3)  # not on the bands
    with atomic_path(png) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def draw_epochs(png: Path, results: Mapping[str, Result], names: Sequence[str]) -> None:
    """Draw the accuracies in `details["test_top1_acc"]`, one for each epoch of a classifier.

    Args:
        png: file to write.
        results: of each backbone.
        names: of the test videos.
    """
    lines = {row: result.details["test_top1_acc"] for row, result in results.items()}
    curves = {row: (range(1, len(accs) + 1), accs) for row, accs in lines.items()}
    draw_curves(png, curves, num_videos=num_independent(results, names), xlabel="epoch of the classifier")
