"""Optimizers on the server: FedAvgM (Hsu et al., arXiv 1909.06335), FedAdam, FedYogi (Reddi et al., arXiv 2003.00295).

The change that the clients make on average is a gradient for the server. With d = mean_k theta_k - theta:
    FedAvgM   v = momentum * v + d                  theta = theta + server_lr * v
    FedAdam   m = beta1 * m + (1 - beta1) * d       theta = theta + server_lr * m / (sqrt(v) + tau)
              v = beta2 * v + (1 - beta2) * d**2                                    (algorithm 2, lines 10 to 14)
    FedYogi   as FedAdam with   v = v - (1 - beta2) * d**2 * sign(v - d**2)
At the start v of FedAvgM and m are 0, and v of the others is tau**2.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedvssl.files.arrays import Arrays
from fedvssl.strategy.average import mix
from fedvssl.strategy.bounds import is_parameter
from fedvssl.strategy.fedavg import FedAvg


class ServerOptimizer(FedAvg):
    """Base of the optimizers: keeps their moments, and moves one array after the other.

    Args:
        server_lr: learning rate of the server, above 0.
        settings: the arguments of `FedAvg`.

    Raises:
        ValueError: if an argument is out of range.
    """

    moments: Mapping[str, float] = {}  # name -> value at the start

    def __init__(self, *, server_lr: float, **settings: Any) -> None:
        super().__init__(**settings)
        if not server_lr > 0:
            raise ValueError(f"strategy.server_lr={server_lr} must be above 0.")
        self.server_lr = server_lr
        self._state: Arrays = {}

    def step(self, change: np.ndarray, moments: dict[str, np.ndarray]) -> np.ndarray:
        """Way of one array; updates its moments in place."""
        raise NotImplementedError

    def aggregate(self, server_round: int, means: Mapping[str, Arrays], previous: Arrays) -> Arrays:
        """Move the weights by `step`, see `FedAvg.aggregate`."""
        mean = mix(means, self.averages())
        # Deviation: running statistics of BatchNorm keep their mean, as counters their maximum. A momentum would carry
        # a variance below 0, and they are no result of the clients' gradients.
        for name, array in mean.items():
            if is_parameter(name, array):
                moments = {moment: self._state[f"{moment} {name}"] for moment in self.moments}
                way = self.step(array - previous[name], moments)
                np.add(previous[name], self.server_lr * way, out=array)
        return mean

    def state(self) -> Arrays:
        return self._state

    def restore(self, state: Arrays, shared: Arrays) -> None:
        weights = {name: array for name, array in shared.items() if is_parameter(name, array)}
        self._state = state or {
            f"{moment} {name}": np.full_like(array, value)
            for moment, value in self.moments.items()
            for name, array in weights.items()
        }


class FedAvgM(ServerOptimizer):
    """Momentum.

    Args:
        momentum: in [0, 1).
        settings: the arguments of `ServerOptimizer`.
    """

    moments: Mapping[str, float] = {"velocity": 0.0}

    def __init__(self, *, momentum: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.momentum = _share("momentum", momentum)

    def step(self, change: np.ndarray, moments: dict[str, np.ndarray]) -> np.ndarray:
        velocity = moments["velocity"]
        velocity *= self.momentum
        velocity += change
        return velocity


class FedAdam(ServerOptimizer):
    """Adam without a correction of its start, as in the paper.

    Args:
        beta1, beta2: in [0, 1).
        tau: degree of adaptivity, above 0; it is larger than Adam's epsilon.
        settings: the arguments of `ServerOptimizer`.
    """

    def __init__(self, *, beta1: float, beta2: float, tau: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.beta1, self.beta2 = _share("beta1", beta1), _share("beta2", beta2)
        if not tau > 0:
            raise ValueError(f"strategy.tau={tau} must be above 0.")
        self.tau = tau
        self.moments = {"m": 0.0, "v": tau**2}

    def step(self, change: np.ndarray, moments: dict[str, np.ndarray]) -> np.ndarray:
        m, v = moments["m"], moments["v"]
        m *= self.beta1
        m += (1 - self.beta1) * change
        self.adapt(v, np.square(change))
        return m / (np.sqrt(v) + self.tau)

    def adapt(self, v: np.ndarray, square: np.ndarray) -> None:
        """Update v in place."""
        v *= self.beta2
        v += (1 - self.beta2) * square


class FedYogi(FedAdam):
    """Adam whose v moves by steps of the size of the gradient, and not of v. Arguments as `FedAdam`."""

    def adapt(self, v: np.ndarray, square: np.ndarray) -> None:
        v -= (1 - self.beta2) * square * np.sign(v - square)


def _share(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"strategy.{name}={value} must lie in [0, 1).")
    return value
