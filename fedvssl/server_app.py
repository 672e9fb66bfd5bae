"""The Flower ServerApp: build the global model, run the rounds, save every one of them.

A run's folder:
    config.yaml                the resolved configuration
    settings.json              settings and hashes of lists that decide the numbers; a resumed run must have the same
    environment.json           the machine and the versions
    round-<N>-weights.npz      the shared arrays after round N, named, without pickle
    metrics.jsonl              a line for each round and each valid client in it; also as tensorboard/, loss.png
    clients.json               node and number of videos of each client, as first introduced
    clients/client_<id>/       a client's own heads and log
"""

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp

from fedvssl.config import Config, build, build_optimizer, build_task
from fedvssl.evaluation.monitor import Monitor
from fedvssl.files.arrays import Arrays, load_arrays, save_arrays
from fedvssl.files.backbone import load_backbone
from fedvssl.files.progress import Progress
from fedvssl.files.round_records import to_records
from fedvssl.files.rounds import accepted_rounds, check_disk, forget_rounds, last_round, round_path, typical_update
from fedvssl.files.run_log import METRICS_FILE, Record, RunLog, plot_losses, speed
from fedvssl.files.tensors import to_arrays
from fedvssl.server_evaluation import build_monitor, evaluate, is_due, make_up, missed_evaluations
from fedvssl.strategy.bounds import Step, UpdateBound
from fedvssl.strategy.fedavg import FedAvg
from fedvssl.training.loop import seed_torch
from fedvssl.training.optimizer import state_bytes
from fedvssl.training.watch import Watch, beside_trivial
from fedvssl.wire.arrivals import Arrivals
from fedvssl.wire.grid import exchange
from fedvssl.wire.introductions import CLIENTS_FILE
from fedvssl.wire.record import pack, unpack
from fedvssl.wire.replies import UNKNOWN, Report

log = logging.getLogger(__name__)
FEDVSSL = "fedvssl.strategy.fedvssl.FedVSSL"
COUNTED = ("batch_size", "local_epochs", "warmup_steps", "keep_optimizer")  # for the number of a client's steps
PICTURE = "loss.png"


@dataclass
class Outcome:
    """Signals between the server thread and its starter: `stop` ends the run and is set at its end, `error` is why."""

    stop: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


def build_server_app(config: Config, *, run_dir: Path, outcome: Outcome, report: Report = UNKNOWN) -> ServerApp:
    """Build the server's app. Model and strategy are built here, so that mistakes show before anything is started.

    Args:
        config: the resolved configuration.
        run_dir: the run's folder; a run found there is continued after its last saved round.
        outcome: receives the end of the run.
        report: metrics that clients may report.

    Raises:
        ValueError: if a setting is invalid, the folder holds arrays of another model, or the disk is too small.
    """
    strategy = build_strategy(config, run_dir=run_dir, stop=outcome.stop)
    state = initial_arrays(config)
    arrays = {name: array for name, array in state.items() if strategy.is_shared(name)}
    done = last_round(run_dir)
    if done:
        saved = load_arrays(round_path(run_dir, done))
        if {name: array.shape for name, array in saved.items()} != {name: a.shape for name, a in arrays.items()}:
            raise ValueError(f"{round_path(run_dir, done)} holds another model: choose a new hydra.run.dir.")
        arrays = saved
    restore(strategy, run_dir, done=done)
    strategy.report = report
    check_disk(run_dir, needed=bytes_kept(config, strategy, state))
    monitor = build_monitor(config)
    app = ServerApp()

    @app.main()
    def run(grid: Grid, context: Context) -> None:
        try:
            run_rounds(grid, strategy, arrays, config=config, run_dir=run_dir, done=done, monitor=monitor)
        except BaseException as error:
            outcome.error = error
            raise
        finally:
            outcome.stop.set()

    return app


