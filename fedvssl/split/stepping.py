"""A client's half of split learning: it answers each message of a round with latents, or with its weights.

A message may bring the gradient of the last latents, then new weights, and asks for the latents of a step or for the
weights. Nothing of a step lives longer than it must: where a client's messages may reach different processes, its state
is a file for each message, and the forward pass of the open step is repeated from (seed, round, step). A message names
the last one that counted, so one that comes twice, or after a lost reply, does no harm.
Shapes: b samples of a step, C c h w of a latent.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedvssl.client.order import Order, Site
from fedvssl.client.state import client_folder, load_kept, save_kept
from fedvssl.data.annotations import Annotation
from fedvssl.data.dataset import SampleDataset, stack
from fedvssl.files.arrays import BACKBONE, Arrays, load_arrays, save_arrays
from fedvssl.split.client import Clients
from fedvssl.split.coding import decode, encode
from fedvssl.split.cut import Front, averages_followers
from fedvssl.split.messages import FOLLOWER, GRADIENT, KEY, OPEN_STEP, QUERY, VIEWS, Message
from fedvssl.strategy.rule import Replace, When
from fedvssl.training.optimizer import PREFIX
from fedvssl.training.precision import choose_device

Answer = tuple[Arrays, dict[str, float]]
DTYPES = {"32-true": torch.float32, "64-true": torch.float64}


class SplitRule(Replace):
    """Client half of split learning.

    Args:
        cut: the client's last stage.
        frozen: clients do not train; no gradient comes to them.
        average_momentum: see `averages_followers`.
        wire_dtype: of latents and gradients, see split/coding.py.
        sends_views: the views themselves are sent too: for the parts of one logical client in the server's own process.
    """

    def __init__(
        self, *, cut: str, frozen: bool, average_momentum: bool | None, wire_dtype: str, sends_views: bool = False
    ) -> None:
        self.sends_views = sends_views
        self.cut, self.frozen, self.average_momentum, self.wire_dtype = cut, frozen, average_momentum, wire_dtype

    def receive(self, arrived: Arrays, kept: Arrays, initial: Arrays, when: When) -> Arrays:
        return {**initial, **kept, **arrived}

    def keep(self, kept: Arrays, start: Arrays, state: Arrays, shared: Collection[str]) -> Arrays:
        """What a client keeps of a task's state: its part of the network that follows."""
        stages = list(dict.fromkeys(name.split(".")[1] for name in state if name.startswith(BACKBONE)))
        own = stages[: stages.index(self.cut) + 1] if self.cut in stages else []
        starts = tuple(f"{FOLLOWER}{stage}." for stage in own)
        return {name: array for name, array in state.items() if name.startswith(starts) and not self.frozen}

    def stepping(
        self, task: Any, sample: Any, build_optimizer: Callable[..., Any], settings: Mapping[str, Any], seed: int
    ) -> "Stepping":
        """What answers the messages, for any number of clients."""
        return Stepping(self, task, sample, build_optimizer, settings, seed)


@dataclass
class Client:
    """What the process knows of a client between two messages.

    Args:
        annotations: its list.
        message: number of the last message whose answer is in the state.
        open_step: step whose latents wait for a gradient; -1 for none.
    """

    annotations: Sequence[Annotation]
    message: int
    open_step: int = -1


@dataclass
class Turn:
    """One message on its way to an answer."""

    order: Order
    message: Message
    arrays: Arrays
    known: Client
    views: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # of each step that it asks for
    reply: Arrays = field(default_factory=dict)


