"""Bounds on what the clients of a round can do to the global model.

The size of an update is ||theta_k - theta|| / sqrt(steps), over all floating-point arrays but the running statistics
of BatchNorm: within a round the weights move like a random walk, so a client with a hundred times the steps of another
one moves about ten times as far. An update may be `max_factor` times as large as the typical one, the lower median of
the last accepted round. A client with more steps than the typical one may go as far as a straight line leads: its
bound grows with the root of the ratio of the steps. A round without a typical update, as the first one, keeps its
updates on the disk until all are there, and takes its own. So does a round in which most updates are too large: it is
the training that takes off then, and no single client.

Running statistics follow the videos and not the learning rate. They may change by `max_factor` times their own norm.

docs/reliability.md says what this does not catch.
"""

import logging
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import IO

import numpy as np

from fedvssl.files.arrays import Arrays
from fedvssl.files.names import client_number
from fedvssl.strategy.average import blocks
from fedvssl.wire.wire import FederationError, Update

log = logging.getLogger(__name__)
SIZE = "update-norm"  # metric of an update: its size
REJECT, CLIP = "reject", "clip"
MOST_GROWTH = 1e6  # of the global weights in one round
STATISTICS = ("running_mean", "running_var")  # ends of the names of BatchNorm's running statistics


@dataclass(frozen=True)
class Step:
    """Length of a client's way in one round.

    Args:
        norm: of the change of its weights.
        least, most: number of steps that the server counts, at full learning rate; they differ where a warm-up may be
            over already.
        statistics: norm of the change of its running statistics.
    """

    norm: float
    least: float
    most: float
    statistics: float = 0.0

    @property
    def size(self) -> float:
        return self.norm / math.sqrt(self.most)


