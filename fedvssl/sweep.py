"""Compare strategies over seeds and splits: pre-train, retrieve, probe, fine-tune and test, and one table of it all.

    python -m fedvssl.sweep data_dir=data
    python -m fedvssl.sweep experiment=sweep_small data_dir=data data.name=ucf6_144p data.num_classes=6
    python -m fedvssl.sweep data_dir=data seeds=[7] measures.finetune.rows=[scratch,fedvssl_09_1]

A cell is a row of the table, a seed and a split; conf/sweep.yaml has the rows and how the commands are overridden.
Each cell has one JSON in results_dir: command lines, machine, seconds, metrics and the settings that decide the
numbers. A repeated command skips what is there and goes on with the rest; results of other settings are refused. The
table (table.md, .csv and .tex in results_dir, at the end .png) is written after each step; what has not been run is
open in it.
"""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fedvssl.config import Config, compose, parse_overrides
from fedvssl.data.atomic import atomic_path
from fedvssl.evaluation import comparison
from fedvssl.evaluation.comparison import Entry
from fedvssl.preflight import machine
from fedvssl.sweep_plan import FINETUNE, PRETRAIN, RANDOM, SCRATCH, Cell, Plan, Step
from fedvssl.training.metrics import Accuracies, chance, majority_class
from fedvssl.training.processes import exit_code
from fedvssl.training.recognition import labelled_videos
from fedvssl.training.resume import first_change
from fedvssl.training.run_log import METRICS_FILE, Progress, read_records

