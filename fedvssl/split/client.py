"""The clients' part of a step of split learning, as torch objects: latents of two views go out, a gradient comes back.

Order of operations: MocoSFL (Li et al., ICLR 2023), see docs/systems/mocosfl.md. Clients of one process compute
together: networks with equal weights in one batch, others side by side by torch.func.vmap.
Shapes: N clients, b pictures or clips of each, C c h w of a latent.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.optim.swa_utils import get_ema_multi_avg_fn

from fedvssl.files.arrays import Arrays
from fedvssl.files.tensors import load_arrays_into, to_arrays
from fedvssl.split.cut import Front
from fedvssl.split.optimizer import fresh_state
from fedvssl.training.optimizer import PREFIX, load_state, state_arrays
from fedvssl.training.schedule import scale_lr

Weights = dict[str, Tensor]


class Member:
    """One client's first stages, the copy that follows them, and the optimizer.

    Args:
        front: of a task; copied.
        build_optimizer: of a module.
        fresh: state of a new optimizer, see `fresh_state`.
    """

    def __init__(self, front: Front, build_optimizer: Callable[[Any], torch.optim.Optimizer], fresh: Arrays) -> None:
        self.front = copy.deepcopy(front).train()
        self.optimizer = build_optimizer(self.front)
        self.steps = load_state(self.optimizer, self.front, fresh)

    def step(self, gradients: Sequence[Tensor], *, lr_factor: float) -> None:
        """Make a step of the optimizer with the gradients of the backbone's parameters."""
        for parameter, gradient in zip(self.front.backbone.parameters(), gradients, strict=True):
            parameter.grad = gradient
        scale_lr(self.optimizer, lr_factor)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1

    def arrays(self) -> Arrays:
        """Views on the whole state, by the names of the task, and the optimizer's."""
        return to_arrays(self.front) | state_arrays(self.optimizer, self.front, steps=self.steps)

    def load(self, arrays: Arrays) -> None:
        """Load what `arrays` gave, or a part of it."""
        if not arrays:
            return
        own = self.front.state_dict().keys()
        load_arrays_into(self.front, {name: array for name, array in arrays.items() if name in own})
        if any(name.startswith(PREFIX) for name in arrays):
            self.steps = load_state(self.optimizer, self.front, arrays)

    @torch.no_grad()
    def restart_follower(self) -> None:
        """Set the copy to what it follows."""
        self.front.follower.load_state_dict(self.front.backbone.state_dict())


@dataclass
class _Open:
    """Forward pass that waits for its gradient: the weights that it used, and the latents [N,b,C,(t,)h,w]."""

    ids: list[int]
    weights: Weights
    latents: Tensor


