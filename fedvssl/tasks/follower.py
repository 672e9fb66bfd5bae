"""An encoder that follows another one slowly: the target network of BYOL, the key encoder of MoCo.

It stays with its client: its state is `<name>.*` of the task, which is `private`. A rule of the client may send its
arrays in the place of the encoder's, see strategy/fedbyol.py.
"""

import copy
from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from fedvssl.tasks.heads import embed


class Follower(nn.Module):
    """Copy of a backbone and a projector, without gradients.

    BatchNorm's running statistics move by the follower's own forward passes only, and never by following.

    Args:
        backbone, projector: the encoder that is copied and followed.
        momentum: share of the own weights that is left in each step, from 0 to 1.

    Raises:
        ValueError: for another momentum.
    """

    rounds: Tensor

    def __init__(self, backbone: nn.Module, projector: nn.Module, *, momentum: float) -> None:
        super().__init__()
        if not (isinstance(momentum, int | float) and 0 <= momentum <= 1):
            raise ValueError(f"task.module.momentum={momentum} must be a number from 0 to 1.")
        self.backbone, self.projector = copy.deepcopy(backbone), copy.deepcopy(projector)
        self.requires_grad_(False)
        self.register_buffer("rounds", torch.zeros((), dtype=torch.int64))  # in which this client has trained
        self.momentum = momentum

    @torch.no_grad()
    def forward(self, view: Tensor) -> Tensor:
        """[B,3,(T,)H,W] -> [B,E]."""
        return embed(self.backbone, self.projector, view)

    @torch.no_grad()
    def start_round(self, backbone: nn.Module, projector: nn.Module, *, reset: bool) -> None:
        """Copy the encoder that arrived: whole at a client's first contact, else its parameters if `reset`."""
        if self.rounds == 0:
            self.backbone.load_state_dict(backbone.state_dict())
            self.projector.load_state_dict(projector.state_dict())
        elif reset:
            for own, theirs in self._pairs(backbone, projector):
                own.copy_(theirs)
        self.rounds += 1

    @torch.no_grad()
    def follow(self, backbone: nn.Module, projector: nn.Module) -> None:
        """Weights <- momentum * weights + (1 - momentum) * those of the encoder; parameters only."""
        own, theirs = zip(*self._pairs(backbone, projector), strict=True)
        get_ema_multi_avg_fn(self.momentum)(list(own), list(theirs), 0)

    def _pairs(self, backbone: nn.Module, projector: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
        """Parameters of the follower with those that they follow."""
        return zip(self.parameters(), chain(backbone.parameters(), projector.parameters()), strict=True)
