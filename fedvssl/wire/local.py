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
        return arrays

    def ask(self, action: str, orders: Mapping[int, tuple[Arrays, Order]]) -> Iterator[Reply]:
        """Have each client do what it is asked for when its turn comes; iterate over the replies, see `Wire`."""
        for partition_id, (arrays, order) in orders.items():
            started = time.perf_counter()
            try:
                trained, facts = self._clients[partition_id].answer(action, arrays, order)
            except Exception as error:
                yield Reply(partition_id, error=one_line(error))
                continue
            yield Reply(
                partition_id,
                copied(trained),  # because the client's arrays change with the next training in this process
                facts,
                bytes_up=npy_bytes(trained),
                bytes_down=npy_bytes(arrays),
                seconds=time.perf_counter() - started,
            )


def _introduction(client: LocalClient) -> Facts:
    try:
        return client.introduce()
    except Exception as error:
        raise ValueError(one_line(error)) from error


def copied(arrays: Arrays) -> Arrays:
    """Read-only copies."""
    copies = {name: np.array(array, order="C") for name, array in arrays.items()}
    for array in copies.values():
        array.flags.writeable = False
    return copies


def npy_bytes(arrays: Arrays) -> int:
    """Size as .npy files, the form in which Flower's messages hold arrays."""
    return sum(len(npy_header(array)) + array.nbytes for array in arrays.values())
