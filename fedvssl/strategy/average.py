"""Weighted mean of named arrays, updated as models come in, and its weights."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fedvssl.files.arrays import Arrays

BLOCK = 1 << 16  # elements computed at a time, so that intermediate results stay in the processor's cache


class RunningMean:
    """Running mean sum_k w_k theta_k / sum_k w_k for every name, of models that are not kept.

    With W the sum of the weights so far, w included:
        m += (theta - m) * w / W
    The mean of equal models is therefore equal to the bit. It keeps the dtypes of the arrays; integer arrays take the
    maximum, see `move`. W is kept as a logarithm: with weights exp(-L), only differences of losses L count, however
    high they are.
    """

    def __init__(self) -> None:
        self._mean: Arrays = {}
        self._log_total = -math.inf

    def add(self, arrays: Mapping[str, np.ndarray], log_weight: float) -> None:
        """Add one model; its arrays are only read and not kept.

        Args:
            arrays: the same names and shapes for each model, in any order.
            log_weight: log w, finite.
        """
        assert math.isfinite(log_weight), log_weight
        self._log_total = float(np.logaddexp(self._log_total, log_weight))
        if self._mean:
            move(self._mean, arrays, share=math.exp(log_weight - self._log_total))
        else:
            self._mean = {name: np.array(array, order="C") for name, array in arrays.items()}

    def result(self) -> Arrays:
        """The mean itself, not a copy: a later `add` changes it. {} before the first model."""
        return self._mean


def move(arrays: Arrays, towards: Mapping[str, np.ndarray], *, share: float) -> None:
    """arrays += share * (towards - arrays), in place and in their own dtypes.

    Integer arrays are counters (the num_batches_tracked of BatchNorm). They take the maximum of both, because no model
    has counted to the mean.

    Args:
        arrays: C-contiguous.
        towards: the same names and shapes.
        share: in [0, 1]; a Python float, because a numpy float64 would turn everything into float64.
    """
    for name, array in arrays.items():
        if array.dtype.kind == "f":
            for old, new in zip(blocks(array), blocks(towards[name]), strict=True):
                old += share * (new - old)
        else:
            np.maximum(array, towards[name], out=array)


def mix(means: Mapping[str, Arrays], shares: Mapping[str, float]) -> Arrays:
    """Mix means: sum_kind share * mean / sum_kind share for every name, computed in the arrays of the first mean.

    Args:
        means: kind -> arrays, at least one.
        shares: share of each kind, positive for those in `means`; they need not sum to 1.
    """
    (first, mixed), *others = means.items()
    total = shares[first]
    for kind, mean in others:
        total += shares[kind]
        move(mixed, mean, share=shares[kind] / total)
    return mixed


def softmax(log_weights: Sequence[float]) -> np.ndarray:
    """w_k / sum_k w_k, [len(log_weights)] float64; the largest is subtracted first, because exp(-1e4) would be zero."""
    weights = np.exp(np.asarray(log_weights, dtype=np.float64) - np.max(log_weights))
    return weights / weights.sum()


def blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    flat = array.reshape(-1)
    return (flat[start : start + BLOCK] for start in range(0, flat.size, BLOCK))
