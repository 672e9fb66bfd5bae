"""Ask the clients over Flower: arrays and orders as messages, replies one by one.

Records are read as `content[name]`: Flower's `content.array_records` and its siblings make a reference cycle, which
keeps all arrays of the message until the garbage collector runs.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, Metadata, MetricRecord, RecordDict
from flwr.serverapp import Grid

from fedvssl.files.arrays import Arrays
from fedvssl.wire.introductions import Introductions
from fedvssl.wire.record import ARRAYS, CLIENT, CONFIG, METRICS, OWNER, num_bytes, pack, unpack
from fedvssl.wire.replies import first_line, reason
from fedvssl.wire.wire import FederationError, Order, Reply

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
PROGRESS_SECONDS = 15.0


class GridWire:
    """Clients that are nodes of Flower.

    Args:
        grid: Flower's connection to the nodes.
        introductions: what the run knows of its clients.
        num_clients: nodes to wait for.
        timeout: seconds to wait for replies, and from the second round on for a missing node, once until it is back.
        start_timeout: seconds to wait for the nodes and for their introductions in the first round; None: as `timeout`.
        stop: ends all waiting when set.
    """

    def __init__(
        self,
        grid: Grid,
        introductions: Introductions,
        *,
        num_clients: int,
        timeout: float,
        stop: threading.Event,
        start_timeout: float | None = None,
    ) -> None:
        self._grid, self._introductions, self._num_clients = grid, introductions, num_clients
        self._timeout, self._stop = timeout, stop
        self._awaited = num_clients
        self._patience = timeout if start_timeout is None else start_timeout  # for nodes
        self._node_of: dict[int, int] = {}  # partition id -> node id

    @property
    def left_out(self) -> Mapping[int, str]:
        return self._introductions.left_out

    def clients(self) -> dict[int, int]:
        """Wait for the nodes, have new ones introduce themselves; return numbers of videos by partition id.

        Raises:
            FederationError: if the run is stopped meanwhile.
        """
        nodes = self._wait_for_nodes()
        begun = self._introductions.begin(nodes)
        asked = [_message(RecordDict(), node, MessageType.QUERY, wait=self._patience) for node in begun]
        replies = exchange(self._grid, asked, timeout=self._patience, stop=self._stop)
        node_of = destinations(message.metadata for message in asked)
        for reply in replies:
            if (node_id := node_of.pop(answers(reply), None)) is not None:
                self._introductions.hear(node_id, lambda reply=reply: _introduction(reply))
        for node_id in node_of.values():
            self._introductions.left_out[node_id] = f"it does not introduce itself within {self._patience:g} s"
        self._patience = self._timeout
        self._node_of = {who: node for node, who in self._introductions.settle(nodes).items()}
        return {who: self._introductions.clients[who].num_examples for who in self._node_of}

    def ready(self, arrays: Arrays) -> Arrays:
        return unpack(pack(arrays))

    def ask(self, action: str, orders: Mapping[int, tuple[Arrays, Order]]) -> Iterator[Reply]:
        """Send the orders; iterate over the replies of the clients, see `Wire`.

        Raises:
            FederationError: from the iterator, if the run is stopped.
        """
        distinct = {id(arrays): arrays for arrays, _ in orders.values()}  # most clients get the same
        packed = {key: pack(arrays) for key, arrays in distinct.items()}
        messages = []
        for partition_id, (arrays, order) in orders.items():
            content = RecordDict({ARRAYS: packed[id(arrays)], CONFIG: ConfigRecord(dict(order))})
            messages.append(_message(content, self._node_of[partition_id], action, wait=self._timeout))
        sizes = {who: num_bytes(packed[id(arrays)]) for who, (arrays, _) in orders.items()}
        metadata, started = [message.metadata for message in messages], time.perf_counter()
        replies = exchange(self._grid, messages, timeout=self._timeout, stop=self._stop)
        return self._read_all(replies, destinations(metadata), sizes, started=started)

    def _read_all(
        self, replies: Iterator[Message], node_of: dict[str, int], sizes: Mapping[int, int], *, started: float
    ) -> Iterator[Reply]:
        """Read replies as they come in, then tell which clients are silent.

        Args:
            node_of: node ids by message id.
            sizes: bytes that were sent, by partition id.
            started: `time.perf_counter` when they were sent.
        """
        partition_of = {self._node_of[partition_id]: partition_id for partition_id in sizes}
        for message in replies:
            partition_id = partition_of.pop(node_of.pop(answers(message), -1), None)
            if partition_id is None:
                continue  # it answers nothing, or once more
            read = [_read(message, partition_id, sizes[partition_id], seconds=time.perf_counter() - started)]
            del message
            yield read.pop()  # and no reference is left here
        for partition_id in partition_of.values():
            yield Reply(partition_id, error=f"no reply to its message within {self._timeout:g} s")

    def _wait_for_nodes(self) -> list[int]:
        deadline, told = time.monotonic() + self._patience, time.monotonic()  # nothing is told of a short wait
        while len(nodes := sorted(self._grid.get_node_ids())) < self._awaited:
            now = time.monotonic()
            if now >= deadline:
                self._awaited = len(nodes)  # a missing one is waited for once, and not in every round
                break
            if self._stop.is_set():
                raise FederationError("The run was stopped.")
            if now - told >= PROGRESS_SECONDS:
                told, connected = now, f"{len(nodes)} of {self._num_clients} clients are connected"
                log.info("%s; waiting for the others, at most %.0f s more", connected, deadline - now)
            time.sleep(POLL_SECONDS)
        self._awaited = max(self._awaited, min(len(nodes), self._num_clients))
        return nodes


def _message(content: RecordDict, node_id: int, message_type: str, *, wait: float) -> Message:
    # Flower's messages expire after 12 h by default, and a reply to an expired message is lost.
    return Message(content, node_id, message_type, ttl=2 * wait)


def _read(message: Message, partition_id: int, bytes_down: int, *, seconds: float) -> Reply:
    """Contents of a message, or the reason why it has none. Whatever it is, it costs this client's reply at most."""
    try:
        facts = _facts(message, METRICS)
        record = message.content.get(ARRAYS)
        if not isinstance(record, ArrayRecord):
            raise ValueError(f"the reply lacks '{ARRAYS}'")
        arrays, bytes_up = unpack(record), num_bytes(record)
        return Reply(partition_id, arrays, facts, bytes_up=bytes_up, bytes_down=bytes_down, seconds=seconds)
    except Exception as error:
        return Reply(partition_id, error=reason(error))


