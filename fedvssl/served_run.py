"""A run whose clients are elsewhere: it is checked without their data, and its precision is settled with them."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from flwr.serverapp import Grid

from fedvssl.building import build_optimizer, build_sample, build_task
from fedvssl.config import Config
from fedvssl.data.dataset import SampleDataset
from fedvssl.data.made_up import write_made_up
from fedvssl.data.media import find_media
from fedvssl.files.earlier_round import go_back
from fedvssl.files.ending import one_line
from fedvssl.files.environment import record_environment
from fedvssl.files.lock import owned
from fedvssl.identity import WRITES, decisive_settings, keep_settings, recorded, reject_other_run
from fedvssl.preflight import Trial, expected_report, settle
from fedvssl.server_app import Outcome
from fedvssl.server_rounds import Run, complete, run_rounds
from fedvssl.server_run import build_run
from fedvssl.submission import folder_of, read_settings
from fedvssl.training.loop import seed_torch
from fedvssl.training.precision import FULL, MIXED
from fedvssl.wire.grid import GridWire
from fedvssl.wire.wire import FederationError

log = logging.getLogger(__name__)
LOG_FILE = "server.log"


def serve_run(grid: Grid, overrides: str, run_name: str) -> None:
    """Run the rounds of a submission, or those that are left of it.

    Raises:
        FederationError: with a sentence, whatever ends the run.
    """
    run_dir = folder_of(run_name)
    try:
        config = read_settings(overrides)
        with owned(run_dir, writes=WRITES, tell=log.info), kept_log(run_dir / LOG_FILE):
            _serve(grid, config, run_dir)
    except (ValueError, OSError, RuntimeError) as error:
        sentence = one_line(error).replace("hydra.run.dir", "run-name")  # by which a submission names the folder
        log.error("error: %s", sentence)
        raise FederationError(sentence) from None


def _serve(grid: Grid, config: Config, run_dir: Path) -> None:
    log.info("Results in %s", run_dir)
    config = settle(config)
    training = {**config["training"], "precision": asked_precision(config["training"]["precision"], run_dir)}
    config = {**config, "training": training}
    with tried_out(config) as trial:
        report = expected_report(trial)
        build_optimizer(training, trial.task, on_gpu=False)
    if config["from_round"] is not None:
        reject_other_run(run_dir, decisive_settings(config, lists=False))
        log.info("%s", go_back(run_dir, config["from_round"]))
    run = build_run(config, run_dir=run_dir, report=report, may_join=False)
    if run.done:
        reject_other_run(run_dir, decisive_settings(config, lists=False))
    if run.done >= run.rounds:
        complete(run)
        log.info("All %d rounds are already in %s.", run.done, run_dir)
        return
    waits = {"timeout": config["round_timeout"], "start_timeout": config["start_timeout"]}
    wire = GridWire(grid, run.introductions, num_clients=config["pool_size"], **waits, stop=Outcome().stop)
    config = {**config, "training": {**training, "precision": agreed_precision(wire, run, training["precision"])}}
    run.settings = json.dumps({**json.loads(run.settings), "training": config["training"]})
    keep_settings(run_dir, config, decisive=decisive_settings(config, lists=False))
    record_environment(run_dir, done=run.done)
    log.info("%s", f"Continuing after round {run.done}" if run.done else "Starting")
    run_rounds(wire, run)
    log.info("Done: %s", run_dir)


def agreed_precision(wire: GridWire, run: Run, asked: str) -> str:
    """Wait for the clients, ask the strategy whether it can train them from afar, and settle one precision for all.

    Args:
        asked: of the settings; "auto" becomes bfloat16 if every client says that it computes in it.

    Raises:
        FederationError: if too few clients come, or can take part.
        ValueError: if the strategy is not for a network.
    """
    introductions = run.introductions
    introductions.precision = "" if asked == "auto" else asked
    log.info("Waiting for %d clients ...", run.strategy.rounds.num_clients)
    reached = run.strategy.rounds.reach(wire)
    for partition_id in reached:
        log.info("%s", introductions.describe(partition_id))
    run.strategy.check_network(reached, rounds=run.rounds - run.done)
    if asked == "auto":
        asked = MIXED if all(MIXED in own for own in introductions.precisions()) else FULL
        log.info("training.precision=auto: %s, which all of them compute in", asked)
    introductions.precision = asked
    return asked


def asked_precision(precision: str, run_dir: Path) -> str:
    """Precision of the settings, or that of the run's earlier start if they leave it open."""
    before = recorded(run_dir)
    return str(before.get("training.precision", precision)) if precision == "auto" and before else precision


@contextmanager
def tried_out(config: Config) -> Iterator[Trial]:
    """The task with initial weights, and samples of a made-up video or picture, whichever its Sample opens.

    Raises:
        ValueError: if the task cannot be built, or its Sample opens neither.
    """
    sample, error = build_sample(config), None
    seed_torch((config["seed"],))
    with TemporaryDirectory(prefix="fedvssl-") as folder:
        for annotation in write_made_up(Path(folder)):
            try:
                sample(find_media(Path(folder), annotation.name), np.random.default_rng(config["seed"]))
            except Exception as why:
                error = error or why
                continue
            yield Trial(build_task(config), SampleDataset(Path(folder), [annotation] * 2, sample, seed_key=(0,)))
            return
    raise ValueError(f"{type(sample).__name__} opens neither a made-up video nor a picture: {one_line(error)}")


@contextmanager
def kept_log(path: Path) -> Iterator[None]:
    """Write our log to a file too."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s"))
    ours = logging.getLogger("fedvssl")
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        handler.close()
