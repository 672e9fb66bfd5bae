"""Picture of a partition: the classes and videos of each client, and those that it shares with others."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fedvssl.files.atomic import atomic_path
from fedvssl.files.matrices import MAX_WRITTEN, show_counts

MAX_NAMED = 110  # classes whose names can be read below the picture


def plot_partition(stats: dict, names: dict[int, str], path: Path) -> None:
    """Write a PNG with five panels.

    Above: classes by clients, coloured by videos; many classes are sorted by size instead of named.
    Below: videos of each client, entropy of its classes, and the matrices of shared classes and of shared videos.

    Args:
        stats: result of `partition_stats`.
        names: zero-based label -> name of the class.
    """
    figure = matplotlib.figure.Figure(figsize=(16, 11), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.15, 1))[:, 0]
    above.suptitle(_headline(stats), fontsize=12)
    _plot_classes(above.subplots(), stats, names)
    panels = below.subplot_mosaic([["videos", "classes", "shared"], ["entropy", "classes", "shared"]])
    _plot_bars(panels["videos"], [client["videos"] for client in stats["clients"]], title="videos")
    _plot_bars(panels["entropy"], [client["entropy"] for client in stats["clients"]], title="entropy of classes, bits")
    panels["entropy"].axhline(stats["pooled_entropy"], color="tab:red", linewidth=1)
    panels["entropy"].set_xlabel(f"client (line: all clients pooled, {stats['pooled_entropy']:.2f} bits)")
    _plot_overlap(panels["classes"], stats["class_overlap"], what="classes")
    _plot_overlap(panels["shared"], stats["video_overlap"], what="videos")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)


def _headline(stats: dict) -> str:
    classes = sorted({client["classes"] for client in stats["clients"]})
    number = f"{classes[0]}" if len(classes) == 1 else f"{classes[0]} to {classes[-1]}"
    text = (
        f"{stats['num_videos']} videos over {stats['num_clients']} clients, {number} of {stats['num_classes']} classes "
        f"per client, mean divergence from the pooled classes {stats['mean_divergence']:.2f} bits"
    )
    if stats["unassigned_videos"] or stats["shared_videos"]:
        text += f"\n{stats['unassigned_videos']} videos without a client, {stats['shared_videos']} with two or more"
    return text


def _plot_classes(axes: Axes, stats: dict, names: dict[int, str]) -> None:
    labels = list(names)
    named = len(labels) <= MAX_NAMED
    if not named:
        labels.sort(key=lambda label: stats["videos_per_class"].get(str(label + 1), 0))
    counts = np.array(
        [[client["videos_per_class"].get(str(label + 1), 0) for label in labels] for client in stats["clients"]]
    )
    show_counts(axes, counts, write=counts.size <= MAX_WRITTEN**2, unit="videos")
    axes.set(ylabel="client", xlabel="" if named else "classes, from the fewest videos to the most")
    if named:
        size = 10 if len(labels) <= 30 else 8 if len(labels) <= 60 else 6
        rotation = 0 if len(labels) <= 12 else 90
        shown = {"rotation": rotation, "fontsize": size, "parse_math": False}  # a name may hold a $
        axes.set_xticks(range(1, len(labels) + 1), [names[label] for label in labels], **shown)


def _plot_bars(axes: Axes, values: Sequence[float], *, title: str) -> None:
    axes.bar(np.arange(1, len(values) + 1), values, width=0.8 if len(values) <= 40 else 1.0)
    axes.set(title=title, xlabel="client", xlim=(0.4, len(values) + 0.6))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _plot_overlap(axes: Axes, overlap: list[list[int]], *, what: str) -> None:
    shared = np.array(overlap)
    np.fill_diagonal(shared, 0)
    pairs = int((np.triu(shared) > 0).sum())
    show_counts(axes, shared, write=len(shared) <= MAX_WRITTEN, unit=what)
    all_pairs = len(shared) * (len(shared) - 1) // 2
    axes.set(title=f"{what} in common: {pairs} of {all_pairs} pairs", xlabel="client", ylabel="client")
    axes.set_aspect("equal")