def _facts(message: Message, name: str) -> dict[str, Any]:
    """Numbers that a message reports under this name.

    Raises:
        ValueError: if it is an error or lacks them; hostile messages raise other exceptions too.
    """
    if message.has_error():
        raise ValueError(first_line(message.error.reason))
    facts = message.content.get(name)
    if not isinstance(facts, MetricRecord):
        raise ValueError(f"the reply lacks '{name}'")
    return dict(facts)


def _introduction(message: Message) -> dict[str, Any]:
    """Numbers and texts of an introduction; the texts may be missing. Raises as `_facts`."""
    facts, texts = _facts(message, CLIENT), message.content.get(OWNER)
    return dict(texts) | facts if isinstance(texts, ConfigRecord) else facts


def exchange(grid: Grid, messages: Iterable[Message], *, timeout: float, stop: threading.Event) -> Iterator[Message]:
    """Send messages at once and iterate over their replies as they come in.

    `grid.send_and_receive` would keep all replies in memory, and wait for the whole timeout if the simulation breaks.
    Each message has one reply at most; one that names another message, or cannot be read at all, is dropped.

    Args:
        grid: Flower's connection to the nodes.
        messages: one for each node.
        timeout: seconds from now after which the iterator ends, even if replies are missing.
        stop: ends the waiting when set.

    Raises:
        FederationError: from the iterator, if `stop` was set.
    """
    sent = [number for number in grid.push_messages(messages) if number is not None]  # None: it could not be sent
    return _replies(grid, sent, deadline=time.monotonic() + timeout, stop=stop)


def _replies(grid: Grid, pending: list[str], *, deadline: float, stop: threading.Event) -> Iterator[Message]:
    is_over = False
    while pending and not is_over:
        if stop.is_set():
            raise FederationError("The run was stopped.")
        is_over = time.monotonic() >= deadline  # before the last look: the user of a reply may be slow
        for message_id in pending[:]:
            # One by one: the others stay with Flower until there is room for them here.
            if replies := _pull(grid, message_id):
                pending.remove(message_id)
                if answers(replies[0]) == message_id:
                    yield replies.pop()  # and no reference is left here
        if pending and not is_over:
            time.sleep(POLL_SECONDS)


def _pull(grid: Grid, message_id: str) -> list[Any]:
    """Replies to a message, [] while there is none, [None] if Flower cannot read the one that has come."""
    try:
        return list(grid.pull_messages([message_id]))[:1]
    except Exception as error:
        log.warning("the reply to message %s cannot be read: %s", message_id, reason(error))
        return [None]


def answers(reply: Any) -> str:
    """Id of the message that a reply names; "" if it names none."""
    try:
        return str(reply.metadata.reply_to_message_id)
    except Exception:
        return ""


def destinations(sent: Iterable[Metadata]) -> dict[str, int]:
    """Node ids of pushed messages, by message id; messages get their ids when pushed.

    They tell a reply's node, which its sender does not: Flower's own errors, when a node is gone or a message has
    expired, come from the SuperLink.
    """
    return {metadata.message_id: metadata.dst_node_id for metadata in sent if metadata.message_id}
