"""State of an optimizer before its first step, with the names and shapes that it has after it.

So a saved state has the same entries whenever it is saved.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from fedvssl.files.arrays import Arrays
from fedvssl.training.optimizer import state_arrays


def fresh_state(build_optimizer: Callable[[Any], torch.optim.Optimizer], module: nn.Module) -> Arrays:
    """Zeros where an optimizer of torch.optim puts its sums after a step: they are what it begins from."""
    spare = copy.deepcopy(module)
    optimizer = build_optimizer(spare)
    for parameter in spare.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return {name: np.zeros_like(array) for name, array in state_arrays(optimizer, spare, steps=0).items()}
