"""The rounds of a federated run: resume, train, save, evaluate, whatever wire reaches the clients.

A run's folder:
    config.yaml                the resolved configuration
    settings.json              settings and hashes of lists that decide the numbers; a resumed run must have the same
    environment.json           the machine and the versions
    round-<N>-weights.npz      the shared arrays after round N, named, without pickle
    round-<N>-strategy.npz     what the strategy keeps for later rounds, such as a momentum, where it keeps something
    metrics.jsonl              a line for each round and each valid client in it; also as tensorboard/, loss.png
    clients.json               node and number of videos of each client, as first introduced
    clients/client_<id>/       what a client keeps, in a file a round, and its log
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fedvssl.files.arrays import Arrays, save_arrays
from fedvssl.files.progress import Progress
from fedvssl.files.round_records import to_records
from fedvssl.files.rounds import forget_rounds, round_path
from fedvssl.files.run_log import METRICS_FILE, RunLog, plot_losses, speed
from fedvssl.files.strategy_state import save_state
from fedvssl.server_evaluation import Evaluations
from fedvssl.strategy.fedavg import FedAvg
from fedvssl.training.watch import Watch, beside_trivial
from fedvssl.wire.introductions import Introductions
from fedvssl.wire.wire import Order, Wire

log = logging.getLogger(__name__)
PICTURE = "loss.png"


@dataclass(kw_only=True)
class Run:
    """A federated run on the server's side.

    Args:
        run_dir: its folder.
        strategy: what it makes of the clients' replies.
        introductions: what it knows of its clients.
        done: the last saved round, 0 if there is none.
        shared: the shared arrays after this round, read-only.
        initial: gives the shared arrays before the first round.
        rounds: number of its rounds.
        settings: "model", "task", "training", "rule" and "seed" of the configuration as JSON text, for the clients.
        lr: configured learning rate.
        lr_factor: (rounds before this one) -> factor of the learning rates.
        evaluations: of the global backbone between rounds, if any.
        keep_last: number of round files that are kept; None keeps all.
        warn_after: rounds after which a loss that has not beaten a trivial predictor is warned of.
        warning: of the strategy's rule, see `Rule`: metrics of each client of a round -> a sentence or "".
    """

    run_dir: Path
    strategy: FedAvg
    introductions: Introductions
    done: int
    shared: Arrays
    initial: Callable[[], Arrays]
    rounds: int
    settings: str
    lr: float
    lr_factor: Callable[[int], float]
    evaluations: Evaluations | None = None
    keep_last: int | None = None
    warn_after: int = 5
    warning: Callable[[Sequence[Mapping[str, float]]], str] = lambda _: ""

    def order(self, server_round: int) -> Order:
        """Order to every client in a round; the schedule of the learning rates counts rounds."""
        return {"config": self.settings, "lr-factor": float(self.lr_factor(server_round - 1))}


def run_rounds(wire: Wire, run: Run) -> None:
    """Train the rounds that are not done yet.

    Raises:
        FederationError: if a round has too few valid replies. Everything saved before stays.
    """
    progress = Progress("round", run.rounds, done=run.done, write=log.info, every_seconds=0)
    watch = Watch("round", run.warn_after, warn=log.warning)
    with _records(run) as run_log:
        if run.evaluations and run.evaluations.missed(run.run_dir, done=run.done):
            wire.clients()  # waits for them first, because an engine without a free core gives up
        finish(run, run_log)
        while run.done < run.rounds:
            server_round, run.shared = run.done + 1, wire.ready(run.shared)
            run.introductions.server_round = server_round
            order = run.order(server_round)
            run.shared, report = run.strategy.round(wire, server_round, run.shared, order)
            told = to_records(report, server_round=server_round, lr=run.lr * float(order["lr-factor"]))
            for line in told:
                run_log.write(line)
            save_state(run.run_dir, server_round, run.strategy.state())  # first: a round file means that it is there
            save_arrays(round_path(run.run_dir, server_round), run.shared)
            run.done = server_round
            forget_rounds(run.run_dir, keep_last=run.keep_last)
            for line in reversed(told):  # clients first, which the warning of a dead head can name
                watch(line, position=server_round)
            watch.doubt(run.warning([*report.clients.values()]), position=server_round)
            progress.update(server_round, f"{beside_trivial(told[0])}  {len(told) - 1} clients  {speed(told[0])}")
            if run.evaluations and run.evaluations.is_due(server_round):
                run.evaluations.evaluate(run.shared, run_log, server_round=server_round)


def complete(run: Run) -> None:
    """Do what a kill after the last round prevented: its evaluation, its records, the picture. A whole run stays."""
    paths = (run.run_dir / METRICS_FILE, run.run_dir / PICTURE)
    written = [path.stat().st_mtime_ns if path.is_file() else -1 for path in paths]
    is_missed = run.evaluations and run.evaluations.missed(run.run_dir, done=run.done)
    if written != sorted(written) or -1 in written or is_missed:
        with _records(run) as run_log:
            finish(run, run_log)
    forget_rounds(run.run_dir, keep_last=run.keep_last)


def finish(run: Run, run_log: RunLog) -> None:
    """Make the evaluations that are missing so far, and delete old round files: a kill may have come between."""
    if run.evaluations:
        initial = run.initial if run.done else lambda: run.shared
        run.evaluations.make_up(run_log, run.run_dir, done=run.done, initial=initial)
    forget_rounds(run.run_dir, keep_last=run.keep_last)


@contextmanager
def _records(run: Run) -> Iterator[RunLog]:
    """The run's records, whose losses are drawn at the end."""
    run_log = RunLog(run.run_dir, done=run.done)
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
