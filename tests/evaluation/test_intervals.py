"""Intervals cover what they say they cover, and fit the text-book values."""

import numpy as np
import pytest

from fedvssl.evaluation import intervals
from fedvssl.evaluation.intervals import (
    Difference,
    effective_number,
    in_percent,
    interval,
    mean_interval,
    mean_over_runs,
    paired_difference,
    student,
    wilson,
)


@pytest.fixture
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand resamplings for each of hundreds of intervals: the coverage counts, not the third digit of one."""
    monkeypatch.setattr(intervals, "DRAWS", 1000)


def alone(number: int) -> list[str]:
    """Each video is a group of its own."""
    return [f"v{n}" for n in range(number)]


def scenes(rng: np.random.Generator, *, sizes: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Probability that a video is right, the same in each group, and the groups."""
    of_group = rng.beta(1, 1, size=len(sizes))
    return np.repeat(of_group, sizes), [f"g{n}" for n in np.repeat(np.arange(len(sizes)), sizes)]


@pytest.mark.parametrize(
    ("right", "num_videos", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_is_the_interval_of_the_text_books(right: int, num_videos: int, low: float, high: float) -> None:
    assert wilson(right / num_videos, num_videos) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_wilson_covers_the_truth_in_about_95_of_100_test_sets(probability: float) -> None:
    drawn = np.random.default_rng(3).binomial(60, probability, size=4000) / 60
    covered = np.mean([not wilson(fraction, 60).excludes(probability) for fraction in drawn.tolist()])
    assert 0.93 < covered < 0.975


def test_paired_difference_agrees_with_resampling_every_video() -> None:
    rng = np.random.default_rng(5)
    right, baseline = rng.random(150) < 0.6, rng.random(150) < 0.4
    found = paired_difference(right.tolist(), baseline.tolist(), alone(150))
    videos = rng.integers(150, size=(10_000, 150))
    slow = np.percentile(right[videos].mean(axis=1) - baseline[videos].mean(axis=1), [2.5, 97.5])
    assert found.difference == pytest.approx(right.mean() - baseline.mean())
    assert (found.low, found.high) == pytest.approx(slow, abs=0.015)


def test_paired_difference_is_narrower_than_two_intervals_where_the_same_videos_are_right() -> None:
    baseline = [True] * 60 + [False] * 60
    better = [True] * 70 + [False] * 50
    found = paired_difference(better, baseline, alone(120))
    assert found.low > 0
    assert wilson(70 / 120, 120).low < wilson(0.5, 120).high, "unpaired, the two cannot be told apart"


def test_nothing_changes_between_equal_answers() -> None:
    assert paired_difference([True, False], [True, False], alone(2)) == (0, 0, 0)


def test_paired_difference_rejects_other_videos() -> None:
    with pytest.raises(ValueError, match=r"2 and 3 test videos cannot be compared in pairs"):
        paired_difference([True, False], [True, False, True], alone(3))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (in_percent(0.412), "41.20"),
        (in_percent(0.412, (0.3312, 0.4979)), "41.20 [33.1, 49.8]"),
        (in_percent(1, [0.7225, 1]), "100.00 [72.2, 100.0]"),
        (Difference(0.123, 0.041, 0.205).text(), "+12.3 [4.1, 20.5]"),
        (Difference(-0.02, -0.1, 0.06).text(), "-2.0 [-10.0, 6.0]"),
    ],
)
def test_texts_are_in_percent(text: str, expected: str) -> None:
    assert text == expected


def test_the_interval_over_runs_is_the_one_of_the_text_books() -> None:
    runs = [Difference(value, value, value) for value in (0.1, 0.2, 0.3, 0.4)]
    half = 3.182 * np.std([0.1, 0.2, 0.3, 0.4], ddof=1) / 2
    assert mean_over_runs(runs) == pytest.approx((0.25, 0.25 - half, 0.25 + half))
    assert mean_over_runs([Difference(0.1, -0.1, 0.2)]) == Difference(0.1, -0.1, 0.2)


def test_the_interval_over_runs_covers_the_truth_in_about_95_of_100() -> None:
    rng = np.random.default_rng(2)
    for number in (2, 3, 5, 14):
        drawn = rng.normal(0.1, 0.05, size=(2000, number))
        found = [mean_over_runs([Difference(value, value, value) for value in values]) for values in drawn.tolist()]
        assert 0.935 < np.mean([one.low <= 0.1 <= one.high for one in found]) < 0.98


@pytest.mark.usefixtures("fewer_draws")
def test_intervals_over_groups_cover_the_truth_where_those_over_videos_do_not() -> None:
    """Groups of 1 to 9 videos that are right together; the truth is one half, or no difference."""
    rng, covered = np.random.default_rng(4), {"groups": [], "videos": [], "paired": [], "paired videos": []}
    for _ in range(400):
        sizes = rng.integers(1, 10, size=40)
        probability, groups = scenes(rng, sizes=sizes)
        other, _ = scenes(rng, sizes=sizes)
        right, baseline = ((rng.random(len(p)) < p).tolist() for p in (probability, other))
        covered["groups"].append(not interval(right, groups).excludes(0.5))
        covered["videos"].append(not interval(right, alone(len(right))).excludes(0.5))
        for name, by in {"paired": groups, "paired videos": alone(len(right))}.items():
            found = paired_difference(right, baseline, by)
            covered[name].append(found.low <= 0 <= found.high)
    rates = {name: np.mean(each) for name, each in covered.items()}
    assert rates["groups"] > 0.91 and rates["paired"] > 0.91, rates
    assert rates["videos"] < 0.86 and rates["paired videos"] < 0.86, rates


