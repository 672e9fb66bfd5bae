"""Ask clients that are objects of this process, one after the other, by direct calls: no engine, no messages."""

import time
from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from fedvssl.files.arrays import Arrays, npy_header
from fedvssl.wire.introductions import Introductions
from fedvssl.wire.replies import one_line
from fedvssl.wire.wire import STEP, Facts, Order, Reply


class LocalClient(Protocol):
    """A client in this process. What its methods raise is its failure, and told in one line."""

    def introduce(self) -> Facts: ...

    def answer(self, action: str, arrays: Arrays, order: Order) -> tuple[Arrays, Facts]: ...


@runtime_checkable
class Together(Protocol):
    """A client that can answer for all clients of this process in one go, see `fedvssl.client.client.Client`."""

    def answer_together(
        self, orders: Mapping[int, tuple[Arrays, Order]]
    ) -> Mapping[int, tuple[Arrays, Facts] | Exception]: ...


class LocalWire:
    """Clients in this process. The round's timeout does not reach them: whoever hangs, hangs.

    Args:
        clients: by partition id, which is the id of their node too.
        introductions: what the run knows of its clients.
    """

    def __init__(self, clients: Mapping[int, LocalClient], introductions: Introductions) -> None:
        self._clients, self._introductions = clients, introductions

    @property
    def left_out(self) -> Mapping[int, str]:
        return self._introductions.left_out

    def clients(self) -> dict[int, int]:
        """Have new clients introduce themselves; return numbers of videos by partition id."""
        for node_id in self._introductions.begin(self._clients):
            self._introductions.hear(node_id, lambda client=self._clients[node_id]: _introduction(client))
        reached = self._introductions.settle(self._clients)
        return {who: self._introductions.clients[who].num_examples for who in reached.values()}

    def ready(self, arrays: Arrays) -> Arrays:
        return read_only({name: array.view() for name, array in arrays.items()})

    def ask(self, action: str, orders: Mapping[int, tuple[Arrays, Order]]) -> Iterator[Reply]:
        """Have each client do what it is asked for when its turn comes; iterate over the replies, see `Wire`.

        The messages of a step are answered by all clients together.
        """
        first = self._clients[next(iter(orders))] if orders else None
        if action == STEP and isinstance(first, Together):
            started = time.perf_counter()
            for partition_id, answer in first.answer_together(orders).items():
                yield _reply(partition_id, answer, orders[partition_id][0], started=started)
            return
        for partition_id, (arrays, order) in orders.items():
            reply = [self._answer(partition_id, action, arrays, order)]
            yield reply.pop()  # and no reference is left here

    def _answer(self, partition_id: int, action: str, arrays: Arrays, order: Order) -> Reply:
        """Reply of a client; whatever goes wrong costs this reply only."""
        started = time.perf_counter()
        try:
            return _reply(
                partition_id, self._clients[partition_id].answer(action, arrays, order), arrays, started=started
            )
        except Exception as error:
            return _reply(partition_id, error, arrays, started=started)


def _reply(partition_id: int, answer: tuple[Arrays, Facts] | Exception, sent: Arrays, *, started: float) -> Reply:
    """Reply of an answer, or of what went wrong.

    Args:
        sent: arrays that it answers.
        started: `time.perf_counter` when the client was asked.
    """
    if isinstance(answer, Exception):
        return Reply(partition_id, error=one_line(answer) or type(answer).__name__)
    trained, facts = answer
    # A copy, because the client's arrays change with the next training in this process.
    copies = read_only({name: np.array(array, order="C") for name, array in trained.items()})
    sizes = (npy_bytes(copies), npy_bytes(sent))
    return Reply(partition_id, copies, dict(facts), "", *sizes, seconds=time.perf_counter() - started)


def _introduction(client: LocalClient) -> Facts:
    try:
        return client.introduce()
    except Exception as error:
        raise ValueError(one_line(error)) from error


def read_only(arrays: Arrays) -> Arrays:
    """The same arrays, made read-only."""
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def npy_bytes(arrays: Arrays) -> int:
    """Size as .npy files, the form in which Flower's messages hold arrays."""
    return sum(len(npy_header(array)) + array.nbytes for array in arrays.values())
