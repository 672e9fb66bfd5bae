"""Average updates as they come in, so that the server's memory does not grow with the number of clients."""

from collections.abc import Callable, Iterable, Mapping

from fedvssl.files.arrays import Arrays
from fedvssl.strategy.average import RunningMean
from fedvssl.wire.wire import Update

MAX_WAITING = 4  # updates in memory that wait for their turn


class Intake:
    """Takes the updates of one round in any order and averages them in the order of their partitions.

    The order of additions decides the last bit of a sum, and a client's speed must not decide it. So an update waits
    for the partitions before it. If more than MAX_WAITING wait, the first one is averaged anyway: this bounds the
    memory and changes the result by rounding only.

    Args:
        partition_ids: clients that may reply.
        averages: share in the result of each kind of average; a kind with share 0 is left out.
        log_weights: a client's metrics -> the logarithm of its weight in each kind.
    """

    def __init__(
        self,
        partition_ids: Iterable[int],
        *,
        averages: Mapping[str, float],
        log_weights: Callable[[Mapping[str, float]], Mapping[str, float]],
    ) -> None:
        self.metrics: dict[int, Mapping[str, float]] = {}  # partition id -> metrics of an averaged update
        self._means = {kind: RunningMean() for kind, share in averages.items() if share > 0}
        self._log_weights = log_weights
        self._missing = set(partition_ids)
        self._waiting: dict[int, Update] = {}

    def add(self, update: Update) -> None:
        """Add one update. It must be valid, because nothing can take it out of the means again."""
        self._waiting[update.partition_id] = update
        self.skip(update.partition_id)

    def skip(self, partition_id: int) -> None:
        """Stop waiting for this client."""
        self._missing.discard(partition_id)
        while self._waiting:
            first = min(self._waiting)
            if len(self._waiting) <= MAX_WAITING and min(self._missing, default=first) < first:
                return
            self._average(self._waiting.pop(first))

    def finish(self) -> dict[str, Arrays]:
        """Average the updates that still wait; return the mean of each kind, empty if there was no update."""
        while self._waiting:
            self._average(self._waiting.pop(min(self._waiting)))
        self.metrics = dict(sorted(self.metrics.items()))
        return {kind: mean.result() for kind, mean in self._means.items()}

    def _average(self, update: Update) -> None:
        log_weights = self._log_weights(update.metrics)
        for kind, mean in self._means.items():
            mean.add(update.arrays, log_weights[kind])
        self.metrics[update.partition_id] = update.metrics
