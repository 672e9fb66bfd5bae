"""L-DAWA (Rehman et al., ICCV 2023, arXiv 2307.07393): each layer of a client counts by its direction.

    theta_l <- 1/N sum_k delta_kl theta_kl,   delta_kl = min(1, cos(theta_kl, g_l))

theta_kl is layer l of client k, one of N, and g_l that of the global model which was sent out. Neither videos nor
losses count. The deltas are not normalised, so a layer's norm shrinks by their mean in each round, as published.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fedvssl.files.arrays import Arrays
from fedvssl.files.round_records import RoundReport
from fedvssl.strategy.bounds import STATISTICS
from fedvssl.strategy.fedavg import FedAvg
from fedvssl.strategy.intake import Intake
from fedvssl.wire.wire import Order, Update, Wire

log = logging.getLogger(__name__)
LOGGED = 3  # number of layers in a line of the log
MEAN = "client"  # kind of average in which every client counts the same


class LDAWA(FedAvg):
    """Layer-wise divergence-aware weight aggregation.

    Args:
        fedavg_rounds: number of rounds at the start that average by number of videos (FedAvg).
        statistics: False takes the plain mean of BatchNorm's running statistics; True weighs them like weights, as
            published.
        share, rounds: as for `FedAvg`.

    Raises:
        ValueError: if an argument is out of range.
    """

    # Deviation: a running variance scaled by its cosine shrinks for no reason, and a mean of other sign flips. So
    # statistics take the plain mean by default.

    def __init__(self, *, fedavg_rounds: int, statistics: bool, share: Sequence[str], **rounds: Any) -> None:
        super().__init__(share=share, **rounds)
        if isinstance(fedavg_rounds, bool) or not (isinstance(fedavg_rounds, int) and fedavg_rounds >= 0):
            raise ValueError(f"strategy.fedavg_rounds={fedavg_rounds} must be a whole number, at least 0.")
        if not isinstance(statistics, bool):
            raise ValueError(f"strategy.statistics={statistics} must be true or false.")
        self.fedavg_rounds, self.statistics = fedavg_rounds, statistics

    def round(self, wire: Wire, server_round: int, shared: Arrays, order: Order) -> tuple[Arrays, RoundReport]:
        """One round, see `FedAvg.round`. The clients' metrics get "alignment", the mean delta over the layers."""
        if server_round <= self.fedavg_rounds:
            return super().round(wire, server_round, shared, order)
        method = Aligned(shared, statistics=self.statistics)
        result = self.rounds.train(wire, server_round, shared, order, method=method)
        log_deltas(server_round, method.mean_deltas())
        return result


@dataclass
class Aligned:
    """Decisions of a round of L-DAWA, see `fedvssl.strategy.rounds.Method`.

    Args:
        reference: the global model that was sent out.
        statistics: as for `LDAWA`.
        deltas: those of each client so far, by layer.
    """

    reference: Arrays
    statistics: bool
    deltas: list[dict[str, float]] = field(default_factory=list)

    def averages(self) -> dict[str, float]:
        return {MEAN: 1.0}

    def log_weights(self, metrics: Mapping[str, float]) -> dict[str, float]:
        return {MEAN: 0.0}

    def intake(self, partition_ids: Iterable[int]) -> Intake:
        return AlignedIntake(self, partition_ids)

    def aggregate(self, server_round: int, means: Mapping[str, Arrays], previous: Arrays) -> Arrays:
        return means[MEAN]

    def scale(self, update: Update) -> Update:
        """The update with each layer times its delta."""
        names = [name for name, array in self.reference.items() if self._is_layer(name, array)]
        deltas = {name: delta(update.arrays[name], self.reference[name]) for name in names}
        self.deltas.append(deltas)
        # A Python float, because a numpy float64 would turn everything into float64.
        scaled = {name: update.arrays[name] * share for name, share in deltas.items()}
        facts = {"alignment": float(np.mean([*deltas.values()]))} if deltas else {}
        return replace(update, arrays={**update.arrays, **scaled}, metrics={**update.metrics, **facts})

    def mean_deltas(self) -> dict[str, float]:
        """Mean over the clients of each layer's delta, ascending."""
        means = {name: float(np.mean([own[name] for own in self.deltas])) for name in self.deltas[0]}
        return dict(sorted(means.items(), key=lambda item: item[1]))

    def _is_layer(self, name: str, array: np.ndarray) -> bool:
        counts = self.statistics or not name.endswith(STATISTICS)
        return array.dtype.kind == "f" and array.ndim > 0 and counts


class AlignedIntake(Intake):
    """Weighs each update before it is averaged."""

    def __init__(self, method: Aligned, partition_ids: Iterable[int]) -> None:
        super().__init__(partition_ids, averages=method.averages(), log_weights=method.log_weights)
        self.method = method

    def add(self, update: Update) -> None:
        super().add(self.method.scale(update))


def log_deltas(server_round: int, deltas: Mapping[str, float]) -> None:
    """Log the lowest deltas of a round; hydra.verbose=fedvssl.strategy.ldawa logs all of them."""
    texts = [f"{name} {value:.3f}" for name, value in deltas.items()]
    if not texts:
        log.warning("round %d: strategy.share has no layer for L-DAWA to weigh, so this is a plain mean.", server_round)
        return
    log.info("round %d: layers of lowest mean delta: %s", server_round, ", ".join(texts[:LOGGED]))
    log.debug("round %d: mean delta of each layer: %s", server_round, ", ".join(texts))


def delta(array: np.ndarray, reference: np.ndarray) -> float:
    """min(1, cos(array, reference)), computed in float64; 1 where one of them is zero, which has no direction."""
    own, other = array.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    norms = float(np.linalg.norm(own) * np.linalg.norm(other))
    return min(1.0, float(own @ other) / norms) if norms else 1.0
