"""Federated averaging (McMahan et al., arXiv 1602.05629) of the whole model, and the round of every strategy here.

A round waits for the clients, samples them, sends messages and checks the replies. Too few valid ones end the run.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, Metadata, MetricRecord, RecordDict
from flwr.serverapp import Grid

from fedvssl.files.arrays import Arrays
from fedvssl.strategy.average import softmax
from fedvssl.strategy.bounds import UpdateBound, check_growth
from fedvssl.strategy.intake import Intake
from fedvssl.wire.grid import POLL_SECONDS, answers, destinations, exchange
from fedvssl.wire.introductions import Introductions
from fedvssl.wire.record import ARRAYS, CONFIG, pack, unpack
from fedvssl.wire.replies import UNKNOWN, one_line, read_update, reason
from fedvssl.wire.wire import FederationError, Update

log = logging.getLogger(__name__)
SAMPLING = 0x5EED_C11E  # in the place of a partition id in other seeds: no client draws from this stream


class FedAvg:
    """Share every array and average by number of videos.

    A subclass chooses the shared arrays (`is_shared`), the kinds of average (`averages`), a client's weight in each
    (`log_weights`) and the use of the mean (`aggregate`).

    Args:
        fraction_fit: fraction of the clients that train in a round, in [0, 1].
        min_fit_clients: least number of sampled clients and of valid replies in a round; with fewer the run ends.
        num_clients: clients to wait for before a round starts.
        seed: decides with the round which clients are sampled, so that a resumed run asks the same ones.
        round_timeout: seconds that a round waits for its clients.
        bound: on the size of an update; None sets none.
        stop: ends the waiting for clients when set.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        *,
        fraction_fit: float,
        min_fit_clients: int,
        num_clients: int,
        seed: int,
        round_timeout: float,
        bound: UpdateBound | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        if not 0 <= fraction_fit <= 1:
            raise ValueError(f"strategy.fraction_fit={fraction_fit} must lie in [0, 1].")
        if not 1 <= min_fit_clients <= num_clients:
            raise ValueError(f"strategy.min_fit_clients={min_fit_clients} must lie in 1..pool_size={num_clients}.")
        self.fraction_fit = fraction_fit
        self.min_fit_clients = min_fit_clients
        self.num_clients = num_clients
        self.seed = seed
        self.round_timeout = round_timeout
        self.bound = bound or UpdateBound(max_factor=None)
        self.stop = stop or threading.Event()
        self.global_arrays: Arrays = {}  # start of this round's clients; read-only
        self.sampled: dict[int, int] = {}  # node id -> partition id, of this round
        self.head_rounds: dict[int, int] = {}  # partition id -> the last round in which its reply was accepted
        self.introductions = Introductions(num_clients)
        self.report = UNKNOWN  # metrics that clients may report
        self._sent: list[Metadata] = []  # of this round's messages
        self._sent_at = 0.0
        self._told: set[int] = set()  # partition ids whose unknown metrics have been logged

    def is_shared(self, name: str) -> bool:
        """True if the state entry `name` travels."""
        return True

    def averages(self) -> dict[str, float]:
        """Share in the mean of each kind of average over the replies; the shares sum to 1."""
        return {"video": 1.0}

    def log_weights(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Logarithm of a client's weight in each kind of average; only differences between clients count.

        Args:
            metrics: report of the client, with "loss" and "num-examples".
        """
        return {"video": math.log(metrics["num-examples"])}

    def aggregate(self, server_round: int, mean: Arrays) -> Arrays:
        """Compute the new shared arrays, possibly in place in `mean`; `global_arrays` has the old ones."""
        return mean

    def sample_size(self, num_clients: int) -> int:
        """Number of clients, out of `num_clients`, that train in a round."""
        return sample_size(num_clients, fraction_fit=self.fraction_fit, min_fit_clients=self.min_fit_clients)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """Messages for the clients of this round; each names the round of the head to continue from, 0 for none.

        A client that replies too late may still save a head for its round, but no message will name it.

        Raises:
            FederationError: if fewer than `min_fit_clients` can be reached.
        """
        partition_of = self._reach_clients(grid)
        # Of all clients and not of those that can be reached: who connects must not decide how many train.
        size = min(self.sample_size(self.num_clients), len(partition_of))
        chosen = sample_clients(list(partition_of.values()), size=size, seed=self.seed, server_round=server_round)
        node_of = {partition_id: node_id for node_id, partition_id in partition_of.items()}
        self.sampled = {node_of[partition_id]: partition_id for partition_id in chosen}
        self.global_arrays = unpack(arrays)
        messages = []
        for node_id, partition_id in self.sampled.items():
            head_round = self.head_rounds.get(partition_id, 0)
            order = ConfigRecord({**config, "server-round": server_round, "head-round": head_round})
            messages.append(self._message(RecordDict({ARRAYS: arrays, CONFIG: order}), node_id, MessageType.TRAIN))
        self._sent, self._sent_at = [message.metadata for message in messages], time.perf_counter()
        return messages

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord, MetricRecord]:
        """Average the valid replies as they come in.

        Returns:
            The new shared arrays, and per-client columns: every list has one entry per valid client, in the order of
            "partition-id", NaN where the client does not report it. "failed-partition-ids" lists the others,
            "typical-update" has the norm, least and most steps of the bound's typical update.

        Raises:
            FederationError: if fewer than `min_fit_clients` replies are valid.
        """
        intake = Intake(self.sampled.values(), averages=self.averages(), log_weights=self.log_weights)
        failures = self._take_in(replies, intake)
        mean = intake.finish()
        for partition_id, why in sorted(failures.items()):
            log.warning("round %d: %s failed: %s", server_round, client_name(partition_id), why)
        if len(intake.metrics) < self.min_fit_clients:
            raise FederationError(
                f"Round {server_round} has {len(intake.metrics)} valid replies of {len(self.sampled)} clients, "
                f"strategy.min_fit_clients asks for {self.min_fit_clients}: lower it to go on without the others. "
                f"{_told(failures)}"
            )
        arrays = self.aggregate(server_round, mean)
        check_growth(arrays, self.global_arrays, server_round=server_round)
        packed = pack(arrays)
        self.bound.accept(intake.metrics)
        self.head_rounds |= dict.fromkeys(intake.metrics, server_round)
        log_weights = [self.log_weights(metrics) for metrics in intake.metrics.values()]
        weights = weight_columns(log_weights, self.averages())
        columns = _columns(intake.metrics, weights, failed=sorted(failures))
        if typical := self.bound.typical:
            columns["typical-update"] = [typical.norm, float(typical.least), float(typical.most)]
        return packed, columns

    def _take_in(self, replies: Iterable[Message], intake: Intake) -> dict[int, str]:
        """Add valid replies to the intake; return the reasons for missing ones, by partition id."""
        failures = dict.fromkeys(self.sampled.values(), f"no reply to its message within {self.round_timeout:g} s")

        def reject(partition_id: int, reason: str) -> None:
            failures[partition_id] = reason
            intake.skip(partition_id)

        for update in self.bound.admit(self._valid(replies, reject), self.global_arrays, reject=reject):
            del failures[update.partition_id]
            intake.add(update)
            del update  # frees one that does not wait in the intake before the next one is requested
        return failures

    def _valid(self, replies: Iterable[Message], reject: Callable[[int, str], None]) -> Iterator[Update]:
        """Updates in the valid replies as they come in; no reference to one is kept.

        Whatever a reply is, it costs the reply of its client at most.
        """
        node_of = destinations(self._sent)
        for reply in replies:
            partition_id = self.sampled.get(node_of.pop(answers(reply), -1))
            if partition_id is None:
                continue  # it answers nothing, or once more
            updates = []
            try:
                updates.append(self._read(reply, partition_id, seconds=time.perf_counter() - self._sent_at))
            except Exception as error:
                reject(partition_id, reason(error))
            del reply
            if updates:
                yield updates.pop()  # and no reference is left here

    def _read(self, reply: Message, partition_id: int, *, seconds: float) -> Update:
        """Check a reply that came `seconds` after the messages were sent, and the weight that it would have.

        Its "seconds-communication" is its round trip without the client's own work: packing, transport and unpacking
        both ways, the wait for a free actor, the start of actors in round 1, and the time until the server sees the
        reply: up to POLL_SECONDS, or as long as the server is busy with another reply.
        """
        update = read_update(
            reply,
            partition_id=partition_id,
            expected=self.global_arrays,
            num_examples=self.introductions.clients[partition_id].num_examples,
            report=self.report,
        )
        if "seconds-on-client" in update.metrics:
            update.metrics["seconds-communication"] = max(0.0, seconds - update.metrics["seconds-on-client"])
        weights = self.log_weights(update.metrics)
        if not all(math.isfinite(weights[kind]) for kind in self.averages()):
            raise ValueError(f"its weight is not finite: {weights}")
        if update.unknown and partition_id not in self._told:
            self._told.add(partition_id)
            names = one_line(", ".join(update.unknown[:5]))
            log.warning("%s: metrics that the task lacks are left out: %s", client_name(partition_id), names)
        return update

    def _reach_clients(self, grid: Grid) -> dict[int, int]:
        """Partition ids of the clients that take part, by node id."""
        nodes = self.wait_for_nodes(grid)
        asked = [self._message(RecordDict(), node, MessageType.QUERY) for node in self.introductions.begin(nodes)]
        replies = exchange(grid, asked, timeout=self.round_timeout, stop=self.stop)
        node_of = destinations(message.metadata for message in asked)
        for reply in replies:
            if (node_id := node_of.pop(answers(reply), None)) is not None:
                self.introductions.hear(node_id, reply)
        reached = self.introductions.settle(nodes)
        if len(reached) < self.min_fit_clients:
            left_out = self.introductions.left_out
            why = f"{len(left_out)} are left out, the first because {next(iter(left_out.values()))}" if left_out else ""
            raise FederationError(
                f"{len(reached)} clients can be reached, strategy.min_fit_clients asks for {self.min_fit_clients}: "
                f"lower it to go on without the others ({why or 'a missing one did not connect'})."
            )
        return reached

    def wait_for_nodes(self, grid: Grid) -> list[int]:
        """Wait for `num_clients` nodes, at most `round_timeout` seconds; return the ids of all nodes there.

        Raises:
            FederationError: if the run is stopped meanwhile.
        """
        deadline = time.monotonic() + self.round_timeout
        while len(nodes := sorted(grid.get_node_ids())) < self.num_clients and time.monotonic() < deadline:
            if self.stop.is_set():
                raise FederationError("The run was stopped.")
            time.sleep(POLL_SECONDS)
        return nodes

    def _message(self, content: RecordDict, node_id: int, message_type: str) -> Message:
        # Flower's messages expire after 12 h by default, and a reply to an expired message is lost.
        return Message(content, node_id, message_type, ttl=2 * self.round_timeout)


def sample_size(num_clients: int, *, fraction_fit: float, min_fit_clients: int) -> int:
    """Number of clients, out of `num_clients`, that train in a round."""
    return min(max(int(fraction_fit * num_clients), min_fit_clients), num_clients)


def sample_clients(partition_ids: Sequence[int], *, size: int, seed: int, server_round: int) -> list[int]:
    """Sample `size` different partitions, ascending; depends on the set of partitions, the seed and the round only."""
    rng = np.random.default_rng([seed, server_round, SAMPLING])
    return sorted(rng.choice(sorted(partition_ids), size=size, replace=False).tolist())


def client_name(partition_id: int) -> str:
    """Name of a client in messages to the user; its file counts from 1."""
    return f"client {partition_id} (client_dist{partition_id + 1}.json)"


def weight_columns(log_weights: Sequence[Mapping[str, float]], averages: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Columns [len(log_weights)] of sum 1: "weight" in the mean, and with several averages "<kind>-weight" in each."""
    columns = {f"{kind}-weight": softmax([weights[kind] for weights in log_weights]) for kind in averages}
    mixed = sum(share * column for share, column in zip(averages.values(), columns.values(), strict=True))
    return {**(columns if len(columns) > 1 else {}), "weight": np.asarray(mixed)}


def _columns(
    metrics: Mapping[int, Mapping[str, float]], weights: Mapping[str, np.ndarray], *, failed: list[int]
) -> MetricRecord:
    columns: dict[str, list] = {"partition-id": list(metrics)}
    for name in dict.fromkeys(name for client in metrics.values() for name in client):
        columns[name] = [client.get(name, math.nan) for client in metrics.values()]
    columns |= {name: values.tolist() for name, values in weights.items()}
    return MetricRecord({**columns, "failed-partition-ids": failed})


def _told(failures: dict[int, str]) -> str:
    (partition_id, why), *others = sorted(failures.items())
    more = f" ({len(others)} more are named in the log)" if others else ""
    return f"{client_name(partition_id).capitalize()} failed: {why}{more}."