class Clients:
    """Clients of one process, by partition id.

    Args:
        front: initial, of a task that nobody else uses.
        build_optimizer: of a module.
        momentum: share of the followers' weights that is left in each step.
        frozen: no client trains: all have equal weights, and no gradient comes back.
    """

    def __init__(
        self,
        front: Front,
        build_optimizer: Callable[[Any], torch.optim.Optimizer],
        *,
        momentum: float,
        frozen: bool = False,
    ) -> None:
        self._front, self._build_optimizer, self.frozen = front, build_optimizer, frozen
        self._fresh = {} if frozen else fresh_state(build_optimizer, front)
        self._follow = get_ema_multi_avg_fn(momentum)
        self._open: list[_Open] = []
        self.members: dict[int, Member] = {}

    def add(self, partition_id: int) -> Member:
        """Begin a client anew, in the place of an earlier one."""
        member = self.members[partition_id] = Member(self._front, self._build_optimizer, self._fresh)
        return member

    def forward(self, views: Mapping[int, tuple[Tensor, Tensor]]) -> dict[int, tuple[Tensor, Tensor]]:
        """Latents of both views of each client; the followers move first.

        Args:
            views: of each client, float [b,3,(T,)H,W] each.

        Returns:
            Of each client the latents of the first view by the network that trains, and of the second by its follower:
            [b,C,(t,)h,w] each, without gradients.
        """
        ids = list(views)
        firsts, seconds = ([pair[side] for pair in views.values()] for side in (0, 1))
        trained = [self.members[own].front.backbone for own in ids]
        followers = [self.members[own].front.follower for own in ids]
        with torch.no_grad():
            if self.frozen:
                pairs = zip(_as_one(trained, firsts), _as_one(followers, seconds), strict=True)
                return dict(zip(ids, pairs, strict=True))
            self._follow(_parameters(followers), _parameters(trained), 0)
        self._open, queries, keys = [], {}, {}
        for group, weights, latents in _side_by_side(trained, firsts):
            members = [ids[position] for position in group]
            self._open.append(_Open(members, weights, latents))
            queries |= dict(zip(members, latents.detach(), strict=True))
        with torch.no_grad():
            for group, _, latents in _side_by_side(followers, seconds):
                keys |= dict(zip((ids[position] for position in group), latents, strict=True))
        return {own: (queries[own], keys[own]) for own in ids}

    def is_open(self, partition_id: int) -> bool:
        """True if the client's last forward pass waits for its gradient here."""
        return any(partition_id in open_pass.ids for open_pass in self._open)

    def repeat_forward(self, partition_id: int, view: Tensor) -> None:
        """Repeat a client's open forward pass, so that its gradient can come; no statistics move."""
        network = self.members[partition_id].front.backbone
        weights = _stacked([network])
        buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        latents = functional_call(network, {**{n: w[0] for n, w in weights.items()}, **buffers}, (view,))
        self._open = [_Open([partition_id], weights, latents.unsqueeze(0))]

    def backward(self, gradients: Mapping[int, Tensor], *, lr_factor: float) -> None:
        """Make a step of the optimizer of each client that gets a gradient of its query latents [b,C,(t,)h,w]."""
        for open_pass in self._open:
            if not any(own in gradients for own in open_pass.ids):
                continue
            rows = [gradients.get(own) for own in open_pass.ids]
            incoming = torch.stack([torch.zeros_like(open_pass.latents[0]) if row is None else row for row in rows])
            found = torch.autograd.grad(open_pass.latents, list(open_pass.weights.values()), incoming)
            for position, own in enumerate(open_pass.ids):
                if own in gradients:
                    self.members[own].step([gradient[position] for gradient in found], lr_factor=lr_factor)
        self._open = []


def _side_by_side(
    networks: Sequence[nn.Module], inputs: Sequence[Tensor]
) -> Iterator[tuple[list[int], Weights, Tensor]]:
    """Outputs of networks of one kind, each of its own input [b,...], in groups that compute together.

    Together are those whose inputs have one shape; a network with statistics that move computes alone.

    Yields:
        Positions of a group, copies of its parameters as leaves [N,...], and its outputs [N,b,...].
    """
    groups: dict[Any, list[int]] = {}
    for position, (network, own) in enumerate(zip(networks, inputs, strict=True)):
        moves = any(True for _ in network.buffers())
        groups.setdefault(position if moves else tuple(own.shape), []).append(position)
    for group in groups.values():
        first, weights = networks[group[0]], _stacked([networks[position] for position in group])
        if len(group) == 1:
            own = {name: weight[0] for name, weight in weights.items()}
            outputs = functional_call(first, own, (inputs[group[0]],)).unsqueeze(0)
        else:
            x = torch.stack([inputs[position] for position in group])
            outputs = vmap(lambda own, x, network=first: functional_call(network, own, (x,)))(weights, x)
        yield group, weights, outputs


def _stacked(networks: Sequence[nn.Module]) -> Weights:
    """Copies of the parameters of N networks as leaves [N,...]."""
    names = [name for name, _ in networks[0].named_parameters()]
    each = zip(*(list(network.parameters()) for network in networks), strict=True)
    return {n: torch.stack([p.detach() for p in own]).requires_grad_() for n, own in zip(names, each, strict=True)}


def _parameters(networks: Sequence[nn.Module]) -> list[Tensor]:
    return [parameter for network in networks for parameter in network.parameters()]


def _as_one(networks: Sequence[nn.Module], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Outputs of N networks with equal weights, in one batch where the inputs fit together."""
    if len({own.shape[1:] for own in inputs}) > 1:
        return [network(own) for network, own in zip(networks, inputs, strict=True)]
    return list(networks[0](torch.cat(list(inputs))).split([len(own) for own in inputs]))