Results = dict[str, Any]  # of one cell: what its JSON holds
GUESSES = MAJORITY, CHANCE = "majority class", "chance"  # rows that nothing is run for
ROW_KEYS = {"title", "start", "pooled", "overrides"}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 2 for a mistake in the settings, 1 if a step has failed."""
    words = parse_overrides(sys.argv[1:] if argv is None else list(argv))
    failed: list[Step] = []
    try:
        return exit_code(lambda: failed.extend(sweep(words))) or int(bool(failed))
    except KeyboardInterrupt:
        print("Interrupted: the same command goes on where it stopped.", file=sys.stderr)
        return 130


def sweep(words: list[str]) -> list[Step]:
    """Run what is open and print the table.

    Args:
        words: overrides of conf/sweep.yaml.

    Returns:
        the steps that have failed.

    Raises:
        ValueError: for a mistake in the settings, or results of other settings, before anything is run.
    """
    config = compose("sweep", words)
    check(config)
    plans = [Plan(compose("sweep", [*words, f"data.split={split}"])) for split in config["splits"]]
    steps = [step for plan in plans for seed in config["seeds"] for step in plan.steps(seed)]
    steps.sort(key=lambda step: step.kind == FINETUNE)  # last, because it takes longest: the others fill the table soon
    results_dir = Path(config["results_dir"])
    refuse_other_settings(steps, config)
    failed = run(open_steps(steps, results_dir), config, lambda: write_tables(config, plans, steps))
    table = write_tables(config, plans, steps)
    draw(config, table)
    print(f"\n{comparison.markdown(table, headings(config))}\n{caption(config)}")
    if failed:
        print(f"error: {len(failed)} steps failed or wait for one that did, see the lines above.", file=sys.stderr)
    return failed


def check(config: Config) -> None:
    """Refuse with a ValueError what conf/sweep.yaml cannot mean."""
    for name, row in config["rows"].items():
        if unknown := sorted({*(row or {})} - ROW_KEYS):
            raise ValueError(f"rows.{name} has '{unknown[0]}', which is none of: {', '.join(sorted(ROW_KEYS))}.")
        if row and row.get("start") not in (None, RANDOM, SCRATCH):
            raise ValueError(
                f"rows.{name}.start={row['start']} is unknown: choose {RANDOM} or {SCRATCH}, or leave it out."
            )
    for kind, measure in config["measures"].items():
        if unknown := sorted({*(measure["rows"] or [])} - {*config["rows"]}):
            raise ValueError(f"measures.{kind}.rows has {unknown[0]}, which is none of: {', '.join(config['rows'])}.")
    for name in ("seeds", "splits"):
        if not (isinstance(config[name], list) and config[name] and all(type(n) is int for n in config[name])):
            raise ValueError(f"{name}={config[name]} must be a list of whole numbers, such as [7,8,9].")


def refuse_other_settings(steps: Sequence[Step], config: Config) -> None:
    """Raises ValueError if a result in results_dir is of other settings than those of now."""
    results_dir = Path(config["results_dir"])
    for step in steps:
        before = read_results(results_dir, step.cell).get(step.kind)
        if before and (change := first_change(before["settings"], step.settings)):
            raise ValueError(
                f"{results_file(results_dir, step.cell)} has a {step.kind} of other settings, {change}: "
                f"give another results_dir and work_dir, or remove it and {Path(config['work_dir'], str(step.cell))}."
            )


def open_steps(steps: Sequence[Step], results_dir: Path) -> list[Step]:
    """Those without a result, and the pre-training that they need where its weights are not on this machine."""
    still_open = {str(step) for step in steps if step.kind not in read_results(results_dir, step.cell)}
    needed = {step.cell for step in steps if str(step) in still_open}
    return [
        step
        for step in steps
        if str(step) in still_open or (step.kind == PRETRAIN and step.cell in needed and not step.result.is_file())
    ]


def run(steps: Sequence[Step], config: Config, tell: Callable[[], object]) -> list[Step]:
    """Run the steps one after the other, also after a failure; returns those that have failed.

    Args:
        steps: in this order.
        config: conf/sweep.yaml.
        tell: called after each result.
    """
    failed: list[Step] = []
    progress, here = Progress("step", len(steps), write=_print), machine()
    for number, step in enumerate(steps, start=1):
        if any(other.cell == step.cell and other.kind == PRETRAIN for other in failed):
            failed.append(step)  # one line has told why
            continue
        log = log_of(step, config)
        _print(f"{step} ...  ({log})")
        started = time.monotonic()
        try:
            run_commands(step, log)
            metrics = read_metrics(step)
        except (ValueError, KeyError, OSError) as error:
            failed.append(step)
            progress.update(number, f"{step} failed: {error}; see {log}")
            continue
        result = {"metrics": metrics, "seconds": round(time.monotonic() - started, 1), "machine": here}
        result["commands"] = [shlex.join(["python", *command]) for command in step.commands]
        add_result(Path(config["results_dir"]), step, {**result, "settings": step.settings})
        progress.update(number, f"{step}: {summary(metrics)}")
        tell()
    return failed


def run_commands(step: Step, log: Path) -> None:
    """Raises ValueError, with the last line of the log, if a command fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        for command in step.commands:
            print(f"$ {shlex.join(['python', *command])}", file=file, flush=True)
            code = subprocess.run([sys.executable, *command], stdout=file, stderr=subprocess.STDOUT).returncode
            if code:
                lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                raise ValueError(f"exit code {code}, {lines[-1]}")


def read_metrics(step: Step) -> dict[str, float]:
    """What the commands of a step have left: fractions, or the loss of the last round of pre-training."""
    if step.kind == PRETRAIN:
        records = [r for r in read_records(step.result.parent / METRICS_FILE) if "partition_id" not in r]
        step.result.stat()  # an OSError if the weights are not there
        return {"first_loss": records[0]["loss"], "loss": records[-1]["loss"]}
    content = json.loads(step.result.read_text(encoding="utf-8"))
    if step.kind == FINETUNE:
        return {name: content[name] for name in Accuracies.__dataclass_fields__}
    return content["rows"].get("checkpoint", content["rows"]["random"])


def summary(metrics: Mapping[str, float]) -> str:
    """ "R@1 0.412  R@5 0.712" """
    return "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())


def log_of(step: Step, config: Config) -> Path:
    return Path(config["work_dir"]) / "logs" / f"{step.cell}-{step.kind}.log"


def results_file(results_dir: Path, cell: Cell) -> Path:
    return results_dir / f"{cell}.json"


