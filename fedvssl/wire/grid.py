"""Send messages to clients and collect their replies one by one.

Records are read as `content[name]`: Flower's `content.array_records` and its siblings make a reference cycle, which
keeps all arrays of the message until the garbage collector runs.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from flwr.app import Message, Metadata
from flwr.serverapp import Grid

from fedvssl.wire.replies import reason
from fedvssl.wire.wire import FederationError

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1


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
