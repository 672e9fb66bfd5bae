"""Sending messages to clients and collecting what comes back one by one: replies, errors, silence.

Records are taken as `content[name]`. Flower's `content.array_records` and the like make an object that holds itself and
with it all arrays of the message, until the garbage collector runs.
"""

import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from flwr.app import ArrayRecord, Message, Metadata, MetricRecord
from flwr.serverapp import Grid

from fedvssl.wire.record import ARRAYS, METRICS, view
from fedvssl.wire.wire import FederationError, Update

POLL_SECONDS = 0.1


def exchange(grid: Grid, messages: Iterable[Message], *, timeout: float, stop: threading.Event) -> Iterator[Message]:
    """Send messages, at once, and iterate over their replies as they come in.

    `grid.send_and_receive` would do it as well, but keeps all replies in memory, and waits for the whole timeout when
    the simulation underneath has broken down.

    Args:
        grid: Flower's connection to the nodes.
        messages: one for each node.
        timeout: seconds from now after which the iterator ends with those that have replied.
        stop: ends the waiting when set.

    Raises:
        FederationError: by the iterator, if `stop` was set.
    """
    sent = [number for number in grid.push_messages(messages) if number is not None]  # None: it could not be sent
    return _replies(grid, sent, deadline=time.monotonic() + timeout, stop=stop)


def _replies(grid: Grid, pending: list[str], *, deadline: float, stop: threading.Event) -> Iterator[Message]:
    is_over = False
    while pending and not is_over:
        if stop.is_set():
            raise FederationError("The run was stopped.")
        is_over = time.monotonic() >= deadline  # before the last look, as whoever takes a reply may take its time
        for message_id in pending[:]:
            # One by one: the others lie with Flower until there is room for them here.
            if replies := list(grid.pull_messages([message_id])):
                pending.remove(message_id)
                yield replies.pop()  # and no reference is left here
        if pending and not is_over:
            time.sleep(POLL_SECONDS)


def destinations(sent: Iterable[Metadata]) -> dict[str, int]:
    """Message id -> node id of messages that were pushed, which is when they get their ids.

    A reply tells its node through this and not by its sender: what Flower itself replies when a node is gone or a
    message has expired comes from the SuperLink.
    """
    return {metadata.message_id: metadata.dst_node_id for metadata in sent}


def read_update(reply: Message, *, partition_id: int, expected: Mapping[str, np.ndarray]) -> Update:
    """Check a training reply against the arrays that were sent.

    Raises:
        ValueError: a sentence fragment that says why the reply cannot be used.
    """
    if reply.has_error():
        raise ValueError(first_line(reply.error.reason))
    record, facts = reply.content.get(ARRAYS), reply.content.get(METRICS)
    if not (isinstance(record, ArrayRecord) and isinstance(facts, MetricRecord)):
        raise ValueError(f"the reply lacks the records '{ARRAYS}' and '{METRICS}'")
    if set(record) != set(expected):
        raise ValueError(f"the reply has {len(record)} arrays with other names than the {len(expected)} that were sent")
    metrics = {name: float(value) for name, value in facts.items() if isinstance(value, int | float)}
    if not np.isfinite(metrics.get("loss", np.nan)):
        raise ValueError(f"the loss is {metrics.get('loss', 'missing')}")
    if not metrics.get("num-examples", 0) > 0:
        raise ValueError("it trained on no video")
    arrays = {}
    for name, sent in expected.items():
        array = view(record[name])
        if array.shape != sent.shape or array.dtype != sent.dtype:
            raise ValueError(f"'{name}' is {array.dtype} {array.shape} instead of {sent.dtype} {sent.shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"'{name}' has values that are not finite")
        arrays[name] = array
    metrics["bytes-up"] = sum(len(array.data) for array in record.values())
    return Update(partition_id, arrays, metrics)


def first_line(reason: str | None) -> str:
    """What to show of an error: its first line that says anything, without the wrapping of Flower's engine."""
    text = re.sub(r"^<class '(?:\w+\.)*(\w+)'>:<'(.*)'>$", r"\1: \2", reason or "", flags=re.DOTALL)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "no reason given"
