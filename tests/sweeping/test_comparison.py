"""The one maker of result tables."""

import numpy as np
import pytest

from fedvssl.sweeping.comparison import Entry, aligned, cells, conditions, latex, markdown, recall_of_chance, single

COLUMNS = {"top1_acc": "top-1", "R@1": "R@1"}
TABLE = {
    "ours": {"top1_acc": Entry([0.5, 0.6], planned=2), "R@1": Entry([0.25], planned=3)},
    "chance_": {"top1_acc": Entry([], planned=1), "R@1": Entry([], planned=0)},
}


def test_every_form_shows_the_same_cells() -> None:
    expected = [["ours", "55.00 +- 7.07", "25.00 (1 of 3)"], ["chance_", "open", "-"]]
    assert cells(TABLE, COLUMNS) == expected
    assert markdown(TABLE, COLUMNS).splitlines()[2] == f"| {' | '.join(expected[0])} |"
    assert "chance\\_ & open & -" in latex(TABLE, COLUMNS) and "55.00 $\\pm$ 7.07" in latex(TABLE, COLUMNS)


def test_plain_text_is_aligned_to_the_widest_cell() -> None:
    lines = aligned(TABLE, COLUMNS).splitlines()
    assert lines[0].endswith("   (percent)")
    assert len({len(line) for line in (lines[0].removesuffix("   (percent)"), *lines[1:])}) == 1
    assert lines[2].startswith("chance_  ") and lines[2].endswith(" -")


def test_one_measurement_in_a_cell_and_none_where_nothing_was_measured() -> None:
    table = single({"a": {"top1_acc": 0.125, "R@1": None}, "b": {"R@1": 1.0, "other": 3.0}}, COLUMNS)
    assert cells(table, COLUMNS) == [["a", "12.50", "-"], ["b", "-", "100.00"]]


@pytest.mark.parametrize("change", [{"split": 2}, {"num_videos": 9}, {"settings": {"test_sample": {"crop_size": 32}}}])
def test_results_of_other_conditions_share_no_table(change: dict) -> None:
    result = {"dataset": "d", "split": 1, "num_videos": 8, "num_classes": 2, "num_clips": 10, "top1_acc": 0.5}
    assert conditions(result) == conditions({**result, "top1_acc": 0.7, "checkpoint": "another"})
    assert conditions(result) != conditions({**result, **change})


def test_recall_of_chance_is_that_of_random_draws() -> None:
    gallery, queries = [0] * 5 + [1] * 3 + [2] * 2, [0, 1, 1, 2]
    rng = np.random.default_rng(0)
    draws = np.array([rng.permutation(gallery)[:3] for _ in range(20000)])
    drawn = np.mean([(draws == label).any(axis=1).mean() for label in queries])
    assert recall_of_chance(3, gallery=gallery, queries=queries) == pytest.approx(drawn, abs=0.01)
    assert recall_of_chance(50, gallery=gallery, queries=queries) == 1
