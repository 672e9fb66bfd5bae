"""Flower's messages in this process: what is sent, whose reply is whose, and what strangers send."""

import logging
import threading
import time
import weakref
from functools import partial
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.server.superlink.linkstate.utils import (
    create_message_error_unavailable_ins_message,
    create_message_error_unavailable_res_message,
)

from fedvssl.wire.grid import GridWire, exchange
from fedvssl.wire.introductions import Introductions
from fedvssl.wire.record import pack, unpack
from fedvssl.wire.wire import FederationError, Reply
from tests.federation import LocalGrid

ARRAYS = {"backbone.w": np.zeros((2, 3), np.float32), "head.n": np.array(0, np.int64)}


def echo_app() -> ClientApp:
    """Every client adds its partition id + 1 to what it gets."""
    app = ClientApp()

    @app.query()
    def introduce(message: Message, context) -> Message:
        partition_id = context.node_config["partition-id"]
        facts = MetricRecord({"partition-id": partition_id, "num-examples": 10 * (partition_id + 1)})
        return Message(RecordDict({"client": facts}), reply_to=message)

    @app.train()
    def train(message: Message, context) -> Message:
        return reply_with(message, step=context.node_config["partition-id"] + 1)

    return app


def reply_with(message: Message, *, step: int, **facts: Any) -> Message:
    arrays = {name: array + array.dtype.type(step) for name, array in unpack(message.content["arrays"]).items()}
    metrics = MetricRecord({"loss": 1.0, "num-examples": 10 * step, **facts})
    return Message(RecordDict({"arrays": pack(arrays), "metrics": metrics}), reply_to=message)


def wire_over(grid: LocalGrid, num_clients: int = 3, timeout: float = 5.0, stop: Any = None) -> GridWire:
    stop = stop or threading.Event()
    return GridWire(grid, Introductions(num_clients), num_clients=num_clients, timeout=timeout, stop=stop)


def asked(wire: GridWire, order: dict | None = None) -> list[Reply]:
    """Replies of all clients that can be reached."""
    return list(wire.ask("train", {who: (ARRAYS, {"lr-factor": 0.5, **(order or {})}) for who in wire.clients()}))


def query(grid: LocalGrid, **settings):
    messages = [Message(RecordDict(), node_id, "query") for node_id in grid.partition_of]
    return exchange(grid, messages, **{"timeout": 5.0, "stop": threading.Event(), **settings})


def test_clients_are_those_that_introduce_themselves():
    assert wire_over(LocalGrid(echo_app(), 3)).clients() == {0: 10, 1: 20, 2: 30}


def test_an_order_and_arrays_reach_each_client_and_come_back_counted():
    grid = LocalGrid(echo_app(), 3)
    replies = asked(wire_over(grid), {"server-round": 4})
    assert [reply.partition_id for reply in replies] == [0, 1, 2]
    np.testing.assert_array_equal(replies[1].arrays["backbone.w"], np.full((2, 3), 2, np.float32))
    assert replies[1].facts == {"loss": 1.0, "num-examples": 20} and not replies[1].error
    assert dict(grid.sent[0][1].content["config"]) == {"lr-factor": 0.5, "server-round": 4}
    sizes = [len(array.data) for array in grid.sent[0][1].content["arrays"].values()]
    assert (replies[0].bytes_up, replies[0].bytes_down) == (sum(sizes), sum(sizes)) and replies[0].seconds > 0
    sent = [message.content["arrays"]["backbone.w"].data for _, message in grid.sent]
    assert all(data is sent[0] for data in sent), "packed once for all"


def test_replies_do_not_depend_on_node_ids():
    one, other = (asked(wire_over(LocalGrid(echo_app(), 3, seed=seed))) for seed in (1, 2))
    key = {reply.partition_id: reply.arrays["backbone.w"].tobytes() for reply in one}
    assert key == {reply.partition_id: reply.arrays["backbone.w"].tobytes() for reply in other}


FLOWERS_OWN = {
    "Node Unavailable": lambda m: create_message_error_unavailable_res_message(m.metadata, "node_unavail"),
    "expired": lambda m: create_message_error_unavailable_ins_message(m.metadata.message_id, 1),
}


@pytest.mark.parametrize("word", FLOWERS_OWN)
def test_an_error_of_flower_itself_belongs_to_the_client_that_was_asked(word):
    """It comes from the SuperLink, whose node id is none of the clients'."""
    grid = LocalGrid(echo_app(), 3, lambda partition_id, m: FLOWERS_OWN[word](m) if partition_id == 2 else None)
    replies = {reply.partition_id: reply.error for reply in asked(wire_over(grid))}
    assert replies[0] == replies[1] == "" and word in replies[2]