@dataclass(kw_only=True)
class UpdateBound:
    """Upper bound on the size of an update, relative to the typical one.

    Args:
        max_factor: largest size, in typical ones; None sets no bound.
        oversized: "reject" lets the client fail in this round, "clip" shortens its update to the largest size.
        batch_size, local_epochs, warmup_steps, keep_optimizer: of the clients' training, to count their steps.
        folder: for the updates of a round that has no typical size yet; None is the system's temporary folder.
        typical: update of the last accepted round.

    Raises:
        ValueError: if an argument is out of range.
    """

    max_factor: float | None
    oversized: str = REJECT
    batch_size: int = 1
    local_epochs: int = 1
    warmup_steps: int = 0
    keep_optimizer: bool = False
    folder: Path | None = None
    typical: Step | None = None
    _steps: dict[int, Step] = field(default_factory=dict, repr=False)  # of this round, by partition id

    def __post_init__(self) -> None:
        factor = self.max_factor
        if factor is not None and (isinstance(factor, bool) or not isinstance(factor, int | float) or not factor > 1):
            raise ValueError(f"strategy.max_update_factor={factor} must be above 1, or null for no bound.")
        if self.oversized not in (REJECT, CLIP):
            raise ValueError(f"strategy.oversized_updates={self.oversized} is unknown: choose {REJECT} or {CLIP}.")

    def admit(
        self, updates: Iterator[Update], start: Arrays, *, reject: Callable[[int, str], None]
    ) -> Iterator[Update]:
        """Pass on the updates within the bound, each with its size among its metrics.

        Args:
            updates: valid ones, as they come in; no reference to one is kept.
            start: the arrays that all of them started from.
            reject: called with the partition id and the reason for each update that is not passed on.
        """
        self._steps = {}
        measured = map(partial(self._measured, start=start), updates)
        if self.max_factor is None:
            yield from measured
            return
        statistics = norm(select(start, statistics=True))
        with tempfile.TemporaryFile(dir=self.folder) as file:
            held, typical = Held(file), self.typical
            for update in measured:
                if typical is not None and self._excess(update, typical, statistics) <= 1:
                    yield update
                else:
                    held.put(update)
                del update
            steps = list(self._steps.values())
            if steps and (typical is None or 2 * len(held) > len(steps)):
                if typical is not None:
                    log.warning("Most weights moved much farther than in the last round, which no longer bounds them.")
                typical = lower_median(steps)
                statistics = max(statistics, sorted(step.statistics for step in steps)[(len(steps) - 1) // 2])
            yield from self._within(typical, statistics, held, start, reject=reject)

    def accept(self, partition_ids: Iterable[int]) -> None:
        """Take the typical update of a round that counts, of those of these clients.

        Of three and more it is the lower median. One or two cannot tell which of them is unusual: they move the
        typical size no further than needed to lie between theirs, and at most to its half.
        """
        steps = sorted((self._steps[partition_id] for partition_id in partition_ids), key=_size)
        before, typical = self.typical, lower_median(steps)
        if before is not None and 0 < len(steps) < 3:
            typical = min(max(before, steps[0], key=_size), steps[-1], key=_size)
            if typical.size < before.size / 2:
                typical = replace(before, norm=before.norm / 2)
        if typical is not None and (typical.norm > 0 or before is None):
            self.typical = typical

    def count_steps(self, num_examples: float) -> tuple[float, float]:
        """Least and largest number of steps of a client with so many videos, at full learning rate.

        A step of the warm-up counts by the square of its factor. Whether a client that continues its optimizer is
        still in the warm-up is not known here.
        """
        steps = self.local_epochs * math.ceil(num_examples / self.batch_size)
        slow = min(steps, self.warmup_steps)
        least = steps - slow + sum(((step + 1) / self.warmup_steps) ** 2 for step in range(slow))
        return least, float(steps) if self.keep_optimizer else least

    def _measured(self, update: Update, start: Arrays) -> Update:
        least, most = self.count_steps(update.metrics["num-examples"])
        ways = (norm(select(update.arrays, statistics=kind), start) for kind in (False, True))
        step = self._steps[update.partition_id] = Step(next(ways), least, most, statistics=next(ways))
        return replace(update, metrics={**update.metrics, SIZE: step.size})

    def _excess(self, update: Update, typical: Step | None, statistics: float) -> float:
        """Size of an update in largest ones; a typical norm of 0 (nothing was trained) sets no bound."""
        assert self.max_factor is not None
        step, largest = self._steps[update.partition_id], math.inf
        if typical is not None and typical.norm > 0:
            ratio = step.most / typical.least
            largest = self.max_factor * typical.norm * max(math.sqrt(ratio), ratio)
        return max(_ratio(step.norm, largest), _ratio(step.statistics, self.max_factor * statistics))

    def _within(
        self,
        typical: Step | None,
        statistics: float,
        updates: Iterable[Update],
        start: Arrays,
        *,
        reject: Callable[[int, str], None],
    ) -> Iterator[Update]:
        """Pass on, clip or reject."""
        assert self.max_factor is not None
        for update in updates:
            excess = self._excess(update, typical, statistics)
            if excess <= 1:
                yield update
            elif self.oversized == CLIP and math.isfinite(excess):
                who = client_number(update.partition_id)
                log.warning("client %d: its update is %.3g times too large and is shortened", who, excess)
                yield replace(update, arrays=shortened(update.arrays, start, share=1 / excess))
            else:
                reject(
                    update.partition_id,
                    f"its update is {self.max_factor * excess:.3g} times as large as is typical for its steps, "
                    f"strategy.max_update_factor allows {self.max_factor:g}",
                )
            del update


def is_parameter(name: str, array: np.ndarray) -> bool:
    """True for what an optimizer moves: no running statistic, and no counter."""
    return array.dtype.kind == "f" and not name.endswith(STATISTICS)


def select(arrays: Arrays, *, statistics: bool) -> Arrays:
    """The running statistics among the arrays, or all others."""
    return {name: array for name, array in arrays.items() if name.endswith(STATISTICS) == statistics}


def norm(arrays: Mapping[str, np.ndarray], start: Mapping[str, np.ndarray] | None = None) -> float:
    """Euclidean norm of all floating-point arrays together, or of their difference from `start`; in float64."""
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for name, array in arrays.items():
            if array.dtype.kind != "f":
                continue  # counters
            olds = repeat(None) if start is None else blocks(start[name])
            for new, old in zip(blocks(array), olds, strict=False):
                change = new.astype(np.float64) if old is None else np.subtract(new, old, dtype=np.float64)
                # np.dot would start threads, which wait for each other where clients keep all cores busy.
                total += float(np.einsum("i,i", change, change))
    return math.sqrt(total) if math.isfinite(total) else math.inf


def shortened(arrays: Arrays, start: Arrays, *, share: float) -> Arrays:
    """start + share * (arrays - start) in new arrays; counters stay as they are."""
    return {
        name: (start[name] + share * (array - start[name])).astype(array.dtype) if array.dtype.kind == "f" else array
        for name, array in arrays.items()
    }


def lower_median(steps: Sequence[Step]) -> Step | None:
    """Median by size, of an even number the lower of the middle two: of two clients the larger must not decide."""
    return sorted(steps, key=_size)[(len(steps) - 1) // 2] if steps else None


def _size(step: Step) -> float:
    return step.size


def _ratio(value: float, largest: float) -> float:
    """value / largest; infinite if only the value is, or only `largest` is 0."""
    if math.isinf(value):
        return math.inf
    return value / largest if largest else (math.inf if value else 0.0)


class Held:
    """Updates on the disk, which come back one by one in the order of their partitions.

    Args:
        file: open and empty. One without a name leaves nothing, however the process ends.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._entries: dict[int, tuple[int, list[str], dict[str, float]]] = {}

    def put(self, update: Update) -> None:
        self._entries[update.partition_id] = (self._file.tell(), list(update.arrays), update.metrics)
        for array in update.arrays.values():
            np.lib.format.write_array(self._file, array, allow_pickle=False)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Update]:
        for partition_id, (offset, names, metrics) in sorted(self._entries.items()):
            self._file.seek(offset)
            arrays = {name: np.lib.format.read_array(self._file, allow_pickle=False) for name in names}
            yield Update(partition_id, arrays, metrics)
            del arrays


def check_growth(arrays: Arrays, start: Arrays, *, server_round: int) -> None:
    """Reject global weights that no training makes, before they are saved.

    Raises:
        FederationError: if their norm is beyond `MOST_GROWTH` times that of `start`.
    """
    after = norm(arrays)
    if any(after <= MOST_GROWTH * norm({name: array}) for name, array in start.items()):
        return  # one array of the start tells enough, and mostly the first
    before = norm(start)
    if before > 0 and not after <= MOST_GROWTH * before:
        raise FederationError(
            f"Round {server_round} would make the weights {after / before:.3g} times as large: it is not saved. "
            "Set strategy.max_update_factor, or a lower one, so that no update is that large."
        )