class Stepping:
    """Clients of one run in this process; see `SplitRule` for the first argument, `LocalTraining` for the others."""

    def __init__(
        self,
        rule: SplitRule,
        task: Any,
        sample: Any,
        build_optimizer: Callable[..., Any],
        settings: Mapping[str, Any],
        seed: int,
    ) -> None:
        self.rule, self.task, self.sample, self.seed = rule, task, sample, seed
        self.dtype = DTYPES[settings["precision"]]
        self._build = partial(Clients, momentum=task.key_encoder.momentum, frozen=rule.frozen)
        self._optimizer, self._settings = build_optimizer, settings
        self.clients: Clients | None = None
        self.known: dict[int, Client] = {}

    def answer(
        self,
        orders: Mapping[int, tuple[Arrays, Any]],
        lists: Callable[[int], list[Annotation]],
        site: Site,
        *,
        here: bool,
    ) -> dict[int, Answer | Exception]:
        """Answer a message of each of these clients; one that fails stays as it was.

        Args:
            orders: by partition id.
            lists: gives a client's list.
            site: of these clients.
            here: every message of a client comes to this object, so its state stays in memory.
        """
        device = choose_device(site.device)
        if self.clients is None:
            front = Front(self.task, self.rule.cut).to(device, self.dtype)
            self._starts = (
                (BACKBONE, FOLLOWER) if averages_followers(self.rule.average_momentum, front) else (BACKBONE,)
            )
            self.clients = self._build(front, partial(self._optimizer, on_gpu=device == "cuda"))
        answers: dict[int, Answer | Exception] = {}
        turns: dict[int, Turn] = {}
        for partition_id, (arrays, order) in orders.items():
            try:
                turns[partition_id] = self._begin(partition_id, arrays, order, lists, site, here=here)
            except Exception as error:
                answers[partition_id] = error
        self._take_gradients(turns, site, device=device)
        for partition_id, turn in turns.items():
            self.clients.members[partition_id].load(_weights(turn.arrays))
        self._make_latents(turns)
        for partition_id, turn in turns.items():
            answers[partition_id] = self._end(partition_id, turn, site, here=here)
        return {partition_id: answers[partition_id] for partition_id in orders}

    def _begin(self, partition_id: int, arrays: Arrays, order: Any, lists: Callable, site: Site, *, here: bool) -> Turn:
        """Read a message, its client's state and its samples; all that can fail does it here, before anything moves."""
        assert self.clients is not None, "`answer` has built them"
        if self.rule.sends_views and not here:
            raise ValueError("pictures leave no client: an expert is trained with engine=local, on the server's own")
        read, message = Order.read(order), Message.read(order)
        known = self.known.get(partition_id)
        if message.after < 0:
            known = Client(lists(partition_id), message=-1)
        elif not here:
            known = Client(lists(partition_id), message=message.after)
        elif known is None or known.message != message.after:
            raise ValueError("its last answer did not count, and it has gone on from there: it is out of this round")
        turn = Turn(read, message, arrays, known)
        for step in range(message.step, message.step + message.num_steps):
            turn.views.append(self._views(partition_id, turn, step, site))
        if known is not self.known.get(partition_id):
            self._take_state(partition_id, turn, client_folder(site, partition_id))
        self.known[partition_id] = turn.known
        return turn

    def _take_state(self, partition_id: int, turn: Turn, folder: Path) -> None:
        """Begin a client's round from what it kept, or continue from the file of the last message that counted."""
        assert self.clients is not None
        if turn.message.after < 0:
            kept = load_kept(folder, turn.order.kept_round) if turn.order.kept_round and not self.rule.frozen else {}
            member = self.clients.add(partition_id)
            member.load(_weights(turn.arrays))
            member.restart_follower()
            if self.task.reset_keys:
                kept = {name: array for name, array in kept.items() if not name.startswith(FOLLOWER)}
            member.load(kept)
            return
        state = load_arrays(step_path(folder, turn.message.after))
        if state.pop("round") != turn.order.server_round:
            raise ValueError(f"{step_path(folder, turn.message.after)} is of another round.")
        turn.known.open_step = int(state.pop(OPEN_STEP))
        self.clients.add(partition_id).load(state)

    def _take_gradients(self, turns: Mapping[int, Turn], site: Site, *, device: str) -> None:
        """Make a step of every client whose message brings a gradient."""
        assert self.clients is not None
        found: dict[int, Tensor] = {}
        for partition_id, turn in turns.items():
            if GRADIENT in turn.arrays and turn.known.open_step >= 0:
                coding = {"dtype": str(self.dtype).removeprefix("torch."), "wire_dtype": self.rule.wire_dtype}
                gradient = decode(GRADIENT, turn.arrays, **coding)
                found[partition_id] = torch.from_numpy(np.array(gradient)).to(device)
        if not found:
            return
        lr_factor = next(turns[own].order.lr_factor for own in found)
        live = {own: gradient for own, gradient in found.items() if self.clients.is_open(own)}
        self.clients.backward(live, lr_factor=lr_factor)
        for own in found.keys() - live.keys():
            self.clients.repeat_forward(own, self._views(own, turns[own], turns[own].known.open_step, site)[0])
            self.clients.backward({own: found[own]}, lr_factor=lr_factor)
        for own in found:
            turns[own].known.open_step = -1

    def _make_latents(self, turns: Mapping[int, Turn]) -> None:
        """Compute the latents that the messages ask for, of all clients together, step by step."""
        assert self.clients is not None
        found: dict[int, list[tuple[Tensor, Tensor]]] = {own: [] for own in turns}
        for number in range(max((len(turn.views) for turn in turns.values()), default=0)):
            views = {own: turn.views[number] for own, turn in turns.items() if number < len(turn.views)}
            for own, pair in self.clients.forward(views).items():
                found[own].append(pair)
        for own, pairs in found.items():
            if pairs:
                for side, name in enumerate((QUERY, KEY)):
                    latents = torch.cat([pair[side] for pair in pairs]).cpu().numpy()
                    turns[own].reply |= encode(name, latents, self.rule.wire_dtype)
            if pairs and self.rule.sends_views:
                turns[own].reply[VIEWS] = torch.cat([first for first, _ in turns[own].views]).cpu().numpy()

    def _end(self, partition_id: int, turn: Turn, site: Site, *, here: bool) -> Answer | Exception:
        """Save the client's state where it must be found again; its answer."""
        assert self.clients is not None
        message, known, folder = turn.message, turn.known, client_folder(site, partition_id)
        known.message = message.number
        if turn.views and not self.rule.frozen:
            known.open_step = message.step
        asks_for_state = message.num_steps == 0 or not here
        state = self.clients.members[partition_id].arrays() if asks_for_state else {}
        if message.num_steps == 0:
            turn.reply = {name: array for name, array in state.items() if name.startswith(self._starts)}
        try:
            if message.keep:
                kept = {name: array for name, array in state.items() if not name.startswith(BACKBONE)}
                save_kept(folder, kept, turn.order)
            if not here:
                save_step(folder, message, {**state, OPEN_STEP: np.array(known.open_step)}, turn.order.server_round)
        except OSError as error:
            return error
        return turn.reply, {"num-clips": float(sum(len(pair[0]) for pair in turn.views))}

    def _views(self, partition_id: int, turn: Turn, step: int, site: Site) -> tuple[Tensor, Tensor]:
        """Both views of a client's samples of one step, [b,3,(T,)H,W]: drawn from (seed, round, step) alone."""
        key = (self.seed, turn.order.server_round, partition_id)
        annotations, samples = turn.known.annotations, []
        for passed, index in batch_of(key, step, size=turn.message.size, num_samples=len(annotations)):
            dataset = SampleDataset(Path(site.media_dir), annotations, self.sample, seed_key=(*key, passed))
            samples.append(dataset[index])
        shapes = {tuple((name, tuple(value.shape)) for name, value in sample.items()) for sample in samples}
        if len(shapes) > 1:
            raise ValueError("its samples have different sizes: set task.sample so that all get the same one")
        with torch.no_grad():
            views = self.task.augment({n: v.to(choose_device(site.device)) for n, v in stack(samples).items()})
        return views["view1"].to(self.dtype), views["view2"].to(self.dtype)


