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


def read_metrics(step: Step) -> dict[str, float]:
    """Metrics of a finished step: fractions, or the losses of the first and the last round of pre-training."""
    if step.kind == PRETRAIN:
        records = [r for r in read_records(step.result.parent / METRICS_FILE) if "partition_id" not in r]
        step.result.stat()  # an OSError if the weights are not there
        return {"first_loss": records[0]["loss"], "loss": records[-1]["loss"]}
    content = read_json(step.result)
    if step.kind == FINETUNE:
        return {name: content[name] for name in ACCURACIES}
    return content["rows"].get("checkpoint", content["rows"]["random"])
