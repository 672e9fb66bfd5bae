"""Plot of accuracies, one line for each backbone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fedvssl.files.atomic import atomic_path


def draw_curves(
    png: Path,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    xlabel: str,
    ticks: Sequence[int] | None = None,
) -> None:
    """Draw top-1 accuracies (fractions, shown in percent).

    Args:
        png: file to write.
        curves: name -> (x, accuracy); the last one is the baseline and is dashed.
        xlabel: meaning of x.
        ticks: marked values of x on a logarithmic axis; None for a linear axis.
    """
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel=xlabel, ylabel="top-1 accuracy (percent)")
    for number, (name, (x, accs)) in enumerate(curves.items(), start=1):
        style = "--" if number == len(curves) else "-"
        axes.plot(x, [100 * acc for acc in accs], style, marker="o" if len(x) <= 20 else None, label=name)
    if ticks is not None:
        axes.set_xscale("log")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_path(png) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