def batch_of(key: tuple[int, ...], step: int, *, size: int, num_samples: int) -> list[tuple[int, int]]:
    """Samples of a client's step: (pass, index) each. It goes through its list again and again, shuffled each time.

    Args:
        key: (seed, round, partition id).
        step: of the round, from 0.
        size: b.
    """
    found = []
    for position in range(step * size, (step + 1) * size):
        passed, place = divmod(position, num_samples)
        found.append((passed, _shuffled((*key, passed), num_samples)[place]))
    return found


@lru_cache(maxsize=1024)
def _shuffled(key: tuple[int, ...], num_samples: int) -> list[int]:
    return np.random.default_rng(key).permutation(num_samples).tolist()


def step_path(folder: Path, message: int) -> Path:
    return folder / f"step-{message}.npz"


def save_step(folder: Path, message: Message, state: Arrays, server_round: int) -> None:
    """Save a client's state after a message; the file that it continued from stays, in case the reply gets lost."""
    save_arrays(step_path(folder, message.number), {**state, "round": np.array(server_round)})
    for path in folder.glob("step-*.npz"):
        if path not in (step_path(folder, message.number), step_path(folder, message.after)):
            path.unlink()


def _weights(arrays: Arrays) -> Arrays:
    """Arrays of the client's network, of all that a message brings or a file holds."""
    return {name: array for name, array in arrays.items() if name.startswith((BACKBONE, FOLLOWER, PREFIX))}
