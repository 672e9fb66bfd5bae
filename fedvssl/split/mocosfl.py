"""MocoSFL: split self-supervised learning with one queue for all clients (Li et al., ICLR 2023).

A round is an epoch of many steps. In each the clients of its pool send latents, the server puts them into one batch,
makes a step and sends gradients back; several times in a round the clients' parts are averaged.
Shapes: B rows of all clients of a step, b of one client, C c h w of a latent.
"""

import json
import math
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from fedvssl.building import build_optimizer, build_sample, build_task
from fedvssl.files.arrays import BACKBONE, Arrays
from fedvssl.files.round_records import RoundReport
from fedvssl.split.coding import WIRE_DTYPES
from fedvssl.split.cut import Front, averages_followers, check_task
from fedvssl.split.epoch import Epoch
from fedvssl.split.messages import FOLLOWER
from fedvssl.split.server import BuildOptimizer, Server
from fedvssl.split.settings import check_settings
from fedvssl.split.stepping import DTYPES
from fedvssl.split.talk import Talk
from fedvssl.strategy.fedavg import FedAvg
from fedvssl.training.loop import seed_torch
from fedvssl.training.precision import choose_device
from fedvssl.wire.wire import FederationError, Order, Wire

MESSAGE_SECONDS = 1.0  # least time of a message and its answer over a network: a node starts a process for each


