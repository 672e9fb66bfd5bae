"""The one weighted mean of named arrays."""

from collections.abc import Mapping, Sequence

import numpy as np

Arrays = dict[str, np.ndarray]


def weighted_mean(models: Sequence[Mapping[str, np.ndarray]], weights: Sequence[float] | np.ndarray) -> Arrays:
    """sum_k w_k theta_k / sum_k w_k for every name.

    Floating-point arrays are summed in float64 and returned in their own dtype. Integer arrays are counters (the
    num_batches_tracked of BatchNorm): they take the maximum over the models and keep their dtype, because the mean of
    two counters is a number that no model has counted to.

    Args:
        models: arrays with the same names and shapes, in any order.
        weights: [len(models)], not negative, not all zero.
    """
    shares = np.asarray(weights, dtype=np.float64) / np.sum(weights, dtype=np.float64)
    return {name: _mean_of_one([model[name] for model in models], shares) for name in models[0]}


def _mean_of_one(arrays: Sequence[np.ndarray], shares: np.ndarray) -> np.ndarray:
    first = np.asarray(arrays[0])
    if first.dtype.kind != "f":
        return np.asarray(np.maximum.reduce(arrays), dtype=first.dtype)
    total = np.zeros(first.shape, dtype=np.float64)
    for array, share in zip(arrays, shares, strict=True):
        total += share * np.asarray(array, dtype=np.float64)
    return total.astype(first.dtype)
