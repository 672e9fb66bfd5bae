"""All result tables: percent as text, Markdown, CSV, LaTeX and a picture.

Rows and columns are keyed by their names; a cell holds the measured fractions and the number of planned runs. Several
runs show mean +- standard deviation, the spread over seeds; one run shows its 95 % interval over the test videos.
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

from fedvssl.data.validation import medium_of
from fedvssl.evaluation.intervals import in_percent
from fedvssl.files.figures import save_figure
from fedvssl.files.results import CHECKPOINT
from fedvssl.files.settings import flat

OPEN, NOT_PLANNED = "open", "-"
LATEX_SPECIAL = {character: "\\" + character for character in "&%$#_{}"}


@dataclass(frozen=True)
class Entry:
    """One cell of the table.

    Args:
        values: fractions, one for each finished run.
        planned: number of planned runs; 0 for a cell that is not part of the comparison.
        interval: ends of the 95 % interval of a single value, if it has one.
    """

    values: Sequence[float]
    planned: int
    interval: Sequence[float] | None = None

    def text(self, *, between: str = " +- ") -> str:
        """Text of the cell: "41.20 [33.1, 49.8]", "41.20 +- 1.31", "41.20 (1 of 3)", "open" or "-"."""
        if not self.values:
            return OPEN if self.planned else NOT_PLANNED
        words = in_percent(statistics.mean(self.values), self.interval)
        if len(self.values) > 1:
            words += f"{between}{in_percent(statistics.stdev(self.values))}"
        return words if len(self.values) == self.planned else f"{words} ({len(self.values)} of {self.planned})"

    def error_bars(self) -> tuple[float, float]:
        """Lengths of the bars below and above the mean: the deviation, or for one value the way to its interval."""
        if len(self.values) > 1:
            deviation = statistics.stdev(self.values)
            return deviation, deviation
        low, high = self.interval or (self.values[0], self.values[0])
        return max(self.values[0] - low, 0.0), max(high - self.values[0], 0.0)  # rounding may put an end past the value


Table = Mapping[str, Mapping[str, Entry]]  # row -> column -> entry
ACCURACIES = {"top1_acc": "top-1", "top5_acc": "top-5", "mean_class_acc": "mean class"}  # with their headings
FACTS = (
    *("dataset", "split", "part", "validation", "validation_seed", "lists"),
    *("num_train", "num_test", "num_videos", "num_classes", "num_clips"),
)
OVER_VIDEOS = " (interval over single videos)"  # at the title of a row of an earlier version
CLIPS = ("clip_len", "frame_stride", "size", "crop_size")  # facts too


def facts(result: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of a test.json or <protocol>.json that two results must share to stand in one table.

    None stands for what a result does not record; those of earlier versions lack some.
    """
    known = {"part": "test", **result}  # earlier versions had no other part
    return {name: known.get(name) for name in FACTS} | clips_of(result) | dict(flat(_section(result, "settings")))


