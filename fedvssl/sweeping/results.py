"""One JSON for each cell of a sweep, with the results of its steps."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedvssl.files.atomic import read_json, write_json
from fedvssl.files.predictions import PREDICTIONS_FILE, read_right, to_digits
from fedvssl.files.run_log import METRICS_FILE, Record, read_records
from fedvssl.sweeping.comparison import ACCURACIES
from fedvssl.sweeping.plan import FINETUNE, INITIAL, MEAN_FRAME, PRETRAIN, RANDOM, Cell, Step
from fedvssl.training.watch import TRIVIAL

Results = dict[str, Any]  # content of one cell's JSON
# Start of a row -> its row in an evaluation of videos or pictures.
ROWS = {
    None: ("checkpoint",),
    RANDOM: ("random",),
    INITIAL: ("random initial", "random"),  # a network without BatchNorm has one alone
    MEAN_FRAME: ("mean frame", "pixels"),
}


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
        "metrics": fractions, or the losses of the first and the last round of pre-training, and then "curves", see
            `curves_of`, and "clips", the number of samples that all clients have trained on. Of fractions also
            "intervals" (ends by metric), "right" (metric -> "0" or "1" for each evaluated video), "num_test", their
            number, "part", their name, and "seen", if training had some of them, see `fedvssl.data.seen`, and of
            evaluations "labels_unseen", if training must not have had the labels, and "chance", where the protocol
            knows it.
    """
    if step.command == PRETRAIN:
        records = [r for r in read_records(step.result.parent / METRICS_FILE) if "partition_id" not in r]
        losses = [record["loss"] for record in records if "loss" in record]  # evaluations have records of their own
        step.result.stat()  # an OSError if the weights are not there
        if not losses:
            raise ValueError(f"{step.result.parent / METRICS_FILE} has no loss of a round")
        clips = round(sum(record.get("num_clips", 0) for record in records))
        return {"metrics": {"first_loss": losses[0], "loss": losses[-1]}, "clips": clips, "curves": curves_of(records)}
    content = read_json(step.result)
    if step.command == FINETUNE:
        metrics, intervals, num_test = {name: content[name] for name in ACCURACIES}, content["intervals"], "num_videos"
        _, found = read_right(step.result.with_name(PREDICTIONS_FILE))
        right = {name: to_digits(videos) for name, videos in found.items()}
    else:
        row, num_test = next(name for name in ROWS[step.start] if name in content["rows"]), "num_test"
        metrics, intervals, right = (content[name][row] for name in ("rows", "intervals", "right"))
    also = {name: content[name] for name in ("seen", "labels_unseen", "chance") if name in content}
    shared = {"num_test": content[num_test], "part": content["part"], **also}
    return {"metrics": metrics, "intervals": intervals, "right": right, **shared}


def pretraining_costs(rows: Iterable[str], results: Mapping[Cell, Results]) -> str:
    """Samples and processor seconds of each pre-training, a line each, in the order of the rows; "" if none is known.

    "Samples seen in pre-training: ctp 14688, vcop 4896." and "Processor seconds of pre-training: ctp 151 to 160,
    vcop 149." Cells of earlier versions do not tell theirs. Seeds of a row with other numbers of samples are all named.
    """
    seen: dict[str, set[int]] = defaultdict(set)
    taken: dict[str, set[int]] = defaultdict(set)
    for cell, own in results.items():
        if clips := own.get(PRETRAIN, {}).get("clips"):
            seen[cell.row].add(clips)
        if seconds := own.get(PRETRAIN, {}).get("processor_seconds"):
            taken[cell.row].add(round(seconds))
    samples = [f"{row} {' or '.join(map(str, sorted(seen[row])))}" for row in rows if row in seen]
    work = [f"{row} {' to '.join(map(str, _ends(taken[row])))}" for row in rows if row in taken]
    lines = {"Samples seen in pre-training": samples, "Processor seconds of pre-training": work}
    return "\n".join(f"{name}: {', '.join(each)}." for name, each in lines.items() if each)


def _ends(values: set[int]) -> list[int]:
    """Least and most, once if they are the same."""
    return sorted({min(values), max(values)})


def curves_of(records: Sequence[Record]) -> dict[str, list[list[float]]]:
    """Pairs of round and value of the loss, of metrics beside trivial predictors, and of accuracies, by name.

    Accuracies are those of evaluations that have an interval.
    """
    others = {name.removeprefix(TRIVIAL) for record in records for name in record if name.startswith(TRIVIAL)}
    curves: dict[str, list[list[float]]] = {}
    for record in records:
        for name, value in record.items():
            is_compared = any(f"{name}_{other}" in record or name.endswith(f"_{other}") for other in others)
            if name == "loss" or is_compared or (name.startswith("eval_") and f"{name}_low" in record):
                curves.setdefault(name, []).append([record["server_round"], value])
    return curves
