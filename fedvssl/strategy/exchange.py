"""Sending messages to clients and collecting what comes back: replies, errors, silence."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import Message, Metadata
from flwr.serverapp import Grid

from fedvssl.strategy.average import Arrays

POLL_SECONDS = 0.1
ARRAYS, METRICS, CONFIG = "arrays", "metrics", "config"


class FederationError(RuntimeError):
    """The run cannot go on; the message is a sentence for the user."""


@dataclass(frozen=True)
class ClientUpdate:
    """A valid reply: what one client learned and what it reports; `metrics` has "loss" and "num-examples"."""

    partition_id: int
    arrays: Arrays
    metrics: dict[str, float]


def exchange(
    grid: Grid,
    messages: Iterable[Message],
    *,
    timeout: float,
    stop: threading.Event,
    on_reply: Callable[[Message], None] = lambda reply: None,
) -> list[Message]:
    """Send messages and wait for their replies.

    `grid.send_and_receive` would do it as well, but keeps waiting for the whole timeout when the simulation underneath
    has broken down.

    Args:
        grid: Flower's connection to the nodes.
        messages: one for each node.
        timeout: seconds after which those that have replied are returned.
        stop: ends the waiting when set.
        on_reply: called with each reply as it comes in.

    Raises:
        FederationError: if `stop` was set.
    """
    pending = set(grid.push_messages(messages)) - {None}  # None: Flower could not send it
    deadline = time.monotonic() + timeout
    replies: list[Message] = []
    while pending and time.monotonic() < deadline:
        if stop.is_set():
            raise FederationError("The run was stopped.")
        for reply in grid.pull_messages(pending):
            pending.discard(reply.metadata.reply_to_message_id)
            replies.append(reply)
            on_reply(reply)
        if pending:
            time.sleep(POLL_SECONDS)
    return replies


def destinations(sent: Iterable[Metadata]) -> dict[str, int]:
    """Message id -> node id of messages that were pushed, which is when they get their ids.

    A reply tells its node through this and not by its sender: what Flower itself replies when a node is gone or a
    message has expired comes from the SuperLink.
    """
    return {metadata.message_id: metadata.dst_node_id for metadata in sent}


def read_update(reply: Message, *, partition_id: int, expected: Mapping[str, np.ndarray]) -> ClientUpdate:
    """Check a training reply against the arrays that were sent.

    Raises:
        ValueError: a sentence fragment that says why the reply cannot be used.
    """
    if reply.has_error():
        raise ValueError(first_line(reply.error.reason))
    if ARRAYS not in reply.content.array_records or METRICS not in reply.content.metric_records:
        raise ValueError(f"the reply lacks the records '{ARRAYS}' and '{METRICS}'")
    record = reply.content.array_records[ARRAYS]
    if set(record) != set(expected):
        raise ValueError(f"the reply has {len(record)} arrays with other names than the {len(expected)} that were sent")
    facts = reply.content.metric_records[METRICS].items()
    metrics = {name: float(value) for name, value in facts if isinstance(value, int | float)}
    if not np.isfinite(metrics.get("loss", np.nan)):
        raise ValueError(f"the loss is {metrics.get('loss', 'missing')}")
    if not metrics.get("num-examples", 0) > 0:
        raise ValueError("it trained on no video")
    arrays = {}
    for name, sent in expected.items():
        array = record[name].numpy()
        if array.shape != sent.shape or array.dtype != sent.dtype:
            raise ValueError(f"'{name}' is {array.dtype} {array.shape} instead of {sent.dtype} {sent.shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"'{name}' has values that are not finite")
        arrays[name] = array
    metrics["bytes-up"] = sum(len(array.data) for array in record.values())
    return ClientUpdate(partition_id, arrays, metrics)


def first_line(reason: str | None) -> str:
    """What to show of an error: its first line that says anything, without the wrapping of Flower's engine."""
    text = re.sub(r"^<class '(?:\w+\.)*(\w+)'>:<'(.*)'>$", r"\1: \2", reason or "", flags=re.DOTALL)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "no reason given"
