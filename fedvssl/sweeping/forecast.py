"""What a sweep has done and would do, with an estimate of the time, for --dry_run."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from fedvssl.files.progress import clock
from fedvssl.sweeping.comparison import text_table
from fedvssl.sweeping.plan import PRETRAIN, Cell, Step, Sweep
from fedvssl.sweeping.results import Results, pretraining_costs


def forecast(sweep: Sweep, steps: Sequence[Step], still_open: Sequence[Step], results: Mapping[Cell, Results]) -> str:
    """A table of cells and steps, and the time that the open ones take if they take as long as the done ones.

    Args:
        sweep: its settings.
        steps: all of them.
        still_open: those that would run.
        results: of all cells.
    """
    kinds = [PRETRAIN, *sweep.measures]
    waiting = {str(step) for step in still_open}
    states: dict[Cell, dict[str, str]] = defaultdict(dict)
    for step in steps:
        states[step.cell][step.kind] = "open" if str(step) in waiting else "done"
    lines = [[str(cell), *(state.get(kind, "-") for kind in kinds)] for cell, state in states.items()]
    told = [text_table([["cell", *kinds], *lines]), _estimate(steps, still_open, results)]
    return "\n".join(filter(None, [*told, pretraining_costs(sweep.rows, results)]))


def _estimate(steps: Sequence[Step], still_open: Sequence[Step], results: Mapping[Cell, Results]) -> str:
    """Sentences on the number of open steps and their time: the median of the row's done steps, or of all rows'."""
    of_row: dict[tuple[str, str], list[float]] = defaultdict(list)
    of_kind: dict[str, list[float]] = defaultdict(list)
    for step in steps:
        if done := results.get(step.cell, {}).get(step.kind):
            of_row[step.cell.row, step.kind].append(done["seconds"])
            of_kind[step.kind].append(done["seconds"])
    counts = Counter(step.kind for step in still_open)
    each = [f"{count} {kind}" for kind, count in counts.items()]
    told = f"{len(still_open)} of {len(steps)} steps are open" + (f": {', '.join(each)}." if each else ".")
    known = [of_row.get((step.cell.row, step.kind)) or of_kind[step.kind] for step in still_open if of_kind[step.kind]]
    if known:
        told += f" About {clock(sum(map(statistics.median, known)))}, by the median of the done steps of each kind, of "
        told += "the same row where there are some"
        unknown = [kind for kind in counts if not of_kind[kind]]
        told += f", without {', '.join(unknown)}, of which none is done." if unknown else "."
    elif counts:
        told += " No step of these kinds is done, so there is no estimate of the time yet."
    return told