class MocoSFL(FedAvg):
    """Server of split learning.

    Args:
        cut: name of the clients' last stage.
        syncs_per_round: times that the clients' parts are averaged in a round, the last time at its end.
        average_momentum: average the networks that follow the clients' too (MonAcoSFL); None: if the cut is deep.
        frozen: the clients do not train: no gradient goes to them, and their parts are never averaged.
        steps_per_message: steps whose latents one message asks for; more than one for frozen clients alone, 0 for all.
        wire_dtype: of latents and gradients, see split/coding.py.
        device: of the server.
        fedavg: arguments of `FedAvg`.

    Raises:
        ValueError: if an argument is out of range.

    Attributes:
        least_clients: fewest clients of a round.
        wants_views: the clients' views are needed too, which no client of a federation sends.
        latent_shape: of one sample, [C,(t,)h,w], as the cut makes it; from `begin` on.
    """

    least_clients, wants_views = 2, False

    def __init__(
        self,
        *,
        cut: str,
        syncs_per_round: int,
        average_momentum: bool | None,
        frozen: bool,
        steps_per_message: int,
        wire_dtype: str,
        device: str,
        **fedavg: Any,
    ) -> None:
        super().__init__(**fedavg)
        if wire_dtype not in WIRE_DTYPES:
            raise ValueError(f"strategy.wire_dtype={wire_dtype} is unknown: choose {', '.join(WIRE_DTYPES)}.")
        if steps_per_message != 1 and not frozen:
            raise ValueError(
                f"strategy.steps_per_message={steps_per_message} is for frozen clients: others need the gradient of "
                "each step before the next one. Set it to 1."
            )
        self.cut, self.syncs_per_round, self.average_momentum = cut, syncs_per_round, average_momentum
        self.frozen, self.steps_per_message, self.wire_dtype = frozen, steps_per_message, wire_dtype
        self.device = choose_device(device)

    def begin(self, settings: str) -> None:
        """Build the server's part of the network.

        Raises:
            ValueError: if task, model or settings are not for split learning.
        """
        config = json.loads(settings)
        training = config["training"]
        check_settings(training, pool=self.rounds.sample_size, least=self.least_clients)
        self.size = training["batch_size"] // self.rounds.sample_size
        self.dtype = DTYPES[training["precision"]]
        seed_torch((config["seed"],))
        task = build_task(config)
        check_task(task)
        task.check_rows(self.size * (1 if len(task.queues) else self.rounds.sample_size))
        if len(task.queues) not in (0, self.rounds.num_clients):
            raise ValueError(
                f"task.module.private_queues={len(task.queues)} must be 0, one queue for all, or pool_size="
                f"{self.rounds.num_clients}, one for each client."
            )
        if not hasattr(task.views, "view_shape"):
            raise ValueError(f"{type(task.views).__name__} does not tell the shape of its views: give it `view_shape`.")
        self.latent_shape = Front(task, self.cut).latent_shape(task.views.view_shape(build_sample(config)))
        built = partial(build_optimizer, training, on_gpu=self.device == "cuda")
        self.build_half(task, built, seed=config["seed"])

    def build_half(self, task: Any, build_optimizer: BuildOptimizer, *, seed: int) -> None:
        """Build the server's half of a task.

        Args:
            task: whole, with initial weights.
            build_optimizer: of a module.
            seed: of the run.
        """
        front = Front(task, self.cut)
        self.averages_followers = averages_followers(self.average_momentum, front)
        self._names = [name for name in front.state_dict() if name.startswith((BACKBONE, FOLLOWER))]
        self.server = Server(task.to(self.device, self.dtype), self.cut, build_optimizer)

    def check_network(self, examples: Mapping[int, int], *, rounds: int) -> None:
        """Refuse all but frozen clients that send the latents of a round in one message.

        Raises:
            ValueError: with the hours that the messages of these clients would take.
        """
        if self.frozen and self.steps_per_message == 0:
            return
        steps = self.num_steps(examples)
        averages = 0 if self.frozen else len(self.syncs(steps))
        messages = math.ceil(steps / self.steps_per_message) + averages
        hours = rounds * messages * MESSAGE_SECONDS / 3600
        frozen = "strategy.steps_per_message=0" if self.frozen else "strategy.frozen=true strategy.steps_per_message=0"
        raise ValueError(
            f"Over a network {rounds} rounds of {steps} steps are {rounds * messages:,} messages, one after the other, "
            f"at least {hours:,.{0 if hours >= 10 else 2}f} hours at a second each: set {frozen}, for clients that "
            "do not train and one message a round, or train in one process with engine=local."
        )

    def num_steps(self, examples: Mapping[int, int]) -> int:
        """Steps of a round of these clients, from their numbers of samples by partition id: one pass on average."""
        return max(1, sum(examples.values()) // (len(examples) * self.size))

    def syncs(self, num_steps: int) -> set[int]:
        """Numbers of steps after which the clients' parts are averaged, the last one included."""
        return {round((number + 1) * num_steps / self.syncs_per_round) for number in range(self.syncs_per_round)}

    def gradient_for(
        self, gradient: Tensor, query: Tensor, views: Tensor, *, clients: int, server_round: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What the clients get in the place of the loss's gradient, and scalars: for a strategy with `wants_views`."""
        raise NotImplementedError

    def restore(self, state: Arrays, shared: Arrays) -> None:
        """Take the server's part of the shared arrays, and all that only the server has."""
        own = self.server.task.state_dict().keys()
        self.server.load({name: array for name, array in shared.items() if name in own} | state)
        self.followers = {name: state.get(name, shared[_followed(name)]) for name in self._names if _follows(name)}

    def state(self) -> Arrays:
        """The server's following network, queue and optimizer; and the mean of the clients' following networks."""
        mean = self.followers if self.averages_followers else {}
        return {name: array for name, array in self.server.arrays().items() if not self.is_shared(name)} | mean

    def round(self, wire: Wire, server_round: int, shared: Arrays, order: Order) -> tuple[Arrays, RoundReport]:
        """One epoch.

        Raises:
            FederationError: if too few clients can be reached or send valid latents, or the training diverges.
        """
        started = time.perf_counter()
        examples = self.rounds.reach(wire)
        chosen = self.rounds.choose(examples, server_round)
        weights = {name: shared[name] for name in self._names if not _follows(name)}
        weights |= self.followers if self.averages_followers else {}
        epoch = Epoch(self, wire, {**order, "server-round": server_round})
        epoch.talks = {own: Talk(own, examples[own], weights) for own in chosen}
        num_steps = self.num_steps({own: examples[own] for own in chosen})
        try:
            merged = epoch.run(num_steps, weights)
        except ValueError as error:
            raise FederationError(f"Round {server_round}: {error}") from error
        report = epoch.report(server_round, started)
        self.rounds.kept_rounds |= dict.fromkeys(report.clients, server_round) if not self.frozen else {}
        if self.averages_followers:
            self.followers = {name: merged[name] for name in self.followers}
        own = {name: array for name, array in self.server.arrays().items() if self.is_shared(name)}
        parts = own | merged
        return {name: parts[name] for name in shared}, report


def _follows(name: str) -> bool:
    return name.startswith(FOLLOWER)


def _followed(name: str) -> str:
    return BACKBONE + name.removeprefix(FOLLOWER)
