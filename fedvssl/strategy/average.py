"""The one weighted mean of named arrays, made while they come in, and the weights by which it is made."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

Arrays = dict[str, np.ndarray]
BLOCK = 1 << 16  # elements that are computed with at a time: what lies in between then stays in the processor's cache


class RunningMean:
    """sum_k w_k theta_k / sum_k w_k for every name, of models that come one after the other and are not kept.

    With W the sum of the weights so far, theta included:
        m += (theta - m) * w / W
    Models that are all the same therefore stay the same to the bit. The mean is made in the dtypes of the arrays, and
    integer arrays take the maximum, see `move`. W is kept as a logarithm: where the weights are exp(-L), only
    differences of losses L count, however high they are.
    """

    def __init__(self) -> None:
        self._mean: Arrays = {}
        self._log_total = -math.inf

    def add(self, arrays: Mapping[str, np.ndarray], log_weight: float) -> None:
        """Take in one model; its arrays are only read, and not kept.

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
        """The mean itself and no copy: a later `add` changes it. Without a model it has no arrays."""
        return self._mean


def move(arrays: Arrays, towards: Mapping[str, np.ndarray], *, share: float) -> None:
    """arrays += share * (towards - arrays), in place and in their own dtypes.

    Integer arrays are counters (the num_batches_tracked of BatchNorm): they take the maximum of both, because the mean
    of two counters is a number that no model has counted to.

    Args:
        arrays: C-contiguous.
        towards: the same names and shapes.
        share: in [0, 1]; a Python float, for numpy's own would make float64 of everything.
    """
    for name, array in arrays.items():
        if array.dtype.kind == "f":
            for old, new in zip(_blocks(array), _blocks(towards[name]), strict=True):
                old += share * (new - old)
        else:
            np.maximum(array, towards[name], out=array)


def mix(means: Mapping[str, Arrays], shares: Mapping[str, float]) -> Arrays:
    """sum_kind share * mean for every name, made in the arrays of the first mean.

    Args:
        means: kind -> arrays, at least one.
        shares: of each of these kinds, positive; they need not sum to 1.
    """
    (first, mixed), *others = means.items()
    total = shares[first]
    for kind, mean in others:
        total += shares[kind]
        move(mixed, mean, share=shares[kind] / total)
    return mixed


def softmax(log_weights: Sequence[float]) -> np.ndarray:
    """w_k / sum w, [len(log_weights)] float64.

    The largest is subtracted first: Catch-the-Patch starts at a loss of about 20, and exp(-1e4) is zero for everybody.
    """
    weights = np.exp(np.asarray(log_weights, dtype=np.float64) - np.max(log_weights))
    return weights / weights.sum()


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    flat = array.reshape(-1)
    return (flat[start : start + BLOCK] for start in range(0, flat.size, BLOCK))
