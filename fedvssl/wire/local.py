"""Ask clients that are objects of this process, one after the other, by direct calls: no engine, no messages."""

import time
from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

from fedvssl.files.arrays import Arrays, npy_header
from fedvssl.wire.introductions import Introductions
from fedvssl.wire.replies import one_line
from fedvssl.wire.wire import Facts, Order, Reply


class LocalClient(Protocol):
    """A client in this process. What its methods raise is its failure, and told in one line."""

    def introduce(self) -> Facts: ...

    def answer(self, action: str, arrays: Arrays, order: Order) -> tuple[Arrays, Facts]: ...


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
        """Have each client do what it is asked for when its turn comes; iterate over the replies, see `Wire`."""
        for partition_id, (arrays, order) in orders.items():
            reply = [self._answer(partition_id, action, arrays, order)]
            yield reply.pop()  # and no reference is left here

    def _answer(self, partition_id: int, action: str, arrays: Arrays, order: Order) -> Reply:
        """Reply of a client; whatever goes wrong costs this reply only."""
        started = time.perf_counter()
        try:
            trained, facts = self._clients[partition_id].answer(action, arrays, order)
            # A copy, because the client's arrays change with the next training in this process.
            copies = read_only({name: np.array(array, order="C") for name, array in trained.items()})
            sizes = (npy_bytes(copies), npy_bytes(arrays))
            return Reply(partition_id, copies, dict(facts), "", *sizes, seconds=time.perf_counter() - started)
        except Exception as error:
            return Reply(partition_id, error=one_line(error) or type(error).__name__)


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
