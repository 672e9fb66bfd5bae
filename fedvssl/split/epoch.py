"""The steps of one round of split learning, as the server makes them over a wire.

A client that does not answer is left out of the step, and the gradient that it is owed goes with its next message.
Shapes: B rows of all clients of a step, b of one client, C c h w of a latent.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedvssl.files.arrays import Arrays
from fedvssl.files.round_records import RoundReport
from fedvssl.split.coding import decode, encode
from fedvssl.split.messages import FOLLOWER, GRADIENT, KEY, QUERY, VIEWS
from fedvssl.split.talk import Talk, check_latents
from fedvssl.strategy.rounds import client_name
from fedvssl.wire.replies import reason
from fedvssl.wire.wire import STEP, Order, Reply, Wire

log = logging.getLogger(__name__)


class Epoch:
    """The steps of one round.

    Args:
        strategy: whose round it is.
        wire: reaches the clients.
        order: settings of the round for every client.
    """

    def __init__(self, strategy: Any, wire: Wire, order: Order) -> None:
        self.strategy, self.wire, self.order = strategy, wire, order
        self.server_round = int(order["server-round"])
        self.talks: dict[int, Talk] = {}
        self.waited, self.sums = 0.0, defaultdict[str, float](float)
        self.dtype = str(strategy.dtype).removeprefix("torch.")

    def run(self, num_steps: int, weights: Arrays) -> Arrays:
        """Make all steps; returns the clients' part after them."""
        strategy, self.num_steps = self.strategy, num_steps
        strategy.server.task.start_round()
        at_once = strategy.steps_per_message or num_steps
        syncs = strategy.syncs(num_steps)
        for start in range(0, num_steps, at_once):
            latents = self._latents(start, num_steps=min(at_once, num_steps - start))
            for number in range(min(at_once, num_steps - start)):
                self._step(latents, number)
            if not strategy.frozen and start + 1 in syncs:
                weights = self._synchronise(weights, is_last=start + 1 == num_steps)
        for talk in self.talks.values() if strategy.frozen else ():
            talk.finished = talk.steps > 0
        return weights

    def _step(self, latents: Mapping[int, list[np.ndarray]], number: int) -> None:
        """Make one step of the server, and put the clients' gradients into their next messages."""
        strategy, size = self.strategy, self.strategy.size
        rows = slice(number * size, (number + 1) * size)
        query, key, *views = (
            torch.from_numpy(np.concatenate([array[rows] for array in sides])).to(strategy.device)
            for sides in zip(*latents.values(), strict=True)
        )
        queues = [(own, slice(place * size, (place + 1) * size)) for place, own in enumerate(latents)]
        lr_factor = float(self.order["lr-factor"])
        gradient, scalars = strategy.server.step(query, key, queues, lr_factor=lr_factor)
        for own in views:
            limits = {"clients": len(latents), "server_round": self.server_round}
            gradient, told = strategy.gradient_for(gradient, query, own, **limits)
            scalars |= told
        self._add(scalars)
        parts = [] if strategy.frozen else gradient.cpu().numpy().reshape(len(latents), size, *gradient.shape[1:])
        for own, part in zip(latents, parts, strict=not strategy.frozen):
            self.talks[own].gradient = encode(GRADIENT, part, strategy.wire_dtype)

    def _add(self, scalars: Mapping[str, Tensor]) -> None:
        task = self.strategy.server.task
        with torch.no_grad():
            told = {**scalars, "trivial_chance": task.trivial({"view1": scalars["loss"]})["chance"], **task.health()}
        for name, value in told.items():
            self.sums[name] += float(value)

    def _latents(self, step: int, *, num_steps: int) -> dict[int, list[np.ndarray]]:
        """Valid latents of the clients of the pool for these steps, by partition id, ascending."""
        strategy, found = self.strategy, {}
        for reply in self._ask(step, num_steps=num_steps, keep=False):
            talk = self.talks[reply.partition_id]
            try:
                found[reply.partition_id] = self._read(reply, rows=num_steps * strategy.size)
            except Exception as error:
                self._fail(talk, reply, reason(error), num_steps)
            else:
                talk.count(reply)
                talk.steps += num_steps
        if len(found) < strategy.rounds.min_fit_clients:
            failures = {own: talk.failure for own, talk in self.talks.items() if talk.failure and own not in found}
            strategy.rounds.check_number(self.server_round, len(found), dict(sorted(failures.items())))
        return {own: found[own] for own in sorted(found)}

    def _read(self, reply: Reply, *, rows: int) -> list[np.ndarray]:
        """Latents of both views, and the views where they are wanted, of [rows,...] each."""
        if reply.error:
            raise ValueError(reply.error)
        coding = {"dtype": self.dtype, "wire_dtype": self.strategy.wire_dtype}
        arrays = {name: decode(name, reply.arrays, **coding) for name in (QUERY, KEY)}
        check_latents(arrays, rows=rows, shape=self.strategy.latent_shape)
        views = (
            [decode(VIEWS, reply.arrays, dtype=self.dtype, wire_dtype="float32")] if self.strategy.wants_views else []
        )
        return [arrays[QUERY], arrays[KEY], *views]

    def _fail(self, talk: Talk, reply: Reply, why: str, num_steps: int) -> None:
        """Leave a client out of the steps that it did not answer; its log line comes once a round."""
        talk.tally(reply)
        talk.missed += num_steps
        if not talk.failure:
            log.warning("round %d: %s misses a step: %s", self.server_round, client_name(talk.partition_id), why)
        talk.failure = why

    def _synchronise(self, before: Arrays, *, is_last: bool) -> Arrays:
        """Average the clients' parts, and put the mean into the next message of all."""
        found: dict[int, Arrays] = {}
        for reply in self._ask(0, num_steps=0, keep=is_last):
            talk = self.talks[reply.partition_id]
            try:
                found[reply.partition_id] = _checked(reply, before)
                talk.count(reply)
                talk.finished = is_last
            except Exception as error:
                self._fail(talk, reply, reason(error), 0)
        if not found:
            raise ValueError("no client has sent its weights.")
        mean = {name: _mean([arrays[name] for arrays in found.values()]) for name in before}
        for own, talk in self.talks.items():
            if own in found:
                away = [
                    np.linalg.norm((found[own][n] - mean[n]).astype(np.float64))
                    for n in mean
                    if not n.startswith(FOLLOWER)
                ]
                talk.divergence = float(sum(away))
            talk.weights = mean
        return mean

    def _ask(self, step: int, *, num_steps: int, keep: bool) -> list[Reply]:
        """Ask every client of the pool; all replies, silence included."""
        orders: dict[int, tuple[Arrays, Order]] = {}
        for own, talk in self.talks.items():
            arrays, message = talk.ask(step=step, num_steps=num_steps, size=self.strategy.size, keep=keep)
            kept_round = self.strategy.rounds.kept_rounds.get(own, 0)
            orders[own] = (arrays, {**self.order, **message, "kept-round": kept_round})
        started = time.perf_counter()
        replies = list(self.wire.ask(STEP, orders))
        self.waited += time.perf_counter() - started
        return replies

    def report(self, server_round: int, started: float) -> RoundReport:
        """Facts of the round; raises if too few clients have finished it."""
        failures = {own: talk.failure for own, talk in sorted(self.talks.items()) if not talk.finished}
        clients = {own: talk for own, talk in sorted(self.talks.items()) if talk.finished}
        if failures or len(clients) < self.strategy.rounds.min_fit_clients:
            self.strategy.rounds.check_number(server_round, len(clients), failures)
        scalars = {name: total / self.num_steps for name, total in self.sums.items()}
        seconds = time.perf_counter() - started
        parts = {"seconds": seconds, "seconds_clients": self.waited, "seconds_aggregate": seconds - self.waited}
        return RoundReport({own: talk.metrics(scalars) for own, talk in clients.items()}, failures, [], parts)


def _checked(reply: Reply, expected: Arrays) -> Arrays:
    """Weights of a client, of the names and shapes that it was sent, all finite."""
    if reply.error:
        raise ValueError(reply.error)
    if reply.arrays.keys() != expected.keys():
        raise ValueError("it sends weights of other names than those of its part")
    for name, array in reply.arrays.items():
        if array.shape != expected[name].shape or array.dtype.kind != expected[name].dtype.kind:
            raise ValueError(f"'{name}' is {array.dtype} {array.shape}, not {expected[name].shape} as it was sent")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"'{name}' has values that are not finite")
    return reply.arrays


def _mean(arrays: list[np.ndarray]) -> np.ndarray:
    """Plain mean of floats; the largest of counters."""
    if arrays[0].dtype.kind != "f":
        return np.max(arrays, axis=0)
    return np.mean(arrays, axis=0, dtype=np.float64).astype(arrays[0].dtype)
