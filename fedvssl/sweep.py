"""Compare strategies over seeds and splits: pre-train, retrieve, probe, fine-tune and test, with one table of all.

    python -m fedvssl.sweep data_dir=data
    python -m fedvssl.sweep data_dir=data --dry_run     what is done, what is open and how long it takes; runs nothing
    python -m fedvssl.sweep experiment=small_clips data_dir=data data.name=ucf6_144p
    python -m fedvssl.sweep data_dir=data seeds=[7] measures.finetune.rows=[scratch,fedvssl_09_1]

A cell is one row of the table with one seed and split; conf/sweep.yaml has the rows and the overrides of the commands.
Each cell has one JSON in results_dir: command lines, machine, seconds, processor seconds, metrics and the settings that
decide the numbers. A repeated command computes only missing results and rejects results of other settings. The table
(table.md, .csv and .tex in results_dir, at the end .png) is written after each step, with missing results as "open"; so
are the paired differences of the rows from one of them (differences.md). curves.png has the losses over rounds,
labels.png the accuracies over the number of labelled videos.
"""

import sys

from fedvssl.early import DRY_RUN, answered

if __name__ == "__main__" and answered("sweep"):  # before PyTorch is imported, which takes seconds
    sys.exit()

import contextlib
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

from fedvssl.config import Config, compose
from fedvssl.data.split import Split
from fedvssl.files.ending import exit_code, run_child
from fedvssl.files.environment import machine
from fedvssl.files.lock import owned
from fedvssl.files.names import check_name
from fedvssl.files.progress import Progress
from fedvssl.files.settings import first_change
from fedvssl.finetune import FREE as FREE_IN_FINETUNING
from fedvssl.identity import FREE as FREE_IN_PRETRAINING
from fedvssl.identity import SAMPLING
from fedvssl.overrides import parse_overrides
from fedvssl.sweeping.checks import check_measures, check_rows
from fedvssl.sweeping.comparison import Table, markdown
from fedvssl.sweeping.curves import draw_curves, draw_labels
from fedvssl.sweeping.differences import write_differences
from fedvssl.sweeping.forecast import forecast
from fedvssl.sweeping.plan import FINETUNE, PRETRAIN, Cell, Measure, Plan, Row, Step, Sweep, flags
from fedvssl.sweeping.results import add_result, pretraining_costs, read_measured, read_results, results_file
from fedvssl.sweeping.tables import caption, draw_leading, headings, write_tables
from fedvssl.training.precision import choose_precision