def test_the_number_of_independent_videos() -> None:
    groups = ["a", "a", "b", "b", "c", "c", "d", "d"]
    few = (1.959964 / 3.182) ** 2  # four groups
    assert effective_number([True, True, False, False, True, True, False, False], groups) == pytest.approx(3 * few)
    assert effective_number([True] * 8, groups) == 4
    assert effective_number([True, False] * 4, groups) == pytest.approx(8 * few)
    assert effective_number([True, False] * 4, alone(8)) == 8 and effective_number([True, False], ["a", "a"]) == 1
    assert interval([True] * 8, groups) == wilson(1.0, 4)


@pytest.mark.usefixtures("fewer_draws")
@pytest.mark.parametrize("number", [2, 3, 4, 6, 9])
def test_intervals_over_few_groups_are_wide_enough(number: int) -> None:
    rng, covered = np.random.default_rng(number), {"one": [], "paired": []}
    for _ in range(300):
        sizes = rng.integers(3, 10, size=number)
        (probability, groups), (other, _) = (scenes(rng, sizes=sizes) for _ in range(2))
        right, baseline = ((rng.random(len(p)) < p).tolist() for p in (probability, other))
        covered["one"].append(not interval(right, groups).excludes(0.5))
        found = paired_difference(right, baseline, groups)
        covered["paired"].append(found.low <= 0 <= found.high)
    assert min(np.mean(each) for each in covered.values()) > 0.9, {n: np.mean(each) for n, each in covered.items()}


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(("number", "size"), [(40, 3), (20, 10), (9, 6)])
def test_a_few_right_videos_do_not_make_the_interval_jump(number: int, size: int, together: bool) -> None:
    groups = np.repeat(np.arange(number), size).astype(str).tolist()
    order = np.arange(number * size) if together else np.arange(number * size).reshape(number, size).T.ravel()
    widths = []
    for count in range(2 * size):
        right = np.isin(np.arange(number * size), order[:count]).tolist()
        found, opposite = interval(right, groups), interval([not one for one in right], groups)
        assert (1 - opposite.high, 1 - opposite.low) == pytest.approx(found)
        assert effective_number(right, groups) <= number * size
        widths.append(found.high - found.low)
    steps = np.array(widths[1:]) / np.array(widths[:-1])
    assert steps.min() > 0.75 and steps.max() < 1.4, steps


@pytest.mark.parametrize(("truth", "alike"), [(0.02, 0.4), (0.02, 1.0), (0.98, 0.4), (0.01, 0.1)])
def test_intervals_cover_a_truth_near_the_ends(truth: float, alike: float) -> None:
    """100 groups of 1 to 9 videos; `alike` is the correlation of two videos of a group."""
    rng, covered = np.random.default_rng(6), []
    for _ in range(400):
        sizes = rng.integers(1, 10, size=100)
        of_group = rng.random(100) < truth
        if alike < 1:
            of_group = rng.beta(truth * (1 / alike - 1), (1 - truth) * (1 / alike - 1), size=100)
        probability, groups = np.repeat(of_group, sizes), np.repeat(np.arange(100), sizes).astype(str).tolist()
        covered.append(not interval((rng.random(len(probability)) < probability).tolist(), groups).excludes(truth))
    assert np.mean(covered) > 0.92


def test_one_group_tells_nothing_of_a_difference() -> None:
    assert paired_difference([True, True, False], [False, True, False], ["g"] * 3) == (pytest.approx(1 / 3), -1, 1)


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.706), (5, 2.571), (6, 2.447), (10, 2.228), (30, 2.042)])
def test_student_is_that_of_the_text_books(freedom: int, quantile: float) -> None:
    assert student(freedom) == pytest.approx(quantile, abs=0.004)


def test_there_must_be_a_group_for_each_video() -> None:
    with pytest.raises(ValueError, match="3 test videos and 2 names of groups"):
        interval([True, False, True], ["a", "b"])
    with pytest.raises(ValueError, match="2 test videos and 3 names of groups"):
        paired_difference([True, False], [True, True], ["a", "b", "c"])


def test_runs_that_agree_by_chance_keep_the_intervals_over_their_videos() -> None:
    assert mean_over_runs([Difference(0.05, -0.1, 0.2), Difference(0.05, -0.2, 0.3)]) == pytest.approx(
        (0.05, -0.15, 0.25)
    )


def test_the_interval_of_a_mean_covers_it_in_19_of_20_draws_of_groups() -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(300):
        centres = rng.uniform(0.4, 0.8, 8)
        values = np.repeat(centres, 5) + rng.uniform(-0.1, 0.1, 40)
        low, high = mean_interval(values.tolist(), [str(n) for n in np.repeat(range(8), 5)])
        hits += low <= 0.6 <= high
    assert 270 <= hits <= 297
    assert mean_interval([0.1, 0.9], ["a", "a"]) == (0.0, 1.0), "one group tells nothing"
    assert mean_interval([0.5, 0.5, 0.5], ["a", "b", "c"]) == (0.5, 0.5)
