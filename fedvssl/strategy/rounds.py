"""One round of a federation: whom to ask, which replies count, what is reported."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from fedvssl.files.arrays import Arrays
from fedvssl.files.names import client_number
from fedvssl.files.round_records import RoundReport
from fedvssl.strategy.average import softmax
from fedvssl.strategy.bounds import UpdateBound, check_growth
from fedvssl.strategy.intake import Intake
from fedvssl.wire.arrivals import Arrivals
from fedvssl.wire.replies import UNKNOWN, Report, one_line, read_update, reason
from fedvssl.wire.wire import TRAIN, FederationError, Order, Reply, Update, Wire

log = logging.getLogger(__name__)
SAMPLING = 0x5EED_C11E  # in the place of a partition id in other seeds: no client draws from this stream


class Method(Protocol):
    """Decisions of a strategy in a round, see `FedAvg`."""

    def averages(self) -> dict[str, float]: ...

    def intake(self, partition_ids: Iterable[int]) -> Intake: ...

    def log_weights(self, metrics: Mapping[str, float]) -> dict[str, float]: ...

    def aggregate(self, server_round: int, means: Mapping[str, Arrays], previous: Arrays) -> Arrays: ...


@dataclass(kw_only=True)
class Rounds:
    """Rounds of a run, whatever the strategy makes of the replies.

    Args:
        fraction_fit: fraction of the clients that train in a round, in [0, 1].
        min_fit_clients: least number of sampled clients and of valid replies in a round; with fewer the run ends.
        num_clients: clients of the run.
        seed: decides with the round which clients are sampled, so that a resumed run asks the same ones.
        bound: on the size of an update; by default there is none.
        report: metrics that clients may report.
        kept_rounds: last round in which a client's reply counted, by partition id.

    Raises:
        ValueError: if an argument is out of range.
    """

    fraction_fit: float
    min_fit_clients: int
    num_clients: int
    seed: int
    bound: UpdateBound = field(default_factory=lambda: UpdateBound(max_factor=None))
    report: Report = UNKNOWN
    kept_rounds: dict[int, int] = field(default_factory=dict)
    _told: set[int] = field(default_factory=set)  # partition ids whose unknown metrics have been logged

    def __post_init__(self) -> None:
        if not 0 <= self.fraction_fit <= 1:
            raise ValueError(f"strategy.fraction_fit={self.fraction_fit} must lie in [0, 1].")
        if not 1 <= self.min_fit_clients <= self.num_clients:
            least, most = self.min_fit_clients, self.num_clients
            raise ValueError(f"strategy.min_fit_clients={least} must lie in 1..pool_size={most}.")

    @property
    def sample_size(self) -> int:
        """Number of clients that train in a round."""
        sampling = {"fraction_fit": self.fraction_fit, "min_fit_clients": self.min_fit_clients}
        return sample_size(self.num_clients, **sampling)

    def train(
        self, wire: Wire, server_round: int, shared: Arrays, order: Order, *, method: Method
    ) -> tuple[Arrays, RoundReport]:
        """Have clients train from the shared arrays, and aggregate the valid replies as they come in.

        Each order names the round of the client's file to continue from, 0 for none. A client that replies too late
        may still save one for its round, but no order will name it.

        Args:
            order: settings of the round, the same for all clients.

        Raises:
            FederationError: if fewer than `min_fit_clients` can be reached, or their replies are valid.
        """
        started = time.perf_counter()
        examples = self.reach(wire)
        chosen = self.choose(examples, server_round)
        kept_rounds = {partition_id: self.kept_rounds.get(partition_id, 0) for partition_id in chosen}
        orders = {
            partition_id: (shared, {**order, "server-round": server_round, "kept-round": kept_round})
            for partition_id, kept_round in kept_rounds.items()
        }
        sent = time.perf_counter()
        label = f"round {server_round}: clients"
        replies = Arrivals(wire.ask(TRAIN, orders), sent=sent, expected=len(orders), label=label)
        intake = method.intake(chosen)
        failures = self._take_in(replies, intake, start=shared, examples=examples, method=method)
        means = intake.finish()
        self.check_number(server_round, len(intake.metrics), failures)
        aggregated = method.aggregate(server_round, means, shared)
        arrays = {
            name: np.asarray(array) for name, array in aggregated.items()
        }  # arithmetic makes scalars of 0-d arrays
        check_growth(arrays, shared, server_round=server_round)
        self.bound.accept(intake.metrics)
        self.kept_rounds |= dict.fromkeys(intake.metrics, server_round)
        finished = time.perf_counter()
        seconds = {"seconds": finished - started, "seconds_clients": replies.seconds}
        seconds["seconds_aggregate"] = finished - sent - replies.seconds
        typical = self.bound.typical
        told = [typical.norm, float(typical.least), float(typical.most)] if typical else []
        return arrays, RoundReport(_weighted(intake.metrics, method), failures, told, seconds)

    def choose(self, examples: Iterable[int], server_round: int) -> list[int]:
        """Sample the clients of a round out of those that can be reached, ascending."""
        reached = list(examples)
        # Of all clients and not of those that can be reached: who connects must not decide how many train.
        size = min(self.sample_size, len(reached))
        return sample_clients(reached, size=size, seed=self.seed, server_round=server_round)

    def reach(self, wire: Wire) -> dict[int, int]:
        """Wait for the clients; return numbers of samples of those that take part, by partition id.

        Raises:
            FederationError: if fewer than `min_fit_clients` can be reached.
        """
        reached = wire.clients()
        if len(reached) < self.min_fit_clients:
            whys = list(wire.left_out.values())
            why = f"{len(whys)} are left out, the first because {whys[0]}" if whys else "a missing one did not connect"
            advice = "lower it to go on without the others" if reached else "look into the log of a client"
            raise FederationError(
                f"{len(reached)} clients can be reached, strategy.min_fit_clients asks for {self.min_fit_clients}: "
                f"{advice} ({why})."
            )
        return reached

    def _take_in(
        self, replies: Iterator[Reply], intake: Intake, *, start: Arrays, examples: Mapping[int, int], method: Method
    ) -> dict[int, str]:
        """Add valid replies to the intake; return the reasons for missing ones, by partition id, ascending."""
        failures: dict[int, str] = {}

        def reject(partition_id: int, why: str) -> None:
            failures[partition_id] = why
            intake.skip(partition_id)

        def read(reply: Reply) -> Update:
            num_examples = examples[reply.partition_id]
            update = read_update(reply, expected=start, num_examples=num_examples, report=self.report)
            _check_weights(method, update.metrics)
            self._tell_unknown(update)
            return update

        for update in self.bound.admit(_valid(replies, read, reject=reject), start, reject=reject):
            intake.add(update)
            del update  # frees one that does not wait in the intake before the next one is requested
        return dict(sorted(failures.items()))

    def _tell_unknown(self, update: Update) -> None:
        """Log once for each client which of its metrics the task lacks."""
        if update.unknown and update.partition_id not in self._told:
            self._told.add(update.partition_id)
            names = one_line(", ".join(update.unknown[:5]))
            who = client_name(update.partition_id)
            log.warning("%s: metrics that the task lacks are left out: %s", who, names)

    def check_number(self, server_round: int, num_valid: int, failures: Mapping[int, str]) -> None:
        """Log the failures; raise if too few replies are left."""
        for partition_id, why in failures.items():
            log.warning("round %d: %s failed: %s", server_round, client_name(partition_id), why)
        if not num_valid:
            raise FederationError(f"All {len(failures)} clients of round {server_round} have failed. {_told(failures)}")
        if num_valid < self.min_fit_clients:
            raise FederationError(
                f"Round {server_round} has {num_valid} valid replies of {num_valid + len(failures)} clients, "
                f"strategy.min_fit_clients asks for {self.min_fit_clients}: lower it to go on without the others. "
                f"{_told(failures)}"
            )


def _valid(
    replies: Iterator[Reply], read: Callable[[Reply], Update], *, reject: Callable[[int, str], None]
) -> Iterator[Update]:
    """Updates in the valid replies as they come in; no reference to one is kept.

    Whatever a reply is, it costs the reply of its client at most.
    """
    for reply in replies:
        updates = []
        try:
            updates.append(read(reply))
        except Exception as error:
            reject(reply.partition_id, reason(error))
        del reply
        if updates:
            yield updates.pop()  # and no reference is left here


def _check_weights(method: Method, metrics: Mapping[str, float]) -> None:
    weights = method.log_weights(metrics)
    if not all(math.isfinite(weights[kind]) for kind in method.averages()):
        raise ValueError(f"its weight is not finite: {weights}")


def sample_size(num_clients: int, *, fraction_fit: float, min_fit_clients: int) -> int:
    """Number of clients, out of `num_clients`, that train in a round."""
    asked = int(fraction_fit * num_clients + 1e-9)  # 0.29 of 100 is 29, though floats say 28.999...
    return min(max(asked, min_fit_clients), num_clients)


def sample_clients(partition_ids: Iterable[int], *, size: int, seed: int, server_round: int) -> list[int]:
    """Sample `size` different partitions, ascending; depends on the set of partitions, the seed and the round only."""
    rng = np.random.default_rng([seed, server_round, SAMPLING])
    return sorted(rng.choice(sorted(partition_ids), size=size, replace=False).tolist())


def client_name(partition_id: int) -> str:
    """Name of a client in messages to the user; its file counts from 1."""
    return f"client {(number := client_number(partition_id))} (client_dist{number}.json)"


def weight_columns(log_weights: Sequence[Mapping[str, float]], averages: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Columns [len(log_weights)] of sum 1: "weight" in the mean, and with several averages "<kind>-weight" in each.

    Without any average there is no weight.
    """
    if not averages:
        return {}
    columns = {f"{kind}-weight": softmax([weights[kind] for weights in log_weights]) for kind in averages}
    mixed = sum(share * column for share, column in zip(averages.values(), columns.values(), strict=True))
    return {**(columns if len(columns) > 1 else {}), "weight": np.asarray(mixed)}


def _weighted(clients: Mapping[int, Mapping[str, float]], method: Method) -> dict[int, dict[str, float]]:
    """Metrics of each client, with its weights."""
    columns = weight_columns([method.log_weights(metrics) for metrics in clients.values()], method.averages())
    weights = {name: column.tolist() for name, column in columns.items()}
    return {
        partition_id: {**metrics, **{name: column[row] for name, column in weights.items()}}
        for row, (partition_id, metrics) in enumerate(clients.items())
    }


def _told(failures: Mapping[int, str]) -> str:
    (partition_id, why), *others = failures.items()
    more = f" ({len(others)} more are named in the log)" if others else ""
    return f"{client_name(partition_id).capitalize()} failed: {why}{more}."