# Free where a run is continued, but they decide the numbers of a finished one.
DECISIVE = SAMPLING | {*("rounds", "training.epochs", "strategy.max_update_factor", "strategy.oversized_updates")}
# Settings of all commands that do not decide the numbers of a finished run; of `init` the content is compared.
FREE = (FREE_IN_PRETRAINING | FREE_IN_FINETUNING | {"checkpoint", "feature_dir"}) - DECISIVE
LISTS = tuple(f"*/{folder}/*.json" for folder in ("pool", "clients", "alone*"))
WRITES = ("*.json", "table.*", "differences.md", "curves.*", "labels.*", *LISTS)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 2 for a mistake in the settings, 1 if a step has failed."""
    words = sys.argv[1:] if argv is None else list(argv)
    failed: list[Step] = []
    rest = [word for word in words if word not in DRY_RUN]
    if rest != words:
        return exit_code(lambda: print(foresee(parse_overrides(rest))))
    return exit_code(lambda: failed.extend(sweep(parse_overrides(words)))) or int(bool(failed))


def sweep(words: list[str]) -> list[Step]:
    """Run the missing steps and print the table.

    Args:
        words: overrides of conf/sweep.yaml.

    Returns:
        the steps that have failed.

    Raises:
        ValueError: for a mistake in the settings, or results of other settings, before anything is run.
    """
    settings = read(compose("sweep", words))
    with contextlib.ExitStack() as locks:
        for folder in sorted({settings.work_dir.resolve(), settings.results_dir.resolve()}):
            locks.enter_context(owned(folder, writes=WRITES))
        return complete(settings, words)


def foresee(words: list[str]) -> str:
    """What the sweep would do; see `forecast`. Nothing is written.

    Raises:
        ValueError: as `sweep`.
    """
    settings = read(compose("sweep", words))
    with tempfile.TemporaryDirectory() as lists_dir:
        _, steps = planned(settings, words, lists_dir=Path(lists_dir))
    results = {step.cell: read_results(settings.results_dir, step.cell) for step in steps}
    return forecast(settings, steps, open_steps(steps, settings.results_dir), results)


def planned(settings: Sweep, words: list[str], *, lists_dir: Path | None = None) -> tuple[list[Plan], list[Step]]:
    """Plans of all splits, and all steps, done or not, in the order in which they run.

    Args:
        settings: of the sweep.
        words: its overrides.
        lists_dir: folder for lists of clients; None for the work_dir.

    Raises:
        ValueError: for a result of other settings.
    """
    by_split = (read(compose("sweep", [*words, f"data.split={split}"])) for split in settings.splits)
    plans = [Plan(own, free=FREE, lists_dir=lists_dir) for own in by_split]
    steps: list[Step] = []
    with Progress("composing the commands of seeds", len(plans) * len(settings.seeds)) as progress:
        for plan, seed in product(plans, settings.seeds):
            steps += plan.steps(seed)
            progress.advance()
    steps.sort(key=lambda step: step.command == FINETUNE)  # last: it takes longest, the others fill the table soon
    refuse_other_settings(steps, settings)
    return plans, steps


def complete(settings: Sweep, words: list[str]) -> list[Step]:
    """Run the missing steps of a checked sweep and print the table; see `sweep`."""
    plans, steps = planned(settings, words)

    def tell() -> tuple[Table, str]:
        return write_tables(settings, plans, steps), write_differences(plans, steps)

    failed = run(open_steps(steps, settings.results_dir), settings, tell)
    table, differences = tell()
    draw_leading(settings, table)
    draw_curves(settings, steps)
    draw_labels(settings, steps)
    seen = pretraining_costs(
        settings.rows, {step.cell: read_results(settings.results_dir, step.cell) for step in steps}
    )
    below = "\n".join(filter(None, [caption(settings), seen]))
    print(f"\n{markdown(table, headings(settings))}\n{below}\n\n{differences}")
    if failed:
        print(f"error: {len(failed)} steps failed or wait for one that did, see the lines above.", file=sys.stderr)
    return failed


def read(config: Config) -> Sweep:
    """Read conf/sweep.yaml with its overrides; rows and measures that are null are left out.

    Raises:
        ValueError: for invalid settings.
    """
    if config["baseline"] not in (None, *config["rows"]):
        raise ValueError(f"baseline={config['baseline']} is none of the rows: {', '.join(config['rows'])}.")
    for name in ("seeds", "splits"):
        if not (isinstance(config[name], list) and config[name] and all(type(n) is int for n in config[name])):
            raise ValueError(f"{name}={config[name]} must be a list of whole numbers, such as [7,8,9].")
    # Both become folders and files.
    for row, seed, split in product(config["rows"], config["seeds"], config["splits"]):
        check_name(str(Cell(row, seed, split)), where="rows")
    for kind in config["measures"]:
        check_name(kind, where="measures")
    check_rows(config["rows"])
    check_measures(config["measures"], rows=config["rows"])
    # Without a list of the user's own a measure may name one, as conf/semi.yaml does.
    data = {name: value for name, value in config["data"].items() if (name, value) != ("train_list", None)}
    return Sweep(
        data=Split.of(data),
        data_words=flags(data_dir=config["data_dir"], **{f"data.{name}": value for name, value in data.items()}),
        overrides=config["overrides"],
        work_dir=Path(config["work_dir"]),
        results_dir=Path(config["results_dir"]),
        seeds=config["seeds"],
        splits=config["splits"],
        rows={name: Row(**{"title": name, **row}) for name, row in config["rows"].items() if row},
        measures={kind: Measure(**{"command": kind, **own}) for kind, own in config["measures"].items() if own},
        baseline=config["baseline"] if config["rows"].get(config["baseline"]) else None,
    )


def refuse_other_settings(steps: Sequence[Step], settings: Sweep) -> None:
    """Raise a ValueError if a result in results_dir was made with other settings."""
    for step in steps:
        before = read_results(settings.results_dir, step.cell).get(step.kind)
        if before and (change := first_change(before["settings"], step.settings)):
            raise ValueError(
                f"{results_file(settings.results_dir, step.cell)} has a {step.kind} of other settings, {change}: "
                f"give another results_dir and work_dir, or remove it and {settings.work_dir / str(step.cell)}."
            )


def open_steps(steps: Sequence[Step], results_dir: Path) -> list[Step]:
    """Steps without a result, and the pre-training that they need if its weights are not on this machine."""
    still_open = {str(step) for step in steps if step.kind not in read_results(results_dir, step.cell)}
    needed = {step.cell for step in steps if str(step) in still_open}
    return [
        step
        for step in steps
        if str(step) in still_open or (step.kind == PRETRAIN and step.cell in needed and not step.result.is_file())
    ]


def run(steps: Sequence[Step], settings: Sweep, tell: Callable[[], object]) -> list[Step]:
    """Run the steps in this order, also after a failure; return the failed ones.

    Args:
        steps, settings: of the sweep.
        tell: called after each result.
    """
    failed: list[Step] = []
    progress = Progress("step", len(steps), write=_print, every_seconds=0)
    for number, step in enumerate(steps, start=1):
        if any(other.cell == step.cell and other.command == PRETRAIN for other in failed):
            failed.append(step)  # the pre-training has reported the reason
            continue
        log = log_of(step, settings.work_dir)
        _print(f"{step} ...  ({log})")
        started, worked = time.monotonic(), processor_seconds()
        try:
            run_commands(step, log)
            measured = read_measured(step)
        except (ValueError, KeyError, OSError) as error:
            failed.append(step)
            progress.update(number, f"{step} failed: {error}; see {log}")
            continue
        result = {**measured, "seconds": round(time.monotonic() - started, 1), "machine": machine_of(step)}
        result["processor_seconds"] = round(processor_seconds() - worked, 1)
        result["commands"] = [shlex.join(["python", *command]) for command in step.commands]
        add_result(settings.results_dir, step, {**result, "settings": step.settings})
        progress.update(number, f"{step}: {summary(measured['metrics'])}")
        tell()
    return failed


def run_commands(step: Step, log: Path) -> None:
    """Run the commands of a step; a failure raises a ValueError with the last line of the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        for command in step.commands:
            print(f"$ {shlex.join(['python', *command])}", file=file, flush=True)
            if code := run_child([sys.executable, *command], stdout=file, stderr=subprocess.STDOUT):
                lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                raise ValueError(f"exit code {code}, {lines[-1]}")


def processor_seconds() -> float:
    """Processor seconds of all commands that this process has run to their end, of all their threads and workers."""
    times = os.times()
    return times.children_user + times.children_system


def machine_of(step: Step) -> str:
    """This machine and the precision of the step, for its result."""
    own = "training.precision" if step.command == PRETRAIN else "precision"
    return machine(choose_precision(step.settings[own], device="auto"))


def summary(metrics: Mapping[str, float]) -> str:
    """ "R@1 0.412  R@5 0.712" """
    return "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())


def log_of(step: Step, work_dir: Path) -> Path:
    return work_dir / "logs" / f"{step.cell}-{step.kind}.log"


def _print(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
