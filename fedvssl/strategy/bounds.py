"""Bounds on what the clients of a round can do to the global model.

The size of an update is ||theta_k - theta|| / sqrt(steps): within a round the weights move like a random walk, so a
client with a hundred times the steps of another one moves about ten times as far. An update may be `max_factor` times
as large as the typical one, the lower median of the last accepted round. A round without such a median, as the first
one, keeps its updates on the disk until all are there, and takes its own.

docs/reliability.md says what this does not catch.
"""

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np

from fedvssl.files.arrays import Arrays
from fedvssl.strategy.average import blocks
from fedvssl.wire.wire import FederationError, Update

SIZE = "update-norm"  # metric of an update: its size
REJECT, CLIP = "reject", "clip"
MOST_GROWTH = 1e6  # of the global weights in one round


@dataclass(kw_only=True)
class UpdateBound:
    """Upper bound on the size of an update, relative to the typical one.

    Args:
        max_factor: largest size, in typical ones; None sets no bound.
        oversized: "reject" lets the client fail in this round, "clip" shortens its update to the largest size.
        batch_size: clips in a step, so that the server can count a client's steps.
        folder: for the updates of a round that has no typical size yet; None is the system's temporary folder.
        typical: size, of the last accepted round.

    Raises:
        ValueError: if an argument is out of range.
    """

    max_factor: float | None
    oversized: str = REJECT
    batch_size: int = 1
    folder: Path | None = None
    typical: float | None = None

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
        measured = map(partial(self._measured, start=start), updates)
        if self.max_factor is None:
            yield from measured
        elif self.typical is not None:
            yield from self._within(self.typical, measured, start, reject=reject)
        else:
            with held_on_disk(measured, folder=self.folder) as (sizes, held):
                yield from self._within(lower_median(sizes), held, start, reject=reject)

    def accept(self, sizes: Iterable[float]) -> None:
        """Take the typical size of a round that counts; without any size the next round takes its own."""
        self.typical = lower_median(list(sizes))

    def _measured(self, update: Update, start: Arrays) -> Update:
        steps = math.ceil(update.metrics["num-examples"] / self.batch_size)
        return replace(update, metrics={**update.metrics, SIZE: norm(update.arrays, start) / math.sqrt(steps)})

    def _within(
        self, typical: float | None, updates: Iterator[Update], start: Arrays, *, reject: Callable[[int, str], None]
    ) -> Iterator[Update]:
        """Pass on, clip or reject; a typical size of 0 (nothing was trained) sets no bound."""
        assert self.max_factor is not None
        largest = self.max_factor * typical if typical else math.inf
        for update in updates:
            size = update.metrics[SIZE]
            if size <= largest and math.isfinite(size):
                yield update
            elif self.oversized == CLIP and math.isfinite(size):
                yield replace(update, arrays=shortened(update.arrays, start, share=largest / size))
            else:
                times = size / typical if typical else math.inf
                reject(
                    update.partition_id,
                    f"its update is {times:.3g} times as large as the typical one, "
                    f"strategy.max_update_factor allows {self.max_factor:g}",
                )
            del update


def norm(arrays: Mapping[str, np.ndarray], start: Mapping[str, np.ndarray] | None = None) -> float:
    """Euclidean norm of all floating-point arrays together, or of their difference from `start`; in float64."""
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for name, array in arrays.items():
            if array.dtype.kind != "f":
                continue  # counters
            olds = repeat(0.0) if start is None else blocks(start[name])
            for new, old in zip(blocks(array), olds, strict=False):
                change = np.subtract(new, old, dtype=np.float64)
                total += float(np.dot(change, change))
    return math.sqrt(total) if math.isfinite(total) else math.inf


def shortened(arrays: Arrays, start: Arrays, *, share: float) -> Arrays:
    """start + share * (arrays - start) in new arrays; counters stay as they are."""
    return {
        name: (start[name] + share * (array - start[name])).astype(array.dtype) if array.dtype.kind == "f" else array
        for name, array in arrays.items()
    }


def lower_median(sizes: Sequence[float]) -> float | None:
    """Median, of an even number the lower of the middle two: of two clients the larger one must not decide."""
    return sorted(sizes)[(len(sizes) - 1) // 2] if sizes else None


@contextmanager
def held_on_disk(updates: Iterator[Update], *, folder: Path | None) -> Iterator[tuple[list[float], Iterator[Update]]]:
    """Yield the sizes of all updates, and the updates, read again one by one in the order of their partitions.

    The file has no name, so that nothing of it is left however the process ends.
    """
    entries: dict[int, tuple[int, list[str], dict[str, float]]] = {}
    with tempfile.TemporaryFile(dir=folder) as file:
        for update in updates:
            entries[update.partition_id] = (file.tell(), list(update.arrays), update.metrics)
            for array in update.arrays.values():
                np.lib.format.write_array(file, array, allow_pickle=False)
            del update

        def read() -> Iterator[Update]:
            for partition_id, (offset, names, metrics) in sorted(entries.items()):
                file.seek(offset)
                yield Update(
                    partition_id,
                    {name: np.lib.format.read_array(file, allow_pickle=False) for name in names},
                    metrics,
                )

        yield [metrics[SIZE] for _, _, metrics in entries.values()], read()


def check_growth(arrays: Arrays, start: Arrays, *, server_round: int) -> None:
    """Reject global weights that no training makes, before they are saved.

    Raises:
        FederationError: if their norm is beyond `MOST_GROWTH` times that of `start`.
    """
    before, after = norm(start), norm(arrays)
    if before > 0 and not after <= MOST_GROWTH * before:
        raise FederationError(
            f"Round {server_round} would make the weights {after / before:.3g} times as large: it is not saved. "
            "Lower training.lr or strategy.max_update_factor, and leave out a client whose update_norm stands out."
        )