def build_strategy(config: Config, *, run_dir: Path | None = None, stop: threading.Event | None = None) -> FedAvg:
    """Build the strategy of `config["strategy"]`; the published switch `strategy.fedavg=true` selects FedAvg.

    Args:
        run_dir: for updates that have to wait on the disk; None is the system's temporary folder.

    Raises:
        ValueError: if a setting is out of range or unknown, or `fedavg` is set for another strategy than FedVSSL.
    """
    settings = dict(config["strategy"])
    target = settings["_target_"]
    limits = {"max_factor": settings.pop("max_update_factor"), "oversized": settings.pop("oversized_updates")}
    if settings.get("fedavg") and target != FEDVSSL:
        raise ValueError(f"strategy.fedavg=true takes the place of FedVSSL, but the strategy is {target}: drop one.")
    if target == FEDVSSL and settings.pop("fedavg"):
        sampling = {name: settings[name] for name in ("fraction_fit", "min_fit_clients")}
        settings = {"_target_": "fedvssl.strategy.fedavg.FedAvg", **sampling}
    counted = {name: config["training"][name] for name in COUNTED}
    bound = UpdateBound(**limits, **counted, folder=run_dir)
    run = {"num_clients": config["pool_size"], "seed": config["seed"], "round_timeout": config["round_timeout"]}
    return build(settings, **run, bound=bound, stop=stop)


def restore(strategy: FedAvg, run_dir: Path, *, done: int) -> None:
    """Give a strategy what it knew after round `done`, from the records of the run.

    Raises:
        ValueError: if the records do not reach this round.
    """
    strategy.head_rounds = accepted_rounds(run_dir, done=done)
    if typical := typical_update(run_dir, server_round=done):
        strategy.bound.typical = Step(*typical)
    strategy.introductions.keep_in(run_dir / CLIENTS_FILE)


def initial_arrays(config: Config) -> Arrays:
    """Whole state of the task, freshly initialised from the seed, with the backbone of `init` if there is one.

    Raises:
        ValueError: if `init` is no checkpoint of this backbone.
    """
    seed_torch((config["seed"],))
    task = build_task(config)
    if config["init"] is not None:
        load_backbone(task.backbone, Path(config["init"]).expanduser())
        log.info("init: all %d arrays of the backbone from %s", len(task.backbone.state_dict()), config["init"])
    return to_arrays(task)


def bytes_kept(config: Config, strategy: FedAvg, state: Arrays) -> int:
    """Upper bound on the run's disk use in bytes: round files, and two files of each sampled client.

    A client's file holds its head, and the state of its optimizer if `training.keep_optimizer` is true.
    """
    sizes = {True: 0, False: optimizer_bytes(config)}
    for name, array in state.items():
        sizes[strategy.is_shared(name)] += array.nbytes
    rounds, pool_size = config["rounds"], config["pool_size"]
    # The oldest round file is deleted after the newest is written.
    num_files = rounds if config["keep_last"] is None else min(rounds, config["keep_last"] + 1)
    if strategy.bound.max_factor is not None:
        num_files = max(num_files, strategy.sample_size(pool_size))  # the first round keeps its updates on the disk
    num_heads = 2 * min(pool_size, rounds * strategy.sample_size(pool_size))
    return num_files * sizes[True] + num_heads * sizes[False]


def optimizer_bytes(config: Config) -> int:
    """Bytes of the optimizer's state that a client keeps; 0 if it keeps none."""
    if not config["training"]["keep_optimizer"]:
        return 0
    task = build_task(config)
    return state_bytes(build_optimizer(config["training"], task, on_gpu=False), task)


def run_rounds(
    grid: Grid,
    strategy: FedAvg,
    arrays: Arrays,
    *,
    config: Config,
    run_dir: Path,
    done: int,
    monitor: Monitor | None = None,
) -> None:
    """Train rounds `done` + 1 to `config["rounds"]`, starting from `arrays`, which is emptied.

    Raises:
        FederationError: if a round has too few valid replies. Everything saved before stays.
    """
    packed = pack(arrays)  # the server's only copy of the model; all else are views on it
    arrays.clear()  # the caller still has this dict, which would keep a second copy
    progress = Progress("round", config["rounds"], done=done, write=log.info, every_seconds=0)
    watch = Watch("round", config["training"]["warn_after"], warn=log.warning)
    with _records(run_dir, done=done) as run_log:
        if monitor and missed_evaluations(config, run_dir, done=done):
            strategy.wait_for_nodes(grid)  # first, because an engine without a free core gives up
        initial = unpack(packed) if not done else None
        finish_rounds(monitor, run_log, config=config, run_dir=run_dir, done=done, initial=initial)
        for server_round in range(done + 1, config["rounds"] + 1):
            packed, told = run_round(grid, strategy, packed, config=config, server_round=server_round)
            for line in told:
                run_log.write(line)
            save_arrays(round_path(run_dir, server_round), unpack(packed))
            forget_rounds(run_dir, keep_last=config["keep_last"])
            for line in reversed(told):  # clients first, which the warning of a dead head can name
                watch(line, position=server_round)
            progress.update(server_round, f"{beside_trivial(told[0])}  {len(told) - 1} clients  {speed(told[0])}")
            if monitor and is_due(config, server_round):
                evaluate(monitor, unpack(packed), run_log, server_round=server_round)


