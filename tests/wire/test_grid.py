import threading
import time
import weakref

import pytest
from flwr.app import Message, RecordDict

from fedvssl.wire.grid import exchange
from fedvssl.wire.wire import FederationError
from tests.federation import LocalGrid
from tests.strategy.test_fedavg import echo_app


def query(grid: LocalGrid, **settings):
    messages = [Message(RecordDict(), node_id, "query") for node_id in grid.partition_of]
    return exchange(grid, messages, **{"timeout": 5.0, "stop": threading.Event(), **settings})


def test_messages_are_sent_at_once_and_replies_taken_one_by_one():
    grid = LocalGrid(echo_app(), 3)
    replies = query(grid)
    for left in (3, 2, 1):
        assert len(grid.replies) == left, "what is not asked for yet lies with Flower"
        gone = weakref.ref(next(replies))
        assert gone() is None
    assert next(replies, None) is None


def test_a_reply_that_names_another_message_is_dropped():
    """The nodes answer for each other; who is right cannot be told."""
    grid = LocalGrid(echo_app(), 3)
    replies = query(grid)
    grid.replies["1"], grid.replies["2"] = grid.replies["2"], grid.replies["1"]
    assert [reply.metadata.reply_to_message_id for reply in replies] == ["3"]


def test_what_came_while_the_last_was_dealt_with_is_no_late_reply():
    replies = query(LocalGrid(echo_app(), 2), timeout=0.2)
    next(replies)
    time.sleep(0.3)
    assert len(list(replies)) == 1


def test_stopping_reaches_who_waits():
    stop = threading.Event()
    grid = LocalGrid(echo_app(), 2)
    replies = query(grid, stop=stop)
    grid.replies.clear()
    stop.set()
    with pytest.raises(FederationError, match="stopped"):
        next(replies)
