"""Divergence of a client: how far its backbone has moved in a local training.

FedU (Zhuang et al., arXiv 2108.06492) and FedEMA (arXiv 2204.04385) measure it.
"""

from collections.abc import Collection, Sequence

import numpy as np

from fedvssl.files.arrays import Arrays
from fedvssl.strategy.patterns import fits

CONVOLUTION = 4  # least number of dimensions of its weight: [out, in, (kt,) kh, kw]


def convolutions(state: Arrays, layers: Sequence[str]) -> list[str]:
    """Names of the weights of convolutions among `layers`, patterns of names."""
    return [name for name, array in state.items() if array.ndim >= CONVOLUTION and fits(name, layers)]


def divergence(start: Arrays, state: Arrays, layers: Sequence[str]) -> float:
    """Mean over convolutions of the L2 norm of a weight's change, computed in float64.

    Args:
        start: arrays before training.
        state: the same after it.
        layers: patterns of names of the convolutions that count.
    """
    moved = [state[name].astype(np.float64) - start[name] for name in convolutions(state, layers)]
    return float(np.mean([np.linalg.norm(change) for change in moved]))


def check_layers(state: Arrays, shared: Collection[str], *, layers: Sequence[str], personal: Sequence[str]) -> None:
    """Check the patterns of a rule that measures the divergence.

    Args:
        state, shared: as for `Rule.check`.
        layers: for `divergence`.
        personal: what a client may have in its own version, of the arrays that travel.

    Raises:
        ValueError: if one of them fits nothing.
    """
    if not any(fits(name, personal) for name in shared):
        raise ValueError(
            f"strategy.rule.personal={list(personal)} fits no array that travels: set task.personal to the names of "
            "the head, such as [head.*], and see strategy.share."
        )
    for pattern in layers:
        if not convolutions(state, [pattern.removeprefix("!")]):
            raise ValueError(f"strategy.rule.layers: '{pattern}' fits no convolution of the task.")
    if not convolutions(state, layers):
        raise ValueError(f"strategy.rule.layers={list(layers)} fits no convolution of the task.")
