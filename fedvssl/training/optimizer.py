"""Parameter groups of an optimizer by the names of parameters, and its state as named arrays.

The optimizer is a class of torch.optim, or one that behaves like it, named by `_target_` under `training.optimizer`;
`building.build_optimizer` makes it.
"""

import inspect
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from fedvssl.files.arrays import Arrays

PREFIX = "optimizer/"  # the state is optimizer/<parameter>/<entry>
STEPS = PREFIX + "steps"  # number of steps done


def parameter_groups(
    module: nn.Module, patterns: Mapping[str, Mapping[str, Any]], *, decay_norm_and_bias: bool
) -> list[dict[str, Any]]:
    """Sort the parameters of a module into groups for an optimizer.

    Args:
        module: each of its parameters gets into one group, in their own order.
        patterns: shell pattern of names, such as `head.*`, -> settings of the group; the first that matches counts.
        decay_norm_and_bias: False exempts parameters of one dimension (normalisation, biases) from weight decay, unless
            their pattern has a weight_decay of its own.

    Raises:
        ValueError: if a pattern matches no parameter, or none that an earlier one leaves.
    """
    groups: dict[tuple[str | None, bool], dict[str, Any]] = {}
    for name, parameter in module.named_parameters():
        pattern = next((pattern for pattern in patterns if fnmatchcase(name, pattern)), None)
        settings = {} if pattern is None else dict(patterns[pattern])
        is_exempt = parameter.ndim <= 1 and not decay_norm_and_bias
        if is_exempt:
            settings.setdefault("weight_decay", 0.0)
        groups.setdefault((pattern, is_exempt), {"params": [], **settings})["params"].append(parameter)
    if unused := [pattern for pattern in patterns if all(pattern != matched for matched, _ in groups)]:
        first, *_, last = (name for name, _ in module.named_parameters())
        raise ValueError(
            f"training.optimizer.param_groups: no parameter is left for '{unused[0]}'; their names go from "
            f"'{first}' to '{last}'."
        )
    return list(groups.values())


def check_optimizer(optimizer: Optimizer) -> None:
    """Reject an optimizer that would ignore a setting of a group, or cannot make a step from gradients alone.

    Raises:
        ValueError: naming the setting or the class.
    """
    known = {"params", "initial_lr", *optimizer.defaults}
    if unknown := {name for group in optimizer.param_groups for name in group} - known:
        raise ValueError(
            f"training.optimizer.param_groups: {type(optimizer).__name__} has no setting '{min(unknown)}'; it has "
            f"{', '.join(sorted(optimizer.defaults))}."
        )
    for name, default in optimizer.defaults.items():
        for value in (group[name] for group in optimizer.param_groups):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if type(default) in (int, float) and not (is_number and (value >= 0 or default < 0)):
                least = "" if default < 0 else ", at least 0"
                raise ValueError(f"training.optimizer: {name}={value} must be a number{least}.")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(f"training.optimizer: {type(optimizer).__name__} computes losses itself: take another one.")


def state_arrays(optimizer: Any, module: nn.Module, *, steps: int) -> Arrays:
    """State of an optimizer after some steps, named `optimizer/<parameter>/<entry>`, and their number.

    Raises:
        ValueError: if an entry is no tensor.
    """
    arrays = {STEPS: np.array(steps)}
    for name, parameter in module.named_parameters():
        for entry, value in optimizer.state.get(parameter, {}).items():
            if not torch.is_tensor(value):
                raise ValueError(
                    f"training.keep_optimizer=true: {entry} of {type(optimizer).__name__} is no tensor and cannot be "
                    "kept: take another optimizer, or set it to false."
                )
            arrays[f"{PREFIX}{name}/{entry}"] = value.detach().cpu().numpy()
    return arrays


def load_state(optimizer: Any, module: nn.Module, arrays: Arrays) -> int:
    """Load what `state_arrays` has returned, and return the number of steps; 0 and a fresh optimizer without any."""
    if STEPS not in arrays:
        return 0
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    state: dict[int, dict[str, torch.Tensor]] = {}
    for index, parameter in enumerate(weight for group in optimizer.param_groups for weight in group["params"]):
        start = f"{PREFIX}{names[id(parameter)]}/"
        own = {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
        if own:
            state[index] = {entry: torch.from_numpy(np.array(array)) for entry, array in own.items()}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(arrays[STEPS])


def state_bytes(optimizer: Optimizer, module: nn.Module) -> int:
    """Bytes of the state after a step. The weights move, so give a module that nobody needs."""
    for parameter in filter(lambda parameter: parameter.requires_grad, module.parameters()):
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return sum(array.nbytes for array in state_arrays(optimizer, module, steps=1).values())
