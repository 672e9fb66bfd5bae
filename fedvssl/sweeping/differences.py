"""Paired differences between the rows of a sweep: cells of the same seed and split, on the same evaluated videos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedvssl.data.splits import labelled_videos
from fedvssl.data.validation import group_of
from fedvssl.evaluation.intervals import Difference, mean_over_runs, paired_difference
from fedvssl.files.predictions import from_digits
from fedvssl.sweeping.comparison import NOT_PLANNED, text_table
from fedvssl.sweeping.plan import Cell, Plan, Step, Sweep
from fedvssl.sweeping.results import Results


@dataclass(frozen=True)
class Compared:
    """One row beside the baseline in one metric: a difference for each seed and split that both have finished."""

    runs: Sequence[Difference]

    @property
    def mean(self) -> Difference:
        return mean_over_runs(self.runs)

    def text(self) -> str:
        """Text of a cell: "+4.2 [-1.3, 9.7]; 1 of 3", the last the runs whose own interval leaves out 0."""
        if not self.runs:
            return NOT_PLANNED
        apart = sum(run.low > 0 or run.high < 0 for run in self.runs)
        return f"{self.mean.text()}; {apart} of {len(self.runs)}"


def compare_rows(
    plans: Sequence[Plan], steps: Sequence[Step], results: Mapping[Cell, Results]
) -> dict[str, dict[tuple[str, str], Compared]]:
    """Differences of each row from the baseline, by the row's title and (measure, metric) of the readable tables."""
    sweep = plans[0].sweep
    groups = {plan.data.split: [group_of(v.name) for v in labelled_videos(plan.data, "test")] for plan in plans}
    columns = [(kind, metric) for kind, measure in sweep.measures.items() for metric in measure.columns]
    table: dict[str, dict[tuple[str, str], Compared]] = {}
    for name, row in sweep.rows.items():
        if name == sweep.baseline:
            continue
        cells = list(dict.fromkeys(step.cell for step in steps if step.cell.row == name))
        found = {column: Compared(_runs(cells, column, results, groups, baseline=sweep.baseline)) for column in columns}
        if any(compared.runs for compared in found.values()):
            table[row.title] = found
    return table


def _runs(
    cells: Sequence[Cell],
    column: tuple[str, str],
    results: Mapping[Cell, Results],
    groups: Mapping[int | str, Sequence[str]],
    *,
    baseline: str | None,
) -> list[Difference]:
    runs = []
    for cell in cells:
        other = Cell(str(baseline), cell.seed, cell.split)
        own, beside = (_right(results.get(one, {}), column) for one in (cell, other))
        if own and beside:
            runs.append(paired_difference(own, beside, groups[cell.split]))
    return runs


def _right(result: Results, column: tuple[str, str]) -> list[bool]:
    kind, metric = column
    return from_digits(result.get(kind, {}).get("right", {}).get(metric, ""))  # results of earlier versions lack it


def differences_text(table: Mapping[str, Mapping[tuple[str, str], Compared]], sweep: Sweep) -> str:
    """The table in Markdown, with what its numbers are; empty if nothing can be compared."""
    columns = dict.fromkeys(column for row in table.values() for column, compared in row.items() if compared.runs)
    if not columns or sweep.baseline is None:
        return ""
    headings = ["", *(sweep.measures[kind].columns[metric] for kind, metric in columns)]
    lines = [[title, *(row[column].text() for column in columns)] for title, row in table.items()]
    return (
        f"Paired differences from {sweep.rows[sweep.baseline].title}, in points: mean over the runs with its 95 % "
        "interval over them (Student; of one run, over its videos); runs whose own interval over the videos leaves "
        f"out 0.\n\n{text_table([headings, *lines])}"
    )
