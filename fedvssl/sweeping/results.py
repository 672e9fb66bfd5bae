"""One JSON for each cell of a sweep, with the results of its steps."""

from pathlib import Path
from typing import Any

from fedvssl.files.atomic import read_json, write_json
from fedvssl.files.run_log import METRICS_FILE, read_records
from fedvssl.sweeping.comparison import ACCURACIES
from fedvssl.sweeping.plan import FINETUNE, PRETRAIN, Cell, Step

Results = dict[str, Any]  # content of one cell's JSON


def results_file(results_dir: Path, cell: Cell) -> Path:
    """Place of a cell's JSON."""
    return results_dir / f"{cell}.json"


def read_results(results_dir: Path, cell: Cell) -> Results:
    """Results of a cell so far, by the kind of step."""
    path = results_file(results_dir, cell)
    return read_json(path) if path.is_file() else {}


def add_result(results_dir: Path, step: Step, result: Results) -> None:
    """Add the result of a step to the JSON of its cell."""
    write_json(results_file(results_dir, step.cell), read_results(results_dir, step.cell) | {step.kind: result})


def read_measured(step: Step) -> Results:
    """Measured values of a finished step.

    Returns:
        "metrics": fractions, or the losses of the first and the last round of pre-training; of fractions also
            "intervals" (ends by metric), "num_test", the number of evaluated videos, and "part", their name.
    """
    if step.kind == PRETRAIN:
        records = read_records(step.result.parent / METRICS_FILE)
        losses = [r["loss"] for r in records if "partition_id" not in r and "loss" in r]  # evaluations have none
        step.result.stat()  # an OSError if the weights are not there
        if not losses:
            raise ValueError(f"{step.result.parent / METRICS_FILE} has no loss of a round")
        return {"metrics": {"first_loss": losses[0], "loss": losses[-1]}}
    content = read_json(step.result)
    if step.kind == FINETUNE:
        metrics, intervals, num_test = {name: content[name] for name in ACCURACIES}, content["intervals"], "num_videos"
    else:
        row = "checkpoint" if "checkpoint" in content["rows"] else "random"
        metrics, intervals, num_test = content["rows"][row], content["intervals"][row], "num_test"
    return {"metrics": metrics, "intervals": intervals, "num_test": content[num_test], "part": content["part"]}
