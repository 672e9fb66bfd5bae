"""FedVSSL (Rehman et al., ECCV 2022, arXiv 2207.01975).

Clients share the backbone, clients with a low loss count more, and the result is averaged with the last round's.

Notation: client k has n_k videos, mean training loss L_k and backbone theta_k.
    fedavg = sum_k n_k theta_k / sum_k n_k
    loss   = sum_k s_k theta_k            with s = softmax(-L); the number of videos plays no part
    theta  = alpha * loss + (1 - alpha) * fedavg
    beta = 1 and round > 1:  theta = (theta + previous theta) / 2
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fedvssl.files.arrays import Arrays
from fedvssl.strategy.average import mix, move
from fedvssl.strategy.fedavg import FedAvg

BACKBONE, WHOLE = ["backbone.*"], ["*"]  # shares of FedVSSL, and of the published switch


class FedVSSL(FedAvg):
    """Share the backbone; pretext heads stay with their clients.

    Args:
        mix_coeff: alpha in [0, 1]; 0 weighs by videos, 1 by loss.
        swbeta: beta in {0, 1}; 1 averages with the previous global model.
        share: as for `FedAvg`.
        fedavg: plain FedAvg of the whole model instead, as under the published switch.
        rounds: the arguments of `Rounds`.

    Raises:
        ValueError: if an argument is out of range, or `fedavg` is to share something else than the whole model.
    """

    def __init__(
        self, *, mix_coeff: float, swbeta: int, share: Sequence[str], fedavg: bool = False, **rounds: Any
    ) -> None:
        if fedavg and list(share) not in (BACKBONE, WHOLE):
            raise ValueError(
                f"strategy.fedavg=true shares the whole model, not strategy.share={list(share)}: leave this out, or "
                "choose strategy=fedavg for it."
            )
        super().__init__(share=WHOLE if fedavg else share, **rounds)
        if not 0 <= mix_coeff <= 1:
            raise ValueError(f"strategy.mix_coeff={mix_coeff} (alpha) must lie in [0, 1].")
        if swbeta not in (0, 1):
            raise ValueError(f"strategy.swbeta={swbeta} (beta) must be 0 or 1.")
        self.mix_coeff = 0 if fedavg else mix_coeff
        self.swbeta = 0 if fedavg else swbeta
        self.fedavg = fedavg

    def averages(self) -> dict[str, float]:
        if self.fedavg:
            return super().averages()
        return {"loss": self.mix_coeff, "video": 1 - self.mix_coeff}

    def log_weights(self, metrics: Mapping[str, float]) -> dict[str, float]:
        return {"loss": -metrics["loss"], **super().log_weights(metrics)}

    def aggregate(self, server_round: int, means: Mapping[str, Arrays], previous: Arrays) -> Arrays:
        theta = mix(means, self.averages())  # alpha * loss + (1 - alpha) * fedavg
        if self.swbeta == 1 and server_round > 1:  # the initial model is no result to average with
            move(theta, previous, share=0.5)  # (theta + previous theta) / 2
        return theta