def test_an_error_of_flower_itself_to_the_first_question_names_the_node(caplog, monkeypatch):
    grid = LocalGrid(echo_app(), 2)
    lost, answer = sorted(grid.partition_of)[0], grid.app
    monkeypatch.setattr(
        grid,
        "app",
        lambda m, context: FLOWERS_OWN["Node Unavailable"](m) if m.metadata.dst_node_id == lost else answer(m, context),
    )
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        wire_over(grid, 2, timeout=0.5).clients()
    assert caplog.messages[0].startswith(f"node {lost} cannot take part: ")


def test_a_message_that_cannot_be_sent_is_not_waited_for(monkeypatch):
    grid = LocalGrid(echo_app(), 2)
    push = grid.push_messages
    monkeypatch.setattr(grid, "push_messages", lambda messages: [None, *list(push(messages))[1:]])
    started = time.monotonic()
    assert len(list(query(grid, timeout=20))) == 1
    assert time.monotonic() - started < 10


def test_a_silent_client_is_told_after_the_timeout():
    grid = LocalGrid(echo_app(), 2, lambda partition_id, message: "silence" if partition_id == 0 else None)
    first, second = asked(wire_over(grid, 2, timeout=0.3))
    assert first.partition_id == 1 and not first.error
    assert (second.partition_id, second.error) == (0, "no reply to its message within 0.3 s")


def test_a_round_waits_until_all_nodes_are_there():
    grid = LocalGrid(echo_app(), 3)
    late = grid.partition_of.popitem()
    threading.Timer(0.3, lambda: grid.partition_of.update([late])).start()
    assert wire_over(grid).clients().keys() == {0, 1, 2}


def test_nodes_that_never_come_are_not_waited_for_longer():
    assert wire_over(LocalGrid(echo_app(), 2), timeout=0.3).clients().keys() == {0, 1}


@pytest.mark.parametrize("num_nodes", [2, 3])
def test_stopping_ends_the_waiting_at_once(num_nodes):
    """For a node that is missing, and for replies."""
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    started = time.monotonic()
    with pytest.raises(FederationError, match="stopped"):
        asked(wire_over(LocalGrid(echo_app(), num_nodes, lambda *_: "silence"), timeout=60, stop=stop))
    assert time.monotonic() - started < 10


def test_messages_outlive_the_round():
    grid = LocalGrid(echo_app(), 1)
    asked(wire_over(grid, 1, timeout=10**6))
    assert grid.sent[0][1].metadata.ttl >= 10**6, "Flower's default of 12 h would lose the reply of a longer round"


def test_the_first_question_outlives_the_start_where_rounds_are_short(monkeypatch):
    grid, wait = LocalGrid(echo_app(), 1), {"timeout": 1.0, "start_timeout": 10.0**6}
    push, pushed = grid.push_messages, []
    monkeypatch.setattr(grid, "push_messages", lambda messages: push([pushed.append(m) or m for m in messages]))
    asked(GridWire(grid, Introductions(1), num_clients=1, stop=threading.Event(), **wait))
    assert [message.metadata.ttl for message in pushed] == [2 * 10**6, 2]


def test_a_silent_node_is_told_with_the_seconds_that_were_waited(caplog, monkeypatch):
    grid, wait = LocalGrid(echo_app(), 1), {"timeout": 60.0, "start_timeout": 0.3}
    monkeypatch.setattr(grid, "pull_messages", lambda message_ids: [])
    wire = GridWire(grid, Introductions(1), num_clients=1, stop=threading.Event(), **wait)
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        assert wire.clients() == {}
    assert caplog.messages[0].endswith("cannot take part: it does not introduce itself within 0.3 s")


def test_a_client_is_asked_for_its_partition_once(monkeypatch):
    grid = LocalGrid(echo_app(), 3)
    wire, kinds, push = wire_over(grid), [], grid.push_messages

    def record(messages):
        kinds.extend(message.metadata.message_type for message in messages)
        return push(messages)

    monkeypatch.setattr(grid, "push_messages", record)
    for _ in range(2):
        asked(wire)
    assert kinds.count("query") == 3 and kinds.count("train") == 6


def test_messages_are_sent_at_once_and_replies_taken_one_by_one():
    grid = LocalGrid(echo_app(), 3)
    replies = query(grid)
    for left in (3, 2, 1):
        assert len(grid.replies) == left, "what is not asked for yet lies with Flower"
        gone = weakref.ref(next(replies))
        assert gone() is None
    assert next(replies, None) is None


def test_a_reply_is_gone_when_the_next_one_is_asked_for():
    wire = wire_over(LocalGrid(echo_app(), 3))
    replies = wire.ask("train", {who: (ARRAYS, {}) for who in wire.clients()})
    for _ in range(3):
        reply = next(replies)
        gone = [weakref.ref(reply), *map(weakref.ref, reply.arrays.values())]
        del reply
        assert [reference() for reference in gone] == [None] * 3


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


