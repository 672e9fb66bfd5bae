"""Split learning in one process without a wire: the objects of the clients and of the server, step by step."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fedvssl.models.split_resnet import Head, SplitResNet
from fedvssl.split.client import Clients
from fedvssl.split.cut import Front
from fedvssl.split.server import Server
from fedvssl.tasks.split_moco import SplitMoCo

SGD = {"momentum": 0.9, "weight_decay": 5e-4}


def sgd(lr: float) -> Any:
    return lambda module: torch.optim.SGD(module.parameters(), lr=lr, **SGD)


def task_of(backbone: Any, *, width: int = 16, **settings: Any) -> SplitMoCo:
    """A task in float64 with a head of this width."""
    own = {"queue_length": 10, "temperature": 0.1, "momentum": 0.99, "symmetric": True, "reset_keys": False}
    head = partial(Head, hidden_channels=width, out_channels=width)
    task = SplitMoCo(backbone, views=lambda batch: batch, projector=head, **{**own, **settings})
    task.queue.double()
    task.start_round()
    return task.double()


def resnet(bottleneck: str | None = "C4S2", after: str = "stem", *, width: int = 64) -> SplitResNet:
    return SplitResNet(width, bottleneck=bottleneck, bottleneck_after=after)


def halves_of(make: Any, at: str, *, lr: float, num_clients: int = 2, **settings: Any) -> tuple[Clients, Server]:
    """Clients and server of a task; `make` builds it with equal weights each time."""
    clients = Clients(Front(make(), at), sgd(lr), momentum=0.99, **settings)
    for number in range(num_clients):
        clients.add(number)
    return clients, Server(make(), at, sgd(lr))


def one_step(
    clients: Clients, server: Server, views: Mapping[int, tuple[Tensor, Tensor]], *, client_factor: float = 1.0
) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
    """A step of all clients and the server: scalars, both latents and the gradient, in the order of the clients."""
    latents = clients.forward(views)
    query, key = (torch.cat([pair[side] for pair in latents.values()]) for side in (0, 1))
    gradient, scalars = server.step(query, key, lr_factor=1.0)
    sizes = [len(pair[0]) for pair in latents.values()]
    clients.backward(dict(zip(latents, gradient.split(sizes), strict=True)), lr_factor=client_factor)
    return scalars, query, key, gradient
