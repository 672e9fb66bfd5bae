"""Aggregation of the published Flower port in place of FedVSSL, to measure the effect of its fault.

    python -m fedvssl.main 'strategy._target_=benchmarks.flower_port.FlowerPort' '~strategy.fedavg'

The port concatenates the lists of its two averages instead of adding them, and the clients read the first half:
    theta = alpha * fedavg                                  with fedavg = sum_k n_k theta_k / sum_k n_k
    beta = 1 and round > 1:  theta = (theta + previous theta) / 2
The loss has no effect, and the whole backbone, with its running statistics and counters, shrinks in every round by
alpha, or by (1 + alpha) / 2 with beta = 1.
"""

from collections.abc import Mapping

from fedvssl.files.arrays import Arrays
from fedvssl.strategy.fedvssl import FedVSSL


class FlowerPort(FedVSSL):
    """Arguments as `FedVSSL`."""

    def averages(self) -> dict[str, float]:
        return {"video": 1.0}

    def aggregate(self, server_round: int, means: Mapping[str, Arrays], previous: Arrays) -> Arrays:
        shrunk = {name: self.mix_coeff * array for name, array in means["video"].items()}
        if self.swbeta == 1 and server_round > 1:
            shrunk = {name: (array + previous[name]) / 2 for name, array in shrunk.items()}
        return {name: array.astype(previous[name].dtype) for name, array in shrunk.items()}  # counters: rounded down
