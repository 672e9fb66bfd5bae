"""Evaluation of the global backbone between the rounds: when it is due, made up for where it is missing."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedvssl.building import build
from fedvssl.config import Config
from fedvssl.data.split import Split
from fedvssl.evaluation.monitor import Monitor
from fedvssl.files.arrays import Arrays, load_arrays
from fedvssl.files.rounds import round_path
from fedvssl.files.run_log import METRICS_FILE, RunLog, read_records

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluations:
    """Evaluations of the global backbone in the course of a run.

    Args:
        monitor: evaluates shared arrays.
        every: rounds from one evaluation to the next.
        rounds: number of rounds of the run.
    """

    monitor: Monitor
    every: int
    rounds: int

    def is_due(self, server_round: int) -> bool:
        """True before the first round (0), after every `every`-th and after the last."""
        return server_round % self.every == 0 or server_round == self.rounds

    def missed(self, run_dir: Path, *, done: int) -> list[int]:
        """Rounds up to `done` whose evaluation is due and has no record."""
        records = read_records(run_dir / METRICS_FILE)
        others = {"num_clients", "partition_id", "lost_kept"}  # of a round, of a client, of going back
        told = {record["server_round"] for record in records if not others & record.keys()}
        return [number for number in range(done + 1) if self.is_due(number) and number not in told]

    def make_up(self, run_log: RunLog, run_dir: Path, *, done: int, initial: Callable[[], Arrays]) -> None:
        """Make the missed evaluations up to round `done`.

        Args:
            initial: gives the shared arrays before the first round.
        """
        missed = self.missed(run_dir, done=done)
        lost = [number for number in missed if number and not round_path(run_dir, number).is_file()]
        if lost:
            log.warning(
                "The evaluations after rounds %s are missing and cannot be made up for: their files are gone "
                "(keep_last).",
                ", ".join(map(str, lost)),
            )
        for number in missed:
            if number not in lost:
                arrays = load_arrays(round_path(run_dir, number)) if number else initial()
                self.evaluate(arrays, run_log, server_round=number)

    def evaluate(self, arrays: Mapping[str, np.ndarray], run_log: RunLog, *, server_round: int) -> None:
        """Evaluate a saved round (0: the start) and add a record; training goes on if the evaluation fails."""
        label = f"after round {server_round}" if server_round else "before round 1"
        before = [record for record in read_records(run_log.path) if record["server_round"] == 0]
        start = {name: value for record in before for name, value in record.items()}
        try:
            found = self.monitor(arrays, label=label, start=start)
        except (ValueError, OSError, RuntimeError) as error:
            log.warning("the evaluation after round %d failed (%s); training goes on", server_round, error)
        else:
            run_log.write({"server_round": server_round, **found})


def build_evaluations(config: Config) -> Evaluations | None:
    """Build the evaluations between rounds; None if `eval.every` is null.

    Raises:
        ValueError: for a mistake in `config["eval"]` or its lists.
    """
    own = config["eval"]
    if own["every"] is None:
        return None
    precision = config["training"]["precision"]
    sample = build(own["sample"])
    protocols = {name: build(entry) for name, entry in (own["protocols"] or {}).items() if entry}
    monitor = Monitor(
        build(config["model"]),
        Split.of(config["data"], own),
        sample=sample,
        protocols=protocols,
        max_videos=own["max_videos"],
        batch_size=own["batch_size"],
        keep_megabytes=own["keep_megabytes"],
        seed=config["seed"],
        device="cuda" if config["client_resources"]["num_gpus"] else "cpu",
        precision=precision,
    )
    return Evaluations(monitor, own["every"], config["rounds"])
