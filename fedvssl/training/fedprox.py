"""FedProx (Li et al., arXiv 1812.06127) as an optimizer: SGD that is drawn back to the weights it started from.

A client makes a new optimizer in each round, so these are the weights that the server sent, and of a head that stays
with its client those that it had kept. The gradient of mu / 2 * ||w - w_start||**2 is added after clipping.
"""

from collections.abc import Iterable
from typing import Any

import torch


class FedProx(torch.optim.SGD):
    """SGD with a proximal term.

    Args:
        params: parameters, or groups of them.
        mu: weight of the term, at least 0; a group may have its own.
        lr, momentum, weight_decay: as of torch.optim.SGD.

    Raises:
        ValueError: if mu is no number or below 0.
    """

    def __init__(
        self, params: Iterable[Any], *, mu: float, lr: float, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        if isinstance(mu, bool) or not isinstance(mu, int | float) or not mu >= 0:
            raise ValueError(f"training.optimizer: mu={mu} must be a number, at least 0.")
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.defaults["mu"] = mu
        for group in self.param_groups:
            group.setdefault("mu", mu)
        self._start: dict[torch.Tensor, torch.Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Add the proximal term to the gradients, then make a step of SGD."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter not in self._start:
                    self._start[parameter] = parameter.clone()
                elif parameter.grad is not None:
                    parameter.grad.add_(parameter - self._start[parameter], alpha=group["mu"])
        return super().step(closure)
