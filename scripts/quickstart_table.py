#!/usr/bin/env python3
"""Table of the quickstart: what pre-training is worth, each accuracy with its 95 % interval, and as table.json.

    python scripts/quickstart_table.py outputs/quickstart

Reads the evaluation of the last round below pretraining/, and test.json and predictions.csv in finetuned/ and scratch/.
table.json holds the same as fractions: `rows`, row -> column -> value, low, high; `differences`, column -> baseline,
difference, low, high.
"""

import json
import sys
from pathlib import Path
from typing import Any

from fedvssl.data.validation import evaluated_videos, group_of
from fedvssl.evaluation.intervals import Difference, paired_difference
from fedvssl.files.atomic import read_json, write_json
from fedvssl.files.ending import failed
from fedvssl.files.predictions import PREDICTIONS_FILE, read_right
from fedvssl.files.rounds import last_round, round_of
from fedvssl.sweeping.comparison import aligned, differing, single

# Column -> protocol and metric.
PROTOCOLS = {
    "R@1": ("retrieval", "R@1"),
    "linear probe": ("linear_probe", "top1_acc"),
    "motion probe": ("motion_probe", "top1_acc"),
}
FINE_TUNED = "fine-tuned"
PRE_TRAINED, RANDOM, SCRATCH = "pre-trained", "random weights", "from scratch"
PROTOCOL_ROWS = {PRE_TRAINED: "checkpoint", RANDOM: "random", "mean frame, no network": "mean frame"}
TEST_ROWS = {PRE_TRAINED: "finetuned", SCRATCH: "scratch"}
SHARED = (
    "seed",
    "dataset",
    "split",
    "num_train",
    "num_test",
    "num_groups",
    "media",
)  # facts of all evaluations of a table
ORDER = (PRE_TRAINED, RANDOM, SCRATCH, "mean frame, no network", "majority class", "chance")


def main() -> int:
    """The command; returns its exit code."""
    try:
        if len(sys.argv) != 2:
            raise ValueError("Name the work_dir of a quickstart.")
        work_dir = Path(sys.argv[1])
        report = read_report(work_dir)
        write_json(work_dir / "table.json", report)
        print(text(report))
    except (ValueError, OSError) as error:
        return failed(error, code=2)
    return 0


def read_report(work_dir: Path) -> dict[str, Any]:
    """Content of table.json.

    Raises:
        ValueError: if a part of it has not been computed, or the parts do not belong together.
    """
    rows: dict[str, dict[str, dict[str, float]]] = {row: {} for row in ORDER}
    differences: dict[str, dict[str, Any]] = {}
    facts, evaluations = {}, read_evaluations(work_dir)
    for column, (protocol, metric) in PROTOCOLS.items():
        found = evaluations[protocol]
        for row, name in PROTOCOL_ROWS.items():
            rows[row][column] = cell(found["rows"][name][metric], found["intervals"][name].get(metric))
        if metric in found["chance"]:
            rows["chance"][column] = cell(found["chance"][metric])
        differences[column] = {"baseline": RANDOM, **found["differences"][metric]}
        facts = {name: found[name] for name in ("dataset", "num_train", "num_test", "num_groups") if name in found}
    tests = {row: read_json(work_dir / folder / "test.json") for row, folder in TEST_ROWS.items()}
    if names := differing([*tests.values()]):
        raise ValueError(f"{work_dir}: finetuned and scratch differ in {', '.join(names)} of the test: repeat it.")
    for row, test in tests.items():
        rows[row][FINE_TUNED] = cell(test["top1_acc"], test["intervals"]["top1_acc"])
    for row, name in {"majority class": "majority_class", "chance": "chance"}.items():
        value = tests[PRE_TRAINED][name]["top1_acc"]
        classifiers = ("linear probe", FINE_TUNED)  # a neighbour is no constant answer
        rows[row] |= {column: cell(value) for column in (("R@1", *classifiers) if row == "chance" else classifiers)}
    differences[FINE_TUNED] = {"baseline": SCRATCH, **fine_tuning_difference(work_dir)._asdict()}
    return {**facts, "rows": rows, "differences": differences}


def read_evaluations(work_dir: Path) -> dict[str, dict[str, Any]]:
    """The newest evaluation of the last round by each protocol: those of other settings may lie in folders beside it.

    Raises:
        ValueError: if one is missing, or they are of other seeds or videos.
    """
    run_dir, newest = work_dir / "pretraining", {}
    for protocol, _ in PROTOCOLS.values():
        paths = sorted(run_dir.glob(f"evaluation/*/{protocol}.json"), key=lambda path: path.stat().st_mtime_ns)
        results = [read_json(path) for path in paths]
        own = [result for result in results if round_of(Path(str(result.get("checkpoint")))) == last_round(run_dir)]
        if not own:
            raise ValueError(f"No {protocol} in {run_dir} that is of its last round: run scripts/quickstart.sh again.")
        newest[protocol] = own[-1]
    for name in SHARED:
        if len({json.dumps(result.get(name)) for result in newest.values()}) > 1:
            raise ValueError(
                f"The evaluations in {run_dir} differ in {name}, so they cannot stand in one table: run "
                "scripts/quickstart.sh again."
            )
    return newest


def cell(value: float, interval: list[float] | None = None) -> dict[str, float]:
    """One accuracy as a fraction, with the ends of its interval if it has one."""
    return {"value": value} if interval is None else {"value": value, "low": interval[0], "high": interval[1]}


def fine_tuning_difference(work_dir: Path) -> Difference:
    """Paired difference of the two fine-tuned recognizers.

    Raises:
        ValueError: if they were tested on other videos.
    """
    read = {row: read_right(work_dir / folder / PREDICTIONS_FILE) for row, folder in TEST_ROWS.items()}
    (names, right), (other_names, baseline) = read[PRE_TRAINED], read[SCRATCH]
    if names != other_names:
        raise ValueError(f"{work_dir}: finetuned and scratch were tested on other videos; test both again.")
    return paired_difference(right["top1_acc"], baseline["top1_acc"], [group_of(name) for name in names])


def text(report: dict[str, Any]) -> str:
    """The table in percent, the paired differences, and which of them the test videos are too few to tell."""
    columns = {name: name for name in (*PROTOCOLS, FINE_TUNED)}
    values = {row: {name: found["value"] for name, found in own.items()} for row, own in report["rows"].items()}
    intervals = {
        row: {name: [found["low"], found["high"]] for name, found in own.items() if "low" in found}
        for row, own in report["rows"].items()
    }
    lines = [aligned(single(values, columns, intervals), columns), ""]
    for column, found in report["differences"].items():
        difference = Difference(*(found[name] for name in Difference._fields))
        untold = ": too few test videos to tell them apart" if difference.low <= 0 <= difference.high else ""
        lines.append(f"{column}: {PRE_TRAINED} - {found['baseline']} {difference.text()}{untold}")
    evaluated = evaluated_videos(report, report["num_test"])
    lines.append(f"{evaluated} and {report['num_train']} training videos; brackets are 95 % intervals")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
