"""Flower's own strategies, named in YAML: FedMedian, FedTrimmedAvg, Krum, MultiKrum, Bulyan, others without a state.

Only their aggregation is used: whom to ask, which replies count and what is recorded is the business of `Rounds`. They
get floating-point arrays. Dtypes are restored, as many of them return float64, and counters take their maximum.
"""

import gc
import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from fedvssl.files.arrays import Arrays
from fedvssl.strategy.fedavg import FedAvg
from fedvssl.strategy.intake import Intake
from fedvssl.wire.record import ARRAYS, METRICS, pack, unpack
from fedvssl.wire.replies import reason
from fedvssl.wire.wire import FederationError, Update

log = logging.getLogger(__name__)
# Settings of Flower's strategies on whom to ask, which is decided by `Rounds`.
ASKED = ("fraction_train", "fraction_evaluate", "min_train_nodes", "min_evaluate_nodes", "min_available_nodes")
REPLIES = "replies"  # kind of average that stands for all replies


@dataclass
class _Reply:
    """What Flower's strategies ask of a message."""

    content: RecordDict

    def has_error(self) -> bool:
        return False


class AllReplies(Intake):
    """Keeps all updates of a round, because Flower's strategies compare them with each other."""

    def __init__(self, partition_ids: Iterable[int]) -> None:
        super().__init__(partition_ids, averages={}, log_weights=lambda _: {})
        self.updates: dict[int, Update] = {}

    def add(self, update: Update) -> None:
        self.updates[update.partition_id] = update

    def finish(self) -> dict[str, Any]:
        ascending = [self.updates[partition_id] for partition_id in sorted(self.updates)]
        self.metrics = {update.partition_id: update.metrics for update in ascending}
        return {REPLIES: ascending}


class FlowerStrategy(FedAvg):
    """Aggregate as a strategy of Flower does.

    Args:
        strategy: an object of flwr.serverapp.strategy.
        share, rounds: as for `FedAvg`.

    Raises:
        ValueError: if the strategy keeps something from round to round, which would be lost when a run is continued, or
            has settings of whom to ask.
    """

    def __init__(self, *, strategy: Any, share: Sequence[str], **rounds: Any) -> None:
        super().__init__(share=share, **rounds)
        if not isinstance(strategy, flower.Strategy):
            raise ValueError(f"strategy.strategy={strategy} is no strategy of flwr.serverapp.strategy.")
        if type(strategy).configure_train is not flower.FedAvg.configure_train:
            raise ValueError(
                f"strategy.strategy: {type(strategy).__name__} keeps something of its own between rounds or clients: "
                "take one of fedvssl.strategy.fedopt, or one that only aggregates, such as FedMedian."
            )
        for name in ASKED:
            if getattr(strategy, name) != inspect.signature(flower.FedAvg).parameters[name].default:
                raise ValueError(
                    f"strategy.strategy.{name} has no effect: set strategy.fraction_fit and strategy.min_fit_clients."
                )
        self.strategy = strategy

    @property
    def _name(self) -> str:
        return type(self.strategy).__name__

    def averages(self) -> dict[str, float]:
        return {}

    def log_weights(self, metrics: Mapping[str, float]) -> dict[str, float]:
        return {}

    def intake(self, partition_ids: Iterable[int]) -> Intake:
        return AllReplies(partition_ids)

    def restore(self, state: Arrays, shared: Arrays) -> None:
        """Tell how much memory the rounds need."""
        size, number = sum(array.nbytes for array in shared.values()), self.rounds.sample_size
        log.info("%s needs all %d replies of a round at once: %.1f GB.", self._name, number, 2 * number * size / 1e9)

    def aggregate(self, server_round: int, means: Mapping[str, Any], previous: Arrays) -> Arrays:
        """Let Flower's strategy aggregate the replies, which are freed."""
        updates: list[Update] = means[REPLIES]
        counters = [name for name, array in previous.items() if array.dtype.kind != "f"]
        highest = {name: np.max([update.arrays[name] for update in updates], axis=0) for name in counters}
        replies: list[Any] = [_Reply(_content(update, without=counters)) for update in updates]
        try:
            aggregated: Any = self.strategy.aggregate_train(server_round, replies)[0]
            found = highest | {name: np.asarray(array) for name, array in unpack(aggregated).items()}
            return {name: found[name].astype(array.dtype) for name, array in previous.items()}
        except Exception as error:
            raise FederationError(
                f"Round {server_round}: {self._name} cannot aggregate {len(updates)} replies ({reason(error)})."
            ) from error
        finally:
            replies.clear()
            updates.clear()
            gc.collect()  # Flower's records refer to themselves, and would keep all replies until then


def _content(update: Update, *, without: Sequence[str]) -> RecordDict:
    arrays = {name: array for name, array in update.arrays.items() if name not in without}
    facts = MetricRecord({name: update.metrics[name] for name in ("loss", "num-examples")})
    return RecordDict({ARRAYS: pack(arrays), METRICS: facts})
