"""Tables of a sweep: rows of the plan, columns of its measures, and baselines that need no run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fedvssl.data.splits import labelled_videos, test_part
from fedvssl.files.atomic import atomic_path
from fedvssl.sweeping.comparison import ACCURACIES, Entry, Table, latex, markdown, recall_of_chance, to_csv
from fedvssl.sweeping.comparison import draw as draw_table
from fedvssl.sweeping.plan import Plan, Step
from fedvssl.sweeping.results import read_results
from fedvssl.training.metrics import chance, majority_class

SEEN_TESTS = " (trained on test videos)"  # at the title of a row whose accuracies are no test
GUESSES = MAJORITY, CHANCE = "majority class", "chance"  # rows that need no run


def write_tables(config: Mapping[str, Any], plans: Sequence[Plan], steps: Sequence[Step]) -> Table:
    """Write table.md, .csv and .tex; return the table."""
    results_dir = Path(config["results_dir"])
    results = {step.cell: read_results(results_dir, step.cell) for step in steps}
    columns = {f"{kind} {metric}": (kind, metric) for kind, metric in _metrics(config, results.values())}
    table = {}
    for name, row in plans[0].rows.items():
        entries, mark = {}, ""
        for column, (kind, metric) in columns.items():
            own = [results[step.cell].get(kind) for step in steps if (step.cell.row, step.kind) == (name, kind)]
            done = [result for result in own if result]
            mark = SEEN_TESTS if any("seen" in result for result in done) else mark
            # Cells of earlier versions have no intervals.
            interval = done[0].get("intervals", {}).get(metric) if len(done) == 1 else None
            entries[column] = Entry([result["metrics"][metric] for result in done], len(own), interval)
        table[row.get("title", name) + mark] = entries
    table |= baseline_rows(plans, columns)
    shown = headings(config)
    texts = {"md": markdown(table, shown), "tex": latex(table, shown)}
    part = test_part(config["data"])
    for ending, text in {**texts, "csv": to_csv(table, part=part)}.items():
        with atomic_path(results_dir / f"table.{ending}") as temporary:
            temporary.write_text(text, encoding="utf-8")
    return table


def draw_leading(config: Mapping[str, Any], table: Table) -> None:
    """Draw table.png: the first column of each measure, without the rows of guessing, which would set the scale."""
    leading = [f"{kind} {next(iter(measure['columns']))}" for kind, measure in config["measures"].items()]
    measured = {title: row for title, row in table.items() if title not in GUESSES}
    columns = {column: heading for column, heading in headings(config).items() if column in leading}
    draw_table(Path(config["results_dir"]) / "table.png", measured, columns)


def headings(config: Mapping[str, Any]) -> dict[str, str]:
    """Columns of the readable tables, with their headings, which name validation videos."""
    note = "" if test_part(config["data"]) == "test" else " (validation)"
    return {
        f"{kind} {metric}": f"{heading}{note}"
        for kind, measure in config["measures"].items()
        for metric, heading in measure["columns"].items()
    }


def baseline_rows(plans: Sequence[Plan], columns: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, Entry]]:
    """Baselines over the splits: always answering with the most frequent class, and guessing."""
    rows: dict[str, dict[str, Entry]] = {title: {} for title in GUESSES}
    for column, (_, metric) in columns.items():
        majority, guessed = [], []
        for plan in plans:
            data = plan.config["data"]
            gallery, queries = ([video.label for video in labelled_videos(data, part)] for part in ("train", "test"))
            if metric in ACCURACIES:
                majority.append(getattr(majority_class(torch.tensor(queries)), metric))
                guessed.append(getattr(chance(data["num_classes"]), metric))
            elif metric.startswith("R@"):
                k = int(metric.removeprefix("R@"))
                guessed.append(recall_of_chance(k, gallery=gallery, queries=queries))
        rows[MAJORITY][column] = Entry(majority, planned=len(majority))
        rows[CHANCE][column] = Entry(guessed, planned=len(guessed))
    return rows


def caption(config: Mapping[str, Any]) -> str:
    """Line below the table."""
    seeds, splits = (", ".join(map(str, config[name])) for name in ("seeds", "splits"))
    data = config["data"]
    held_out = (
        ""
        if data["validation"] is None
        else f" Held out of the training list and of the clients: data.validation={data['validation']}, "
        f"data.validation_seed={data['validation_seed']}."
    )
    return (
        f"Percent on {data['name']}: several runs as mean +- standard deviation, one run with its 95 % "
        f"interval over the {test_part(data)} videos; seeds {seeds}, split {splits}.{held_out}"
    )


def _metrics(config: Mapping[str, Any], results: Any) -> list[tuple[str, str]]:
    """(measure, metric) of every column: the columns of the readable tables, and all others that were measured."""
    found = [(kind, metric) for kind, measure in config["measures"].items() for metric in measure["columns"]]
    found += [
        (kind, m) for kind in config["measures"] for cell in results for m in cell.get(kind, {}).get("metrics", {})
    ]
    return sorted(dict.fromkeys(found), key=lambda column: list(config["measures"]).index(column[0]))
