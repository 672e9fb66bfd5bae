"""The server's part of a step of split learning, as torch objects: latents arrive, a loss is made, gradients go back.

Order of operations: MocoSFL (Li et al., ICLR 2023), see docs/systems/mocosfl.md.
Shapes: B rows of all clients of a step, C c h w of a latent.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedvssl.files.arrays import Arrays
from fedvssl.files.tensors import load_arrays_into, to_arrays
from fedvssl.split.cut import keep_rest
from fedvssl.split.optimizer import fresh_state
from fedvssl.training.optimizer import PREFIX, load_state, state_arrays
from fedvssl.training.schedule import scale_lr

BuildOptimizer = Callable[[Any], torch.optim.Optimizer]


class Server:
    """The rest of a network, its follower, its queue and its optimizer.

    Args:
        task: whole, see `fedvssl.tasks.split_moco.SplitMoCo`; only the part behind the cut is kept.
        at: name of the clients' last stage.
        build_optimizer: of a module.

    Raises:
        ValueError: if the task cannot be split there.
    """

    def __init__(self, task: Any, at: str, build_optimizer: BuildOptimizer) -> None:
        keep_rest(task, at)
        self.task = task.train()
        self.optimizer = build_optimizer(task)
        self._load_optimizer(fresh_state(build_optimizer, task))
        self.steps = 0

    def step(
        self, query: Tensor, key: Tensor, rows: Any = None, *, lr_factor: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Make one step on the latents of all clients.

        Args:
            query, key: float [B,C,(t,)h,w]: of the trained networks, and of those that follow them.
            rows: queues of the rows, see `SplitMoCo.on_latents`.
            lr_factor: of the configured learning rates.

        Returns:
            The gradient of the query latents [B,C,(t,)h,w], and the scalars of the step.

        Raises:
            ValueError: if the loss is not finite.
        """
        query = query.detach().requires_grad_()
        scale_lr(self.optimizer, lr_factor)
        self.task.start_step()
        scalars = self.task.on_latents(query, key.detach(), rows)
        if not torch.isfinite(scalars["loss"]):
            raise ValueError("The training diverged, the loss is not finite any more: lower training.lr.")
        self.optimizer.zero_grad()
        scalars["loss"].backward()
        self.optimizer.step()
        self.task.after_step()
        self.steps += 1
        assert query.grad is not None, "the first direction's loss depends on the query latents"
        return query.grad, {name: value.detach() for name, value in scalars.items()}

    def arrays(self) -> Arrays:
        """Copies of the whole state: parameters and buffers by the names of the task, and the optimizer's."""
        state = to_arrays(self.task) | state_arrays(self.optimizer, self.task, steps=self.steps)
        return {name: np.array(array) for name, array in state.items()}

    def load(self, arrays: Arrays) -> None:
        """Load what `arrays` gave, or a part of it."""
        own = self.task.state_dict().keys()
        load_arrays_into(self.task, {name: array for name, array in arrays.items() if name in own})
        self._load_optimizer({name: array for name, array in arrays.items() if name.startswith(PREFIX)})

    def _load_optimizer(self, arrays: Arrays) -> None:
        if arrays:
            self.steps = load_state(self.optimizer, self.task, arrays)
