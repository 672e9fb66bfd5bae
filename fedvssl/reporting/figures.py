"""Charts of a report as inline SVG: text stays text in the page's font, and grey parts follow the page's colours.

A chart is 374 units wide with letters of 9, so that it is readable at the width of a telephone and of a screen.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from numbers import Real
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # without pyplot: no global state, no display
from matplotlib.rcsetup import cycler
from matplotlib.ticker import MaxNLocator

from fedvssl.files.matrices import MAX_WRITTEN, show_counts
from fedvssl.files.run_log import Record

INK = "#010203"  # placeholder for the page's own text colour
COLOURS = ("#3b82c4", "#e08a2e", "#4ca66b", "#c2569b", "#8d74d6", "#a9864f", "#3aa6a6", "#d9534f")
STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **{"font.size": 9, "svg.fonttype": "none", "axes.spines.top": False, "axes.spines.right": False},
    **{"axes.grid": True, "axes.axisbelow": True, "grid.color": INK, "grid.alpha": 0.15, "legend.frameon": False},
    **{"axes.prop_cycle": cycler(color=COLOURS), "text.parse_math": False},
}


@dataclass(frozen=True)
class Line:
    """Points of one line. `main` makes it stand out; `label` None keeps it out of the legend.

    `lows` and `highs` are the ends of the points' intervals, drawn as a band; empty without intervals, NaN at a point
    without one. `dashed` marks a level to compare with, without points of its own. `colour` None takes the next one of
    the chart. `marks` draws diamonds with bars for the intervals, so that a single point is seen.
    """

    label: str | None
    xs: Sequence[float]
    ys: Sequence[float]
    main: bool = False
    lows: Sequence[float] = ()
    highs: Sequence[float] = ()
    dashed: bool = False
    colour: str | None = None
    marks: bool = False


def line(records: Sequence[Record], name: str, *, label: str | None = "", main: bool = False, scale: float = 1) -> Line:
    """Line of the values of `name` that are numbers, over rounds or epochs; labelled with the name by default.

    The numbers "<name>_low" and "<name>_high" beside them are the ends of its intervals.
    """
    found = [record for record in records if is_number(record.get(name))]
    xs, ys = [r.get("server_round", r.get("epoch", 0)) for r in found], [scale * r[name] for r in found]
    lows, highs = (_ends(found, f"{name}_{end}", scale=scale) for end in ("low", "high"))
    return Line(name if label == "" else label, xs, ys, main, lows, highs)


def _ends(records: Sequence[Record], name: str, *, scale: float) -> list[float]:
    """Ends of intervals as in `Line`."""
    if not any(name in record for record in records):
        return []
    return [scale * record[name] if is_number(record.get(name)) else math.nan for record in records]


def titled(title: str, lines: Sequence[Line]) -> str:
    """Title of a chart of lines; it explains the bands or bars if there are any."""
    kinds = dict.fromkeys("bars" if line.marks else "bands" for line in lines if line.lows)
    return f"{title}; {' and '.join(kinds)} are 95 % intervals" if kinds else title


def is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def line_chart(title: str, lines: Sequence[Line], *, x: str, y: str, fraction: bool = False) -> str:
    """Chart of lines over rounds or epochs; the axis of a `fraction` or percentage begins at 0."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(x=x, y=y)
        for line in lines:
            _draw_line(axes, line)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if fraction:
            axes.set_ylim(0, 1.05 * max(axes.dataLim.y1, 1e-9) if np.isfinite(axes.dataLim.y1) else 1)
        return _svg(figure, title)


def _draw_line(axes: Axes, line: Line) -> None:
    ink = {"color": INK, "linewidth": 2.2, "zorder": 3} if line.main else {"linewidth": 1.2}
    own = {"color": line.colour} if line.colour else {}
    faint = {} if line.label else {"color": COLOURS[0], "alpha": 0.3, "linewidth": 0.7}
    marker = {"marker": "o", "markersize": 2.5} if len(line.xs) <= 40 else {}
    dashed = {"color": INK, "linestyle": "--", "linewidth": 0.8, "marker": ""} if line.dashed else {}
    marks = {"marker": "D", "markersize": 5, "linestyle": ":"} if line.marks else {}
    style = {**ink, **own, **faint, **marker, **dashed, **marks}
    (drawn,) = axes.plot(line.xs, line.ys, label=line.label or "_", **style)
    if not (line.lows and line.highs):
        return
    if line.marks:
        axes.vlines(line.xs, line.lows, line.highs, color=drawn.get_color(), linewidth=1)
    else:
        axes.fill_between(line.xs, line.lows, line.highs, color=drawn.get_color(), alpha=0.15, linewidth=0)


def stacked_chart(title: str, xs: Sequence[int], parts: Mapping[str, Sequence[float]], *, x: str, y: str) -> str:
    """Chart of the parts of each round: a step of a staircase for each of `xs` (ascending), a colour for each part."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(x=x, y=y)
        edges, below = [*(np.array(xs) - 0.5), xs[-1] + 0.5], np.zeros(len(xs))
        for label, values in parts.items():
            axes.stairs(below + values, edges, baseline=below, fill=True, label=label)
            below = below + values
        axes.set(xlim=(edges[0], edges[-1]), ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        return _svg(figure, title)


def count_map(title: str, counts: np.ndarray, *, x: str, y: str, unit: str, names: Sequence[str] = ()) -> str:
    """Map of counts [rows, columns], in the colours of partition_stats.png; both are numbered from 1, if not named."""
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = _axes(x=x, y=y)
        show_counts(axes, counts, unit=unit, write=max(counts.shape) <= MAX_WRITTEN)
        if names:
            axes.set_xticks(range(1, len(names) + 1), names, rotation=30 if len(names) <= MAX_WRITTEN else 90)
        return _svg(figure, title)


def heat_map(title: str, values: np.ndarray, *, x: str, y: str, unit: str) -> str:
    """Heat map of fractions [rows, columns], NaN where there is none; both are numbered from 1."""
    rows, columns = values.shape
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = _axes(x=x, y=y)
        ends = (0.5, columns + 0.5, rows + 0.5, 0.5)
        colours = {"vmin": 0, "vmax": 1, "cmap": "viridis_r"}
        image = axes.imshow(values, aspect="auto", interpolation="nearest", extent=ends, **colours)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        figure.colorbar(image, ax=axes, label=unit)
        return _svg(figure, title)


def _axes(*, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 3.3), layout="constrained")
    return figure, figure.add_subplot(xlabel=x, ylabel=y)


def _svg(figure: Figure, title: str) -> str:
    """The <svg> element alone, without sizes of its own."""
    labels = figure.axes[0].get_legend_handles_labels()[1]
    if len(labels) > 1:
        longest = max(map(len, labels))
        figure.legend(loc="outside lower center", ncols=4 if longest < 10 else 3 if longest < 18 else 2)
    file = io.StringIO()
    # Without a salt of its own a picture could use ids that mean something else in another picture of the page.
    with matplotlib.rc_context({"svg.hashsalt": title}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    # A style inside an SVG would rule the whole page.
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    head, rest = svg.split(">", 1)
    svg = re.sub(r' (width|height)="[^"]*"', "", head) + ">" + rest
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