def read_results(results_dir: Path, cell: Cell) -> Results:
    """What has been measured of a cell, by the kind of step."""
    path = results_file(results_dir, cell)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def add_result(results_dir: Path, step: Step, result: Results) -> None:
    with atomic_path(results_file(results_dir, step.cell)) as temporary:
        content = read_results(results_dir, step.cell) | {step.kind: result}
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_tables(config: Config, plans: Sequence[Plan], steps: Sequence[Step]) -> comparison.Table:
    """table.md, .csv and .tex; returns the table."""
    results_dir = Path(config["results_dir"])
    results = {step.cell: read_results(results_dir, step.cell) for step in steps}
    columns = {f"{kind} {metric}": (kind, metric) for kind, metric in _metrics(config, results.values())}
    table = {}
    for name, row in plans[0].rows.items():
        entries = {}
        for column, (kind, metric) in columns.items():
            own = [results[step.cell].get(kind) for step in steps if (step.cell.row, step.kind) == (name, kind)]
            values = [result["metrics"][metric] for result in own if result]
            entries[column] = Entry(values, planned=len(own))
        table[row.get("title", name)] = entries
    table |= bottom_rows(plans, columns)
    shown = headings(config)
    texts = {"md": comparison.markdown(table, shown), "tex": comparison.latex(table, shown)}
    for ending, text in {**texts, "csv": comparison.to_csv(table)}.items():
        with atomic_path(results_dir / f"table.{ending}") as temporary:
            temporary.write_text(text, encoding="utf-8")
    return table


def draw(config: Config, table: comparison.Table) -> None:
    """table.png: the first column of each measure, without what guessing reaches, which would set the scale."""
    leading = [f"{kind} {next(iter(measure['columns']))}" for kind, measure in config["measures"].items()]
    measured = {title: row for title, row in table.items() if title not in GUESSES}
    columns = {column: heading for column, heading in headings(config).items() if column in leading}
    comparison.draw(Path(config["results_dir"]) / "table.png", measured, columns)


def headings(config: Config) -> dict[str, str]:
    """Columns for reading, with their headings."""
    return {
        f"{kind} {metric}": heading
        for kind, measure in config["measures"].items()
        for metric, heading in measure["columns"].items()
    }


def bottom_rows(plans: Sequence[Plan], columns: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, Entry]]:
    """What always answering with the most frequent class and what guessing reach, over the splits."""
    rows: dict[str, dict[str, Entry]] = {title: {} for title in GUESSES}
    for column, (_, metric) in columns.items():
        majority, guessed = [], []
        for plan in plans:
            data = plan.config["data"]
            gallery, queries = ([video.label for video in labelled_videos(data, part)] for part in ("train", "test"))
            if metric in Accuracies.__dataclass_fields__:
                majority.append(getattr(majority_class(torch.tensor(queries)), metric))
                guessed.append(getattr(chance(data["num_classes"]), metric))
            elif metric.startswith("R@"):
                k = int(metric.removeprefix("R@"))
                guessed.append(comparison.recall_of_chance(k, gallery=gallery, queries=queries))
        rows[MAJORITY][column] = Entry(majority, planned=len(majority))
        rows[CHANCE][column] = Entry(guessed, planned=len(guessed))
    return rows


def caption(config: Config) -> str:
    seeds, splits = (", ".join(map(str, config[name])) for name in ("seeds", "splits"))
    return f"Percent on {config['data']['name']}, mean +- standard deviation; seeds {seeds}, split {splits}."


def _metrics(config: Config, results: Any) -> list[tuple[str, str]]:
    """(measure, metric) of every column, those for reading and those that were measured beside them."""
    found = [(kind, metric) for kind, measure in config["measures"].items() for metric in measure["columns"]]
    found += [
        (kind, m) for kind in config["measures"] for cell in results for m in cell.get(kind, {}).get("metrics", {})
    ]
    return sorted(dict.fromkeys(found), key=lambda column: list(config["measures"]).index(column[0]))


def _print(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
