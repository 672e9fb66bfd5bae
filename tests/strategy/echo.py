"""Clients that add to what they get, over a wire that is a list of them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fedvssl.files.arrays import Arrays
from fedvssl.files.round_records import RoundReport
from fedvssl.strategy.bounds import UpdateBound
from fedvssl.strategy.fedavg import FedAvg
from fedvssl.wire.wire import Order, Reply

GLOBAL = {"backbone.w": np.zeros((2, 3), np.float32), "head.n": np.array(0, np.int64)}


def echo(partition_id: int, arrays: Arrays, *, step: int | None = None, **facts: Any) -> Reply:
    """Reply of a client that adds its partition id + 1, or `step`, and has ten times as many videos."""
    step = partition_id + 1 if step is None else step
    added = {name: np.asarray(array + array.dtype.type(step)) for name, array in arrays.items()}
    return Reply(partition_id, added, {"loss": 1.0, "num-examples": 10 * (partition_id + 1), **facts})


class EchoWire:
    """Clients 0 .. num_clients - 1.

    Args:
        reply: (partition id, arrays, order) -> what comes instead of an echo; None for the echo.
    """

    def __init__(
        self, num_clients: int, reply: Callable[[int, Arrays, Order], Reply | None] = lambda *_: None, missing: int = 0
    ) -> None:
        self.left_out = {100: "it is broken"} if missing else {}
        self.orders: list[tuple[int, Order]] = []
        self._reply, self._present = reply, range(num_clients - missing)

    def clients(self) -> dict[int, int]:
        return {number: 10 * (number + 1) for number in self._present}

    def ask(self, action: str, orders: Mapping[int, tuple[Arrays, Order]]) -> Iterator[Reply]:
        for partition_id, (arrays, order) in orders.items():
            self.orders.append((partition_id, order))
            yield self._reply(partition_id, arrays, order) or echo(partition_id, arrays)


def strategy_for(num_clients: int, *, max_factor: float | None = None, **settings: Any) -> FedAvg:
    defaults = {"fraction_fit": 1.0, "min_fit_clients": num_clients, "seed": 7, "share": ["*"]}
    return FedAvg(num_clients=num_clients, bound=UpdateBound(max_factor=max_factor), **{**defaults, **settings})


def run_round(strategy: FedAvg, wire: Any, server_round: int = 1) -> tuple[Arrays, RoundReport]:
    return strategy.round(wire, server_round, GLOBAL, {"lr-factor": 0.5})
