"""95 % intervals of accuracies: of one fraction, and of the difference of two backbones on the same test videos.

Videos of one group, such as those of UCF-101 that show one scene, are right or wrong together, so whole groups are
looked at as independent random draws; a video whose name holds no group is a group of its own. Few groups make wide
intervals, after Student's t distribution. They do not cover the spread over seeds of training, which is larger where a
run is short.
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Z = 1.959964  # 97.5 % quantile of the normal distribution
# The same of Student's t distribution with 1, 2, ... degrees of freedom.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
DRAWS = 10_000


class Interval(NamedTuple):
    """Lower and upper end of a 95 % interval, as fractions."""

    low: float
    high: float

    def excludes(self, value: float) -> bool:
        return not self.low <= value <= self.high


class Difference(NamedTuple):
    """Difference of two accuracies as a fraction, with the ends of its 95 % interval."""

    difference: float
    low: float
    high: float

    def text(self) -> str:
        """Text in percentage points: "+12.3 [4.1, 20.5]"."""
        return f"{100 * self.difference:+.1f} {_ends(self[1:])}"


def in_percent(fraction: float, interval: Sequence[float] | None = None) -> str:
    """Text of an accuracy, "41.20", or with the ends of its interval "41.20 [33.1, 49.8]"."""
    return f"{100 * fraction:.2f}" + (f" {_ends(interval)}" if interval else "")


def interval(right: Sequence[bool], groups: Sequence[str]) -> Interval:
    """Wilson's interval of the fraction of right videos, with the number of independent videos that the groups leave.

    Args:
        right: for each test video whether it was classified correctly.
        groups: name of the group of each.

    Raises:
        ValueError: if there is no video, or not a group for each.
    """
    number = effective_number(right, groups)
    return wilson(sum(right) / len(right), number)


def mean_interval(values: Sequence[float], groups: Sequence[str]) -> Interval:
    """Student's interval of a mean of fractions, such as overlaps, with the scatter of whole groups; one tells nothing.

    Args:
        values: 0..1, one for each object.
        groups: name of the group of each, such as its picture.

    Raises:
        ValueError: if there is no value, or not a group for each.
    """
    of_value, sizes = _groups(values, groups)
    mean, number = float(np.mean(values)), len(sizes)
    if number == 1:
        return Interval(0.0, 1.0)
    beyond = np.bincount(of_value, weights=np.asarray(values) - mean)
    error = math.sqrt(number / (number - 1) * float((beyond**2).sum())) / len(values)
    half = student(number - 1) * error
    return Interval(max(mean - half, 0.0), min(mean + half, 1.0))


def effective_number(right: Sequence[bool], groups: Sequence[str]) -> float:
    """Number of independent videos whose fraction of right ones scatters as much as that of these groups.

    The number of videos divided by the design effect (Kish, Survey Sampling, 1965), with the variance of the ratio
    estimator over groups, and by (t / z)^2 for few groups (Korn and Graubard, Survey Methodology, 1998).

    Where all videos are right or none is, nothing is known of this scatter, and each group counts as one video, as if
    its videos were always right together. Right or wrong videos that are fewer than a group has on average, the rarer
    ones of the two, tell little: the inverse of the number goes linearly in their number from the one to the other.

    Raises:
        ValueError: if there is not a group for each video.
    """
    of_video, sizes = _groups(right, groups)
    if len(sizes) == len(right):
        return len(right)
    fraction, rarer = sum(right) / len(right), min(sum(right), len(right) - sum(right))
    if rarer == 0 or len(sizes) == 1:
        return len(sizes)
    beyond = np.bincount(of_video, weights=right) - fraction * sizes  # right videos of a group, beyond the expected
    variance = len(sizes) / (len(sizes) - 1) * (beyond**2).sum() / len(right) ** 2
    number = min(fraction * (1 - fraction) / variance, len(right)) if variance else len(right)
    number = float(max(number * (Z / student(len(sizes) - 1)) ** 2, 1))
    known = rarer * len(sizes) / len(right)  # in groups of average size
    return number if known >= 1 else 1 / (known / number + (1 - known) / len(sizes))


def wilson(fraction: float, num_videos: float) -> Interval:
    """Wilson's score interval of a fraction of videos (Wilson, JASA 1927); unlike +-1.96 sd it stays within 0..1.

    Args:
        fraction: right videos divided by all videos, 0..1.
        num_videos: of independent videos, at least 1.
    """
    assert 0 <= fraction <= 1 and num_videos >= 1, f"{fraction} of {num_videos} videos"
    shrunk = 1 + Z**2 / num_videos
    center = (fraction + Z**2 / (2 * num_videos)) / shrunk
    half = Z * math.sqrt(fraction * (1 - fraction) / num_videos + Z**2 / (4 * num_videos**2)) / shrunk
    return Interval(max(center - half, 0.0), min(center + half, 1.0))


def paired_difference(
    right: Sequence[bool], baseline: Sequence[bool], groups: Sequence[str], *, seed: int = 0
) -> Difference:
    """Paired bootstrap over groups: 2.5 % and 97.5 % percentiles of the mean difference over resampled groups.

    Their distances from the difference are stretched for few groups, by t / z and the bias of the variance. One group
    tells nothing: its interval is -1 to 1.

    Args:
        right, baseline: for each test video, in the same order, whether it was classified correctly.
        groups: name of the group of each.
        seed: of the resampling.

    Raises:
        ValueError: if the two are not of the same number of videos, or of none, or there is not a group for each.
    """
    if len(right) != len(baseline) or not len(right):
        raise ValueError(f"{len(right)} and {len(baseline)} test videos cannot be compared in pairs.")
    differences = np.asarray(right, dtype=np.int64) - np.asarray(baseline, dtype=np.int64)
    mean, (of_video, sizes) = float(differences.mean()), _groups(right, groups)
    if len(sizes) == 1 < len(right):
        return Difference(mean, -1.0, 1.0)
    sums = np.bincount(of_video, weights=differences)
    # Drawing G groups with replacement is drawing how many of each kind, (sum of differences, size), are among them.
    kinds, counts = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(sizes), counts / len(sizes), size=DRAWS)
    low, high = np.percentile((draws @ kinds[:, 0]) / (draws @ kinds[:, 1]), [2.5, 97.5])
    few = len(sizes) < len(right)
    stretch = student(len(sizes) - 1) / Z * math.sqrt(len(sizes) / (len(sizes) - 1)) if few else 1.0
    low, high = (mean + stretch * (float(end) - mean) for end in (low, high))
    return Difference(mean, max(low, -1.0), min(high, 1.0))


def mean_over_runs(runs: Sequence[Difference]) -> Difference:
    """Mean of the differences of several runs, as of independent draws; one run keeps its own interval.

    Its interval has the farther ends of two: Student's over the runs, and the mean of the runs' own over the videos,
    because a few runs may agree by chance.

    Args:
        runs: one difference for each seed and split, at least one.
    """
    if len(runs) == 1:
        return runs[0]
    values, lows, highs = zip(*runs, strict=True)
    mean = statistics.mean(values)
    half = student(len(runs) - 1) * statistics.stdev(values) / math.sqrt(len(runs))
    return Difference(mean, min(mean - half, statistics.mean(lows)), max(mean + half, statistics.mean(highs)))


def student(freedom: int) -> float:
    """97.5 % quantile of Student's t distribution; beyond the table by Fisher's expansion around the normal one."""
    if freedom <= len(STUDENT):
        return STUDENT[freedom - 1]
    return Z + (Z**3 + Z) / (4 * freedom) + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * freedom**2)


def _groups(right: Sequence[float], groups: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Number of the group of each video, and the sizes of the groups."""
    if len(right) != len(groups) or not len(right):
        raise ValueError(f"{len(right)} test videos and {len(groups)} names of groups: there must be one for each.")
    _, of_video, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    return of_video, sizes


def _ends(interval: Sequence[float]) -> str:
    return f"[{', '.join(f'{100 * end:.1f}' for end in interval)}]"
