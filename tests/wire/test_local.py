"""Clients of this process, and the same numbers as over Flower's messages."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fedvssl.files.arrays import Arrays
from fedvssl.wire.grid import GridWire
from fedvssl.wire.introductions import Introductions
from fedvssl.wire.local import LocalWire
from fedvssl.wire.wire import Facts, Order
from tests.federation import LocalGrid
from tests.wire.test_grid import ARRAYS, echo_app


class Adder:
    """Adds its partition id + 1, always into the same arrays, as a task that is trained again and again."""

    def __init__(self, partition_id: int) -> None:
        self.partition_id = partition_id
        self.arrays: Arrays = {name: np.zeros_like(array) for name, array in ARRAYS.items()}

    def introduce(self) -> Facts:
        return {"partition-id": self.partition_id, "num-examples": 10 * (self.partition_id + 1)}

    def answer(self, action: str, arrays: Arrays, order: Order) -> tuple[Arrays, Facts]:
        if order.get("fails") == self.partition_id:
            raise RuntimeError("no\nvideo")
        for name, array in self.arrays.items():
            np.add(arrays[name], self.partition_id + 1, out=array, casting="unsafe")
        return self.arrays, {"loss": 1.0, "num-examples": 10 * (self.partition_id + 1)}


class Mute(Adder):
    def introduce(self) -> Facts:
        raise OSError("no list")


def wire_of(*clients: Adder) -> LocalWire:
    return LocalWire({client.partition_id: client for client in clients}, Introductions(len(clients)))


def asked(wire: LocalWire | GridWire) -> Iterator:
    return wire.ask("train", {who: (ARRAYS, {"lr-factor": 0.5}) for who in wire.clients()})


def test_replies_are_those_of_flowers_messages() -> None:
    limits = {"num_clients": 3, "timeout": 5.0}
    over_flower = GridWire(LocalGrid(echo_app(), 3), Introductions(3), **limits, stop=threading.Event())
    here = wire_of(*map(Adder, range(3)))
    assert here.clients() == over_flower.clients()
    for one, other in zip(asked(here), asked(over_flower), strict=True):
        assert (one.partition_id, one.facts, one.error) == (other.partition_id, other.facts, other.error)
        assert (one.bytes_up, one.bytes_down) == (other.bytes_up, other.bytes_down)
        for name, array in other.arrays.items():
            np.testing.assert_array_equal(one.arrays[name], array)
            assert one.arrays[name].dtype == array.dtype and not one.arrays[name].flags.writeable


def test_a_reply_stays_when_its_client_trains_again() -> None:
    client = Adder(0)
    (reply,) = asked(wire_of(client))
    client.answer("train", {name: array + 7 for name, array in ARRAYS.items()}, {})
    np.testing.assert_array_equal(reply.arrays["backbone.w"], np.ones((2, 3), np.float32))


def test_whatever_a_client_raises_is_its_failure_in_one_line() -> None:
    wire = wire_of(*map(Adder, range(3)))
    replies = list(wire.ask("train", {who: (ARRAYS, {"fails": 1}) for who in wire.clients()}))
    assert [reply.error for reply in replies] == ["", "no video", ""]


@pytest.mark.parametrize("answer", [None, (None, {}), ({"w": [object()]}, None)])
def test_a_malformed_answer_costs_its_client_only(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mute, "answer", lambda *_: answer)
    clients = {0: Adder(0), 1: Mute(1)}
    monkeypatch.setattr(Mute, "introduce", Adder.introduce)
    replies = list(asked(LocalWire(clients, Introductions(2))))
    assert [bool(reply.error) for reply in replies] == [False, True]


def test_the_shared_arrays_of_a_round_are_read_only() -> None:
    ready = wire_of(Adder(0)).ready(ARRAYS)
    assert all(not array.flags.writeable for array in ready.values()) and ARRAYS["backbone.w"].flags.writeable


def test_a_client_without_a_list_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    wire = wire_of(Adder(0), Mute(1))
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        assert wire.clients() == {0: 10}
    assert wire.left_out == {1: "no list"} and caplog.messages == ["node 1 cannot take part: no list"]


def test_ending_the_process_is_not_taken_for_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> tuple[Arrays, Facts]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Adder, "answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(asked(wire_of(Adder(0))))
