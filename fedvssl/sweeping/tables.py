"""Tables of a sweep: rows of the plan, columns of its measures, and baselines that need no run."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from fedvssl.data.splits import labelled_videos
from fedvssl.evaluation.intervals import Interval, interval
from fedvssl.files.atomic import atomic_path
from fedvssl.files.predictions import from_digits
from fedvssl.sweeping.comparison import ACCURACIES, Entry, Table, latex, markdown, recall_of_chance, to_csv
from fedvssl.sweeping.comparison import draw as draw_table
from fedvssl.sweeping.plan import FINETUNE, Cell, Measure, Plan, Step, Sweep, groups_of
from fedvssl.sweeping.results import Results, read_results
from fedvssl.training.metrics import chance, majority_class

SEEN_TESTS = " (trained on test videos)"  # at the title of a row whose accuracies are no test
READ_LABELS = (FINETUNE, "linear_probe", "knn", "retrieval", "semi")  # commands that read those of the lists
GUESSES = MAJORITY, CHANCE = "majority class", "chance"  # rows that need no run


def write_tables(sweep: Sweep, plans: Sequence[Plan], steps: Sequence[Step]) -> Table:
    """Write table.md, .csv and .tex; return the table."""
    results_dir = sweep.results_dir
    results = {step.cell: read_results(results_dir, step.cell) for step in steps}
    groups = groups_of(plans)
    columns = {f"{kind} {metric}": (kind, metric) for kind, metric in _metrics(sweep.measures, results.values())}
    table = {}
    for name in sweep.rows:
        entries = {}
        for column, (kind, metric) in columns.items():
            own = [step.cell for step in steps if (step.cell.row, step.kind) == (name, kind)]
            done = {cell: result for cell in own if (result := results[cell].get(kind))}
            ends = [interval_of(result, metric, groups[cell.split]) for cell, result in done.items()]
            one = ends[0] if len(done) == 1 else None
            entries[column] = Entry([result["metrics"][metric] for result in done.values()], len(own), one)
        table[title_of(name, sweep, results)] = entries
    told = {kind: [own[kind].get("chance", {}) for own in results.values() if kind in own] for kind in sweep.measures}
    table |= baseline_rows(plans, columns, told)
    shown = headings(sweep)
    texts = {"md": markdown(table, shown), "tex": latex(table, shown)}
    for ending, text in {**texts, "csv": to_csv(table, part=sweep.data.test_part)}.items():
        with atomic_path(results_dir / f"table.{ending}") as temporary:
            temporary.write_text(text, encoding="utf-8")
    return table


def interval_of(result: Results, metric: str, groups: Sequence[str]) -> Interval | None:
    """Interval of a metric, from its digits for each video; None without them, as of earlier versions.

    What the cell has as "intervals" may be computed as an earlier version did, over single videos. A cell of another
    number of videos has none either; the paired differences name it.
    """
    right = from_digits(result.get("right", {}).get(metric, ""))
    return interval(right, groups) if right and len(right) == len(groups) else None


def draw_leading(sweep: Sweep, table: Table) -> None:
    """Draw table.png: the first column of each measure, without the rows of guessing, which would set the scale."""
    leading = [f"{kind} {next(iter(measure.columns))}" for kind, measure in sweep.measures.items()]
    measured = {title: row for title, row in table.items() if title not in GUESSES}
    columns = {column: heading for column, heading in headings(sweep).items() if column in leading}
    draw_table(sweep.results_dir / "table.png", measured, columns)


def title_of(row: str, sweep: Sweep, results: Mapping[Cell, Results]) -> str:
    """Title of a row, which says whether it was trained on test videos."""
    done = (result for cell, own in results.items() if cell.row == row for result in own.values())
    return sweep.rows[row].title + (SEEN_TESTS if any("seen" in result for result in done) else "")


def headings(sweep: Sweep) -> dict[str, str]:
    """Columns of the readable tables, with their headings, which name validation videos."""
    note = "" if sweep.data.test_part == "test" else " (validation)"
    return {
        f"{kind} {metric}": f"{heading}{note}"
        for kind, measure in sweep.measures.items()
        for metric, heading in measure.columns.items()
    }


def baseline_rows(
    plans: Sequence[Plan], columns: Mapping[str, tuple[str, str]], told: Mapping[str, Sequence[Mapping[str, float]]]
) -> dict[str, dict[str, Entry]]:
    """Baselines over the splits: always answering with the most frequent class, and guessing.

    Args:
        plans: one for each split.
        columns: name of the column -> measure and metric.
        told: measure -> for each of its results metric -> fraction that guessing reaches, where it knows it.
    """
    rows: dict[str, dict[str, Entry]] = {title: {} for title in GUESSES}
    sweep = plans[0].sweep
    for column, (kind, metric) in columns.items():
        majority, guessed = [], []
        if sweep.measures[kind].command not in READ_LABELS:  # it tells itself what guessing reaches
            known = [chances[metric] for chances in told[kind] if metric in chances][:1]
            rows[MAJORITY][column], rows[CHANCE][column] = Entry([], planned=0), Entry(known, planned=len(known))
            continue
        for plan in plans:
            lists = (labelled_videos(plan.data, part) for part in ("train", "test"))
            gallery, queries = ([video.label for video in videos] for videos in lists)
            if metric in ACCURACIES:
                majority.append(getattr(majority_class(torch.tensor(queries)), metric))
                guessed.append(getattr(chance(plan.data.num_classes), metric))
            elif metric.startswith("R@"):
                k = int(metric.removeprefix("R@"))
                guessed.append(recall_of_chance(k, gallery=gallery, queries=queries))
        rows[MAJORITY][column] = Entry(majority, planned=len(majority))
        rows[CHANCE][column] = Entry(guessed, planned=len(guessed))
    return rows


def caption(sweep: Sweep) -> str:
    """Line below the table."""
    seeds, splits = (", ".join(map(str, numbers)) for numbers in (sweep.seeds, sweep.splits))
    data = sweep.data
    held_out = (
        ""
        if data.validation is None
        else f" Held out of the training list and of the clients: data.validation={data.validation}, "
        f"data.validation_seed={data.validation_seed}."
    )
    return (
        f"Percent on {data.name}: several runs as mean +- standard deviation, one run with its 95 % "
        f"interval over the {data.test_part} videos; seeds {seeds}, split {splits}.{held_out}"
    )


def _metrics(measures: Mapping[str, Measure], results: Any) -> list[tuple[str, str]]:
    """(measure, metric) of every column: the columns of the readable tables, and all others that were measured."""
    found = [(kind, metric) for kind, measure in measures.items() for metric in measure.columns]
    found += [(kind, m) for kind in measures for cell in results for m in cell.get(kind, {}).get("metrics", {})]
    return sorted(dict.fromkeys(found), key=lambda column: list(measures).index(column[0]))