def complete(config: Config, *, run_dir: Path) -> None:
    """Do what a kill after the last round prevented: its evaluation, its records, the picture. A whole run stays."""
    done, monitor = last_round(run_dir), build_monitor(config)
    written = [
        path.stat().st_mtime_ns if path.is_file() else -1 for path in (run_dir / METRICS_FILE, run_dir / PICTURE)
    ]
    if written != sorted(written) or -1 in written or (monitor and missed_evaluations(config, run_dir, done=done)):
        with _records(run_dir, done=done) as run_log:
            finish_rounds(monitor, run_log, config=config, run_dir=run_dir, done=done)
    forget_rounds(run_dir, keep_last=config["keep_last"])


def finish_rounds(
    monitor: Monitor | None, run_log: RunLog, *, config: Config, run_dir: Path, done: int, initial: Arrays | None = None
) -> None:
    """Make the evaluations that are missing after `done` rounds, and delete old round files; a kill came between.

    Args:
        initial: the shared arrays before the first round, built anew if they are needed and not given.
    """
    if monitor:
        build_initial = (lambda: initial) if initial else partial(initial_arrays, config)
        make_up(monitor, run_log, config=config, run_dir=run_dir, done=done, initial=build_initial)
    forget_rounds(run_dir, keep_last=config["keep_last"])


@contextmanager
def _records(run_dir: Path, *, done: int) -> Iterator[RunLog]:
    """The run's records, whose losses are drawn at the end."""
    run_log = RunLog(run_dir, done=done)
    try:
        yield run_log
    except BaseException:
        with suppress(OSError):  # a full disk, as the first error says already
            _close(run_log)
        raise
    _close(run_log)


def _close(run_log: RunLog) -> None:
    run_log.close()
    plot_losses(run_log.path, run_log.path.with_name(PICTURE))


def run_round(
    grid: Grid, strategy: FedAvg, arrays: ArrayRecord, *, config: Config, server_round: int
) -> tuple[ArrayRecord, list[Record]]:
    """Run one round; return the new shared arrays, and the records of the round and of each client.

    Raises:
        FederationError: if it has too few valid replies.
    """
    started = time.perf_counter()
    order = order_record(config, server_round)
    messages = strategy.configure_train(server_round, arrays, order, grid)
    sent = time.perf_counter()
    replies = exchange(grid, messages, timeout=strategy.round_timeout, stop=strategy.stop)
    arrivals = Arrivals(replies, sent=sent, expected=len(messages), label=f"round {server_round}: clients")
    aggregated, columns = strategy.aggregate_train(server_round, arrivals)
    finished = time.perf_counter()
    seconds = {"seconds": finished - started, "seconds_clients": arrivals.seconds}
    seconds["seconds_aggregate"] = finished - sent - arrivals.seconds
    lr = config["training"]["optimizer"]["lr"] * float(order["lr-factor"])  # pyright: ignore[reportArgumentType]
    return aggregated, to_records(dict(columns), server_round=server_round, lr=lr, seconds=seconds)


def order_record(config: Config, server_round: int) -> ConfigRecord:
    """Order for every client of a round; the schedule of the learning rates counts rounds."""
    factor = build(config["training"]["schedule"])(server_round - 1)
    sent = {name: config[name] for name in ("model", "task", "training", "seed")}
    return ConfigRecord({"config": json.dumps(sent), "lr-factor": float(factor)})
