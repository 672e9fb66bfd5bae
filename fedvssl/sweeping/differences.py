"""Paired differences between the rows of a sweep: cells of the same seed and split, on the same evaluated videos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedvssl.evaluation.intervals import Difference, mean_over_runs, paired_difference
from fedvssl.files.atomic import atomic_path
from fedvssl.files.predictions import from_digits
from fedvssl.sweeping.comparison import NOT_PLANNED, OPEN, text_table
from fedvssl.sweeping.plan import Cell, Plan, Step, groups_of
from fedvssl.sweeping.results import Results, read_results
from fedvssl.sweeping.tables import caption, headings, title_of

EXPLANATION = (
    "Paired differences in points, mean over the runs. The 95 % interval covers the spread over runs (Student's t, "
    "seeds and splits as independent draws) and the mean interval of a run over its videos. Then the number of runs "
    "whose own interval lies above or below 0, if there are any."
)


@dataclass(frozen=True)
class Compared:
    """One row beside another in one metric: a difference for each seed and split that both have finished."""

    runs: Sequence[Difference]
    planned: int

    def text(self) -> str:
        """Text of a cell: "+4.2 [-1.3, 9.7]; 1 of 3 above", "-5.0 [-9.1, -0.9] (2 of 3 done)", "open" or "-"."""
        if not self.runs:
            return OPEN if self.planned else NOT_PLANNED
        number = len(self.runs)
        apart = {"above": sum(run.low > 0 for run in self.runs), "below": sum(run.high < 0 for run in self.runs)}
        words = ", ".join(f"{count} of {number} {side}" for side, count in apart.items() if count)
        done = "" if number == self.planned else f" ({number} of {self.planned} done)"
        return mean_over_runs(self.runs).text() + (f"; {words}" if words else "") + done


Column = tuple[str, str]  # measure and metric


def compare_rows(
    plans: Sequence[Plan], steps: Sequence[Step], results: Mapping[Cell, Results]
) -> dict[str, dict[Column, Compared]]:
    """Differences of each row from the baseline of each measure, by name of the row.

    Raises:
        ValueError: if two cells were evaluated on other numbers of videos.
    """
    sweep = plans[0].sweep
    groups = groups_of(plans)
    planned = {(step.cell, step.kind) for step in steps}
    table: dict[str, dict[Column, Compared]] = {name: {} for name in sweep.rows}
    for kind, measure in sweep.measures.items():
        baseline = measure.baseline or sweep.baseline
        for name, metric in ((name, metric) for name in sweep.rows for metric in measure.columns):
            pairs = [
                (cell, Cell(str(baseline), cell.seed, cell.split))
                for cell, planned_kind in sorted(planned, key=str)
                if (cell.row, planned_kind) == (name, kind) and name != baseline
            ]
            pairs = [pair for pair in pairs if (pair[1], kind) in planned]
            runs = [difference_of(pair, (kind, metric), results, groups) for pair in pairs]
            table[name][kind, metric] = Compared([run for run in runs if run], len(pairs))
    return table


def difference_of(
    pair: tuple[Cell, Cell],
    column: Column,
    results: Mapping[Cell, Results],
    groups: Mapping[int | str, Sequence[str]],
) -> Difference | None:
    """Difference of a cell from another of its seed and split; None if one has no digits for each video.

    Raises:
        ValueError: if the two were evaluated on other numbers of videos.
    """
    kind, metric = column
    right, baseline = (from_digits(results[cell].get(kind, {}).get("right", {}).get(metric, "")) for cell in pair)
    if not right or not baseline:
        return None
    try:
        return paired_difference(right, baseline, groups[pair[0].split])
    except ValueError as error:
        raise ValueError(f"{kind} of {pair[0]} and {pair[1]}: {error} Remove one to compute it again.") from error


def write_differences(plans: Sequence[Plan], steps: Sequence[Step]) -> str:
    """Write differences.md, the paired differences of all rows from the baseline, and return its text."""
    sweep = plans[0].sweep
    results = {step.cell: read_results(sweep.results_dir, step.cell) for step in steps}
    text = differences_text(plans, steps, results)
    with atomic_path(sweep.results_dir / "differences.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def differences_text(plans: Sequence[Plan], steps: Sequence[Step], results: Mapping[Cell, Results]) -> str:
    """The table in Markdown and what its numbers are, or why there is none."""
    sweep, table = plans[0].sweep, compare_rows(plans, steps, results)
    columns = dict.fromkeys(column for row in table.values() for column, compared in row.items() if compared.runs)
    if not columns:
        return "No row is compared: no pair is done yet, or `baseline` is null or left out.\n"
    shown, names = headings(sweep), [""]
    for kind, metric in columns:
        baseline = sweep.measures[kind].baseline or str(sweep.baseline)
        names.append(f"{shown[f'{kind} {metric}']} - {sweep.rows[baseline].title}")
    compared = {name: row for name, row in table.items() if any(one.planned for one in row.values())}
    lines = [
        [title_of(name, sweep, results), *(row[column].text() for column in columns)] for name, row in compared.items()
    ]
    measured = ((cell, own[kind]) for cell, own in results.items() for kind in own if kind in sweep.measures)
    old = sorted({str(cell) for cell, result in measured if "right" not in result})
    note = f"\nWithout digits for each video, as of earlier versions: {', '.join(old)}. Remove them.\n" if old else ""
    return f"{EXPLANATION}\n\n{text_table([names, *lines])}{note}\n{caption(sweep)}\n"
