"""A convex federation: linear regression by clients whose data do not agree, over the local wire."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fedvssl.building import build, build_optimizer
from fedvssl.config import Config, compose
from fedvssl.files.arrays import Arrays
from fedvssl.files.tensors import load_arrays_into, to_arrays
from fedvssl.strategy.rule import When
from fedvssl.wire.introductions import Introductions
from fedvssl.wire.local import LocalWire
from fedvssl.wire.wire import Facts, Order
from tests.federation import strategy_of

NUM_INPUTS, LINE = 4, "line"


class Line(nn.Module):
    """Linear regression on normalised inputs; nothing but the last layer is trained, so its loss is convex.

    The names are those of a backbone, which most strategies share.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"bn": nn.BatchNorm1d(NUM_INPUTS, affine=False), LINE: nn.Linear(NUM_INPUTS, 1)})
        for weight in self.parameters():
            nn.init.zeros_(weight)

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean square error of inputs [B,4] and targets [B]."""
        return (self.backbone[LINE](self.backbone["bn"](inputs))[:, 0] - targets).square().mean()


class Client:
    """Trains on all its data in each step; it is a `LocalClient`.

    Args:
        partition_id: seeds its data. The inputs of client k have their own mean and spread, and the line that fits its
            targets differs a little from those of the others.
        config: of the run.
        steps: in a round.
        enlarges: factor of the change that it sends; a negative one leads away from the minimum.
    """

    def __init__(self, partition_id: int, config: Config, *, steps: int = 4, enlarges: float = 1.0) -> None:
        rng = np.random.default_rng(partition_id)
        inputs = rng.normal(size=(24 + 8 * partition_id, NUM_INPUTS))
        line = np.array([1.0, -2.0, 0.5, 1.5]) + 0.3 * rng.normal(size=NUM_INPUTS)
        targets = inputs @ line + 1
        inputs = inputs * (1 + partition_id) + 3 * partition_id
        self.data = torch.tensor(inputs, dtype=torch.float32), torch.tensor(targets, dtype=torch.float32)
        self.partition_id, self.config, self.steps, self.enlarges = partition_id, config, steps, enlarges
        self.task, self.rule = Line(), build(config["strategy"]["rule"])
        self.initial = {name: array.copy() for name, array in to_arrays(self.task).items()}
        self.kept: Arrays = {}

    def introduce(self) -> Facts:
        return {"partition-id": self.partition_id, "num-examples": len(self.data[1])}

    def answer(self, action: str, arrays: Arrays, order: Order) -> tuple[Arrays, Facts]:
        state = self.receive(arrays, When(int(order["server-round"]), int(order["kept-round"])))
        optimizer = build_optimizer(self.config["training"], self.task, on_gpu=False)
        losses = []
        for _ in range(self.steps):
            optimizer.zero_grad()
            loss = self.task.loss(*self.data)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        trained = to_arrays(self.task)
        self.kept = {n: np.array(a) for n, a in self.rule.keep(self.kept, state, trained, arrays.keys()).items()}
        away = {name: array + self.enlarges * (trained[name] - array) for name, array in arrays.items() if LINE in name}
        facts = {"loss": float(np.mean(losses)), "num-examples": len(self.data[1])}
        return {name: trained[name] for name in arrays} | (away if self.enlarges != 1 else {}), facts

    def receive(self, arrays: Arrays, when: When) -> Arrays:
        """State to train from, loaded into the task."""
        own = {name: array for name, array in self.initial.items() if name not in arrays}
        state = self.rule.receive(arrays, self.kept, own, when)
        load_arrays_into(self.task.train(), state)
        return {name: array.copy() for name, array in state.items()}


def train(clients: Sequence[Client], *, rounds: int) -> tuple[list[float], Arrays]:
    """Train the clients by the strategy of their configuration.

    Returns:
        the loss before each round and at the end, and the shared arrays at the end.
    """
    config = clients[0].config
    strategy = strategy_of(config)
    shared = {name: array for name, array in to_arrays(Line()).items() if strategy.is_shared(name)}
    wire = LocalWire({client.partition_id: client for client in clients}, Introductions(len(clients)))
    strategy.restore({}, shared)
    losses = [loss_of(clients, shared)]
    for server_round in range(1, rounds + 1):
        shared, report = strategy.round(wire, server_round, wire.ready(shared), {})
        assert len(report.clients) == len(clients), report.failures
        losses.append(loss_of(clients, shared))
    return losses, shared


def loss_of(clients: Sequence[Client], shared: Arrays) -> float:
    """Mean loss of these arrays over the honest clients, each with the statistics of its own data."""
    task = Line()
    load_arrays_into(task, shared)
    with torch.no_grad():
        return float(np.mean([float(task.loss(*client.data)) for client in clients if client.enlarges == 1]))


def federation(*words: str, num_clients: int = 3, **behaviour: int) -> list[Client]:
    """Clients that all train in each round, with plain SGD but for what the words of the configuration say."""
    sizes = (f"pool_size={num_clients}", f"strategy.min_fit_clients={num_clients}")
    config = compose("base", [*sizes, "training.lr=0.2", "training.momentum=0", "training.weight_decay=0", *words])
    return [Client(number, config, **behaviour) for number in range(num_clients)]