def interval_words(result: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> str:
    """Words at the title of a row whose intervals are over single videos, where others' are over groups; "" elsewhere.

    Results of earlier versions are so: those of the same videos that say how many groups there are tell it.

    Args:
        result: a test.json or <protocol>.json.
        others: all results of the table.
    """
    is_older = "num_groups" not in result and any("num_groups" in other for other in others)
    return OVER_VIDEOS if is_older and result.get("intervals") else ""


def clips_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """Clips that a result was measured on: frames, stride, (long, short) side and crop in pixels; None if unknown."""
    sample = _section(_section(result, "settings"), "test_sample")  # earlier evaluations have them only there
    return {name: result.get(name, sample.get(name)) for name in CLIPS}


def clip_facts(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a result about its clips, without those that its sample does not have.

    Args:
        settings: of the result, with "test_sample".
    """
    found = {"num_clips": settings["test_sample"].get("num_clips"), **clips_of({"settings": settings})}
    return {name: value for name, value in found.items() if value is not None}


def clip_words(result: Mapping[str, Any]) -> str:
    """Words for tables: "10 clips each, 112 pixels, 16 frames, stride 2"; of pictures "32 pixels"."""
    clips = clips_of(result)
    words = [] if "medium" in result else [f"{result.get('num_clips', '?')} clips each"]
    words += [f"{clips['crop_size']} pixels"] if clips["crop_size"] else []
    words += [f"{clips['clip_len']} frames, stride {clips['frame_stride']}"] if clips["clip_len"] else []
    return ", ".join(words if clips["crop_size"] else [*words, "length and picture size not recorded"])


def training_words(result: Mapping[str, Any]) -> str:
    """Words for tables: ", 5 labelled videos of each class", ", 6 training pictures of labelled.json", or nothing.

    Args:
        result: of a test; earlier ones may lack what is told here.
    """
    few, own, medium = result.get("labels_per_class"), result.get("train_list"), medium_of(result)
    words = f", {few} labelled {medium}s of each class" if few else ""
    return words + (f", {result.get('training_samples', '?')} training {medium}s of {own}" if own else "")


def recipe_words(result: Mapping[str, Any]) -> str:
    """Words at the name of a protocol about its settings: " (AdamProbe, epochs 20)"; "" for those of its file."""
    return f" ({result['recipe']})" if result.get("recipe") else ""


def conditions(result: Mapping[str, Any]) -> str:
    """Values of `facts`, as a key."""
    return json.dumps(facts(result), sort_keys=True)


def deciding(result: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of a result, and what else another result must share to take its place; see `fedvssl.files.results`."""
    found = facts(result)
    digests = {"contents of the lists": found.pop("lists"), "contents of the videos": result.get("media")}
    return {**found, **digests, "seed": result.get("seed"), "checkpoint": result.get(CHECKPOINT)}


def differing(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the facts in which results differ."""
    first, *others = map(facts, results)
    names = dict.fromkeys(name for found in (first, *others) for name in found)
    differ = [name for name in names if any(found.get(name) != first.get(name) for found in others)]
    return [*dict.fromkeys(name.removeprefix("test_sample.") for name in differ)]


def single(
    rows: Mapping[str, Mapping[str, float]],
    columns: Iterable[str],
    intervals: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
) -> dict[str, dict[str, Entry]]:
    """Table with one measurement in each cell; a cell without one is not planned.

    Args:
        rows: title -> column -> fraction.
        columns: of the table.
        intervals: title -> column -> ends of the interval, where there is one.
    """
    ends = {title: (intervals or {}).get(title, {}) for title in rows}
    return {
        title: {
            name: Entry([row[name]], 1, ends[title].get(name)) if isinstance(row.get(name), Real) else Entry([], 0)
            for name in columns
        }
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
    return text_table([["", *columns.values()], *cells(table, columns)])


def text_table(lines: Sequence[Sequence[str]]) -> str:
    """Texts as a table in Markdown; the first line has the headings."""
    head, *body = lines
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *body))


def latex(table: Table, columns: Mapping[str, str]) -> str:
    """Table in LaTeX, a tabular for \\usepackage{booktabs}."""
    body = [" & ".join([_escaped(title), *texts]) for title, *texts in cells(table, columns, between=" $\\pm$ ")]
    head = " & ".join(["", *map(_escaped, columns.values())])
    lines = [f"\\begin{{tabular}}{{l{'r' * len(columns)}}}", "\\toprule", f"{head} \\\\", "\\midrule"]
    return "\n".join([*lines, *(f"{line} \\\\" for line in body), "\\bottomrule", "\\end{tabular}\n"])


def to_csv(table: Table, *, part: str) -> str:
    """Table as CSV, a line for each planned cell: mean, deviation and interval as fractions, runs done and planned.

    Args:
        table: all rows.
        part: name of the evaluated videos, "test" or "validation", the last column.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["row", "column", "mean", "standard_deviation", "low", "high", "done", "planned", "part"])
    for title, row in table.items():
        for column, entry in row.items():
            if entry.planned:
                mean = f"{statistics.mean(entry.values):.6f}" if entry.values else OPEN
                deviation = f"{statistics.stdev(entry.values):.6f}" if len(entry.values) > 1 else ""
                ends = [f"{end:.6f}" for end in entry.interval] if entry.interval else ["", ""]
                lines.writerow([title, column, mean, deviation, *ends, len(entry.values), entry.planned, part])
    return text.getvalue()


def draw(png: Path, table: Table, columns: Mapping[str, str]) -> None:
    """Draw a panel for each column: mean and deviation of each row, or its one run with the interval; runs are dots."""
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
                bars = [[100 * length] for length in row[column].error_bars()]
                axes.errorbar(statistics.mean(percents), height, xerr=bars, fmt="o", color="tab:blue", capsize=3)
                axes.plot(percents, [height] * len(percents), ".", color="grey", markersize=4)
        axes.set_xlabel(f"{heading} (%)")
        axes.grid(axis="x", alpha=0.3)
        axes.set_yticks(range(len(titles)), titles)
        axes.set_ylim(len(titles) - 0.5, -0.5)
    save_figure(figure, png)


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


def _section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = settings.get(name)
    return found if isinstance(found, Mapping) else {}


def _escaped(text: str) -> str:
    return "".join(LATEX_SPECIAL.get(character, character) for character in text)
