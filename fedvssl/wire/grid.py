"""Send messages to clients and collect their replies one by one.

Records are read as `content[name]`: Flower's `content.array_records` and its siblings make a reference cycle, which
keeps all arrays of the message until the garbage collector runs.
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
    """Send messages at once and iterate over their replies as they come in.

    `grid.send_and_receive` would keep all replies in memory, and wait for the whole timeout if the simulation breaks.

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
            if replies := list(grid.pull_messages([message_id])):
                pending.remove(message_id)
                yield replies.pop()  # and no reference is left here
        if pending and not is_over:
            time.sleep(POLL_SECONDS)


def destinations(sent: Iterable[Metadata]) -> dict[str, int]:
    """Node ids of pushed messages, by message id; messages get their ids when pushed.

    They tell a reply's node, which its sender does not: Flower's own errors, when a node is gone or a message has
    expired, come from the SuperLink.
    """
    return {metadata.message_id: metadata.dst_node_id for metadata in sent}


def read_update(reply: Message, *, partition_id: int, expected: Mapping[str, np.ndarray]) -> Update:
    """Check a training reply against the arrays that were sent.

    Raises:
        ValueError: with the reason for rejecting the reply, as part of a sentence.
    """
    if reply.has_error():
        raise ValueError(first_line(reply.error.reason))
    record, facts = reply.content.get(ARRAYS), reply.content.get(METRICS)
    if not (isinstance(record, ArrayRecord) and isinstance(facts, MetricRecord)):
        raise ValueError(f"the reply lacks '{ARRAYS}' or '{METRICS}'")
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
    """First non-empty line of an error, without the wrapping of Flower's engine."""
    text = re.sub(r"^<class '(?:\w+\.)*(\w+)'>:<'(.*)'>$", r"\1: \2", reason or "", flags=re.DOTALL)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "no reason given"
