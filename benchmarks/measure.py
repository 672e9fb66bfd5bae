"""Method of the benchmarks: both sides in turn after a warm-up; medians, and quartiles as the spread."""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import get_context

from fedvssl.files.parent import end_with_parent

TOLERANCE = 0.15  # the targets were not set for a baseline that is further from its published figure


@dataclass(frozen=True)
class Result:
    """Both sides of one comparison.

    Args:
        name, unit: as in the table; `unit` is that of the values.
        ours, baseline: one value for each repetition, never empty.
        more_is_better: of the values; false for seconds and bytes.
        target: required ratio; None if there is none.
        published: figure of the baseline on two Zen 4 cores, in `unit`; None if it is not known.
        note: one line for the table.
    """

    name: str
    unit: str
    ours: list[float]
    baseline: list[float]
    more_is_better: bool = False
    target: float | None = None
    published: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        """Factor by which ours does more per second or per byte."""
        ours, baseline = statistics.median(self.ours), statistics.median(self.baseline)
        return ours / baseline if self.more_is_better else baseline / ours

    @property
    def counts(self) -> bool:
        """True if the baseline is about as fast as the one that the target was set for."""
        if self.published is None:
            return True
        return abs(statistics.median(self.baseline) / self.published - 1) <= TOLERANCE

    def to_json(self) -> dict:
        """Medians, quartiles, ratio and the facts of the target, for the JSON."""
        return {
            "ours": statistics.median(self.ours),
            "baseline": statistics.median(self.baseline),
            "ratio": self.ratio,
            "unit": self.unit,
            "ours_quartiles": quartiles(self.ours),
            "baseline_quartiles": quartiles(self.baseline),
            "target": self.target,
            "baseline_published": self.published,
            "counts": self.counts,
            "note": self.note,
        }

    def line(self) -> str:
        """ "loader  ours 1.9 [1.8 1.9] ms  baseline 13.8 [13.7 14.0] ms  7.3x, target 5x" """
        told = f"{self.ratio:.2f}x" + (f", target {self.target:g}x" if self.target else "")
        if not self.counts:
            told += f"; DOES NOT COUNT: the baseline should take {self.published:g} {self.unit}"
        sides = f"ours {spread(self.ours)}  baseline {spread(self.baseline)} {self.unit}"
        return f"{self.name:16}{sides}  {told}" + (f"  ({self.note})" if self.note else "")


def alternate(
    sides: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each side, run in turn, so that other work on the machine slows all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(-warm_up, repeats):
        for name, run in sides.items():
            started = clock()
            run()
            if repeat >= 0:
                seconds[name].append(clock() - started)
    return seconds


def quartiles(values: list[float]) -> list[float]:
    """First and third quartile."""
    if len(values) < 2:
        return [values[0], values[0]]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return [first, third]


def spread(values: list[float]) -> str:
    """Median and quartiles: "13.9 [13.7 14.2]"."""
    low, high = quartiles(values)
    return f"{statistics.median(values):.4g} [{low:.4g} {high:.4g}]"


def peak_memory(work: Callable[[], object]) -> int:
    """Peak memory of `work` in bytes, run in its own process, beyond the memory which that process has before."""
    with get_context("fork").Pool(1, initializer=end_with_parent) as pool:
        return pool.apply(_peak_of, (work,))


def _peak_of(work: Callable[[], object]) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work()
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
