"""All result tables: mean +- standard deviation in percent as text, Markdown, CSV, LaTeX and a picture.

Rows and columns are keyed by their names; a cell holds the measured fractions and the number of planned runs.
"""

import csv
import io
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from fedvssl.files.atomic import atomic_path

OPEN, NOT_PLANNED = "open", "-"
LATEX_SPECIAL = {character: "\\" + character for character in "&%$#_{}"}


@dataclass(frozen=True)
class Entry:
    """One cell of the table.

    Args:
        values: fractions, one for each finished run.
        planned: number of planned runs; 0 for a cell that is not part of the comparison.
    """

    values: Sequence[float]
    planned: int

    def text(self, *, between: str = " +- ") -> str:
        """Text of the cell: "41.20 +- 1.31", "41.20 (1 of 3)", "open" or "-"."""
        if not self.values:
            return OPEN if self.planned else NOT_PLANNED
        percents = [100 * value for value in self.values]
        words = f"{statistics.mean(percents):.2f}"
        if len(percents) > 1:
            words += f"{between}{statistics.stdev(percents):.2f}"
        return words if len(percents) == self.planned else f"{words} ({len(percents)} of {self.planned})"


Table = Mapping[str, Mapping[str, Entry]]  # row -> column -> entry
ACCURACIES = {"top1_acc": "top-1", "top5_acc": "top-5", "mean_class_acc": "mean class"}  # with their headings
FACTS = ("dataset", "split", "num_train", "num_test", "num_videos", "num_classes", "num_clips")


def conditions(result: Mapping[str, Any]) -> tuple:
    """Facts of a test.json or <protocol>.json that two results must share to stand in one table."""
    return (*(result.get(fact) for fact in FACTS), json.dumps(result.get("settings"), sort_keys=True))


def single(rows: Mapping[str, Mapping[str, float]], columns: Iterable[str]) -> dict[str, dict[str, Entry]]:
    """Table with one measurement in each cell; a cell without one is not planned."""
    return {
        title: {name: Entry([row[name]], 1) if isinstance(row.get(name), Real) else Entry([], 0) for name in columns}
        for title, row in rows.items()
    }


def cells(table: Table, columns: Mapping[str, str], *, between: str = " +- ") -> list[list[str]]:
    """Title and texts of each row.

    Args:
        table: all rows.
        columns: column -> heading, in order; other columns are left out.
        between: text between mean and deviation.
    """
    return [[title, *(row[column].text(between=between) for column in columns)] for title, row in table.items()]


def aligned(table: Table, columns: Mapping[str, str]) -> str:
    """Table as plain text for a terminal."""
    rows = [["", *columns.values()], *cells(table, columns)]
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [
        row[0].ljust(first) + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths, strict=True))
        for row in rows
    ]
    return "\n".join([f"{lines[0]}   (percent)", *lines[1:]])


def markdown(table: Table, columns: Mapping[str, str]) -> str:
    """Table in Markdown."""
    lines = [["", *columns.values()], ["---"] * (len(columns) + 1), *cells(table, columns)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(table: Table, columns: Mapping[str, str]) -> str:
    """Table in LaTeX, a tabular for \\usepackage{booktabs}."""
    body = [" & ".join([_escaped(title), *texts]) for title, *texts in cells(table, columns, between=" $\\pm$ ")]
    head = " & ".join(["", *map(_escaped, columns.values())])
    lines = [f"\\begin{{tabular}}{{l{'r' * len(columns)}}}", "\\toprule", f"{head} \\\\", "\\midrule"]
    return "\n".join([*lines, *(f"{line} \\\\" for line in body), "\\bottomrule", "\\end{tabular}\n"])


def to_csv(table: Table) -> str:
    """Table as CSV, a line for each planned cell: mean and deviation as fractions, runs done and planned."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["row", "column", "mean", "standard_deviation", "done", "planned"])
    for title, row in table.items():
        for column, entry in row.items():
            if entry.planned:
                mean = f"{statistics.mean(entry.values):.6f}" if entry.values else OPEN
                deviation = f"{statistics.stdev(entry.values):.6f}" if len(entry.values) > 1 else ""
                lines.writerow([title, column, mean, deviation, len(entry.values), entry.planned])
    return text.getvalue()


def draw(png: Path, table: Table, columns: Mapping[str, str]) -> None:
    """Draw a panel for each column: the mean of each row with its standard deviation, and each run as a dot."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    titles = list(table)
    size = (2.5 + 2.2 * len(columns), 1.2 + 0.3 * len(titles))
    figure = Figure(figsize=size, layout="constrained")
    for axes, (column, heading) in zip(
        figure.subplots(1, len(columns), sharey=True, squeeze=False)[0], columns.items(), strict=True
    ):
        for height, row in enumerate(table.values()):
            percents = [100 * value for value in row[column].values]
            if percents:
                spread = statistics.stdev(percents) if len(percents) > 1 else 0
                axes.errorbar(statistics.mean(percents), height, xerr=spread, fmt="o", color="tab:blue", capsize=3)
                axes.plot(percents, [height] * len(percents), ".", color="grey", markersize=4)
        axes.set_xlabel(f"{heading} (%)")
        axes.grid(axis="x", alpha=0.3)
        axes.set_yticks(range(len(titles)), titles)
        axes.set_ylim(len(titles) - 0.5, -0.5)
    with atomic_path(png) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def recall_of_chance(k: int, *, gallery: Sequence[int], queries: Sequence[int]) -> float:
    """R@k of random neighbours: mean probability that k draws from the gallery contain the query's class.

    Args:
        k: number of neighbours.
        gallery, queries: labels.
    """
    k = min(k, len(gallery))
    draws = math.comb(len(gallery), k)
    missed = {label: math.comb(len(gallery) - gallery.count(label), k) / draws for label in set(queries)}
    return 1 - statistics.mean(missed[label] for label in queries)


def _escaped(text: str) -> str:
    return "".join(LATEX_SPECIAL.get(character, character) for character in text)