def test_answers_to_nothing_and_second_answers_are_dropped(monkeypatch):
    grid = LocalGrid(echo_app(), 3, lambda partition_id, _: "silence" if partition_id == 2 else None)
    wire = wire_over(grid, timeout=0.3)
    wire.clients()
    stranger = Message(RecordDict(), 5, "train")

    def replies(grid, messages, **limits):
        found = [*exchange(grid, messages, **limits)]
        unknown, lost = (reply_with(grid.sent[2][1], step=3) for _ in range(2))
        unknown.metadata.__dict__["_reply_to_message_id"] = "unknown"
        lost.__dict__["_metadata"] = None
        return iter([found[0], found[0], unknown, lost, stranger, *found[1:]])

    monkeypatch.setattr("fedvssl.wire.grid.exchange", replies)
    orders = {who: (ARRAYS, {}) for who in range(3)}
    assert [(reply.partition_id, bool(reply.error)) for reply in wire.ask("train", orders)] == [
        *((0, False), (1, False), (2, True))
    ]


def test_a_reply_that_flower_cannot_read_costs_its_client_only(caplog, monkeypatch):
    grid = LocalGrid(echo_app(), 3)
    pull = grid.pull_messages

    def cannot_read(message_ids):
        (number,) = message_ids
        if grid.sent and number == grid.sent[1][1].metadata.message_id:
            raise KeyError("an unknown record")
        return pull(message_ids)

    monkeypatch.setattr(grid, "pull_messages", cannot_read)
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        replies = {reply.partition_id: reply.error for reply in asked(wire_over(grid))}
    assert replies[0] == replies[2] == "" and replies[1].startswith("no reply to its message")
    assert "cannot be read: KeyError: 'an unknown record'" in caplog.text


BEFORE, AFTER = "{'descr': '<f4', 'fortran_order': False, 'shape': ", ", }"
HEADERS = {
    "a lost bracket": BEFORE + "(2, 3",
    "brackets": "{{{{",
    "a bool in the shape": f"{BEFORE}(True, 3){AFTER}",
    "a shape of 800 digits": f"{BEFORE}({'9' * 800},){AFTER}",
    "a shape of 4 TB": f"{BEFORE}(1000000, 1000000){AFTER}",
    "a negative shape": f"{BEFORE}(-1,){AFTER}",
    "nesting": "[" * 900,
}


def set_header(reply: Message, text: str) -> None:
    encoded = text.encode().ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(encoded).to_bytes(2, "little") + encoded + bytes(24)
    reply.content["arrays"]["backbone.w"] = Array("float32", (2, 3), "numpy.ndarray", data)


def change_array(reply: Message, **changed: Any) -> None:
    reply.content["arrays"]["backbone.w"].__dict__.update(changed)


def replace(reply: Message, **records: Any) -> None:
    reply.content.__dict__["_data"].update(records)


def fail(reply: Message, reason: Any) -> None:
    reply.__dict__.update(_content=None, _error=Error(2, reason))


CHANGES = {
    **{name: partial(set_header, text=text) for name, text in HEADERS.items()},
    "another storage": partial(change_array, stype="\n" * 1000),
    "an array of nothing": partial(change_array, data=None),
    "metrics are no record": partial(replace, metrics=[1]),
    "an array is no array": partial(replace, arrays={"backbone.w": 1}),
    "a reason in bytes": partial(fail, reason=b"\xff\n" * 10**6),
    "a reason of several lines": partial(fail, reason="ValueError: no list\n  at line 3"),
}


@pytest.mark.parametrize("fault", CHANGES)
def test_a_reply_that_cannot_be_read_becomes_one_line(fault):
    def change(partition_id: int, message: Message) -> Message | None:
        if partition_id != 1:
            return None
        reply = reply_with(message, step=2)
        CHANGES[fault](reply)
        return reply

    replies = {reply.partition_id: reply for reply in asked(wire_over(LocalGrid(echo_app(), 3, change)))}
    assert not replies[0].error and not replies[2].error
    error = replies[1].error
    assert error and error.isprintable() and len(error) < 600 and not replies[1].arrays
    if fault == "a reason of several lines":
        assert error == "ValueError: no list"


def test_a_doubtful_node_is_left_out(caplog):
    grid = LocalGrid(echo_app(), 5)
    grid.partition_of[list(grid.partition_of)[4]] = 3
    wire = wire_over(grid, 5)
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        assert wire.clients().keys() == {0, 1, 2}
    assert len(caplog.messages) == 2 and len(wire.left_out) == 2


def test_a_partition_beyond_the_pool_is_left_out():
    grid = LocalGrid(echo_app(), 3)
    grid.partition_of[list(grid.partition_of)[2]] = 77
    assert wire_over(grid).clients().keys() == {0, 1}
