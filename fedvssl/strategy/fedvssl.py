"""FedVSSL (Rehman et al., ECCV 2022, arXiv 2207.01975).

The clients share the backbone, those with a low loss count for more, and the result is averaged with the last round's.

Notation: client k has n_k videos, mean training loss L_k and backbone theta_k.
    fedavg = sum_k n_k theta_k / sum_k n_k
    loss   = sum_k s_k theta_k            with s = softmax(-L)
    theta  = alpha * loss + (1 - alpha) * fedavg
    beta = 1 and round > 1:  theta = (theta + previous theta) / 2
Both averages are linear in theta_k, so alpha mixes their weights and the arrays are averaged once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedvssl.strategy.average import Arrays, weighted_mean
from fedvssl.strategy.exchange import ClientUpdate
from fedvssl.strategy.fedavg import FedAvg, video_weights

BACKBONE = "backbone."


def loss_weights(losses: Sequence[float]) -> np.ndarray:
    """s = softmax(-L) [len(losses)], float64; the number of videos plays no part.

    The smallest loss is subtracted first: Catch-the-Patch starts at about 20, and exp(-1e4) is zero for everybody.
    """
    shifted = np.min(losses) - np.asarray(losses, dtype=np.float64)
    return np.exp(shifted) / np.exp(shifted).sum()


def mix(by_loss: np.ndarray, by_videos: np.ndarray, *, mix_coeff: float) -> np.ndarray:
    """alpha * s_k + (1 - alpha) * n_k / sum n, with alpha = `mix_coeff`."""
    return mix_coeff * by_loss + (1 - mix_coeff) * by_videos


def swa(arrays: Mapping[str, np.ndarray], previous: Mapping[str, np.ndarray]) -> Arrays:
    """Stochastic weight averaging over rounds: half the new arrays, half the global ones of the last round."""
    return weighted_mean([arrays, previous], [0.5, 0.5])


class FedVSSL(FedAvg):
    """Only `backbone.*` travels; pretext heads stay with their clients.

    Args:
        mix_coeff: alpha in [0, 1]; 0 weighs by videos, 1 by loss.
        swbeta: beta in {0, 1}; 1 averages with the previous global model.
        rounds: the arguments of FedAvg.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(self, *, mix_coeff: float, swbeta: int, **rounds: Any) -> None:
        super().__init__(**rounds)
        if not 0 <= mix_coeff <= 1:
            raise ValueError(f"strategy.mix_coeff={mix_coeff} (alpha) must lie in [0, 1].")
        if swbeta not in (0, 1):
            raise ValueError(f"strategy.swbeta={swbeta} (beta) must be 0 or 1.")
        self.mix_coeff = mix_coeff
        self.swbeta = swbeta

    def is_shared(self, name: str) -> bool:
        return name.startswith(BACKBONE)

    def weigh(self, clients: Sequence[ClientUpdate]) -> dict[str, np.ndarray]:
        by_loss = loss_weights([client.metrics["loss"] for client in clients])
        by_videos = video_weights([client.metrics["num-examples"] for client in clients])
        mixed = mix(by_loss, by_videos, mix_coeff=self.mix_coeff)
        return {"loss-weight": by_loss, "video-weight": by_videos, "weight": mixed}

    def aggregate(self, server_round: int, clients: Sequence[ClientUpdate], weights: np.ndarray) -> Arrays:
        arrays = super().aggregate(server_round, clients, weights)
        if self.swbeta == 1 and server_round > 1:  # the initial model is no result to average with
            arrays = swa(arrays, self.global_arrays)
        return arrays
