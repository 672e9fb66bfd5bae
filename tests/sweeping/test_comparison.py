"""The one maker of result tables."""

from pathlib import Path

import numpy as np
import pytest

from fedvssl.evaluation.intervals import interval, wilson
from fedvssl.sweeping.comparison import (
    Entry,
    aligned,
    cells,
    conditions,
    draw,
    latex,
    markdown,
    recall_of_chance,
    single,
    to_csv,
)
from fedvssl.sweeping.tables import interval_of

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
    table = single({"a": {"top1_acc": 0.125, "R@1": 0.5}}, COLUMNS, {"a": {"R@1": [0.4, 0.6]}, "b": {}})
    assert cells(table, COLUMNS) == [["a", "12.50", "50.00 [40.0, 60.0]"]]


@pytest.mark.parametrize(
    ("entry", "text", "bars"),
    [
        (Entry([0.412], 1, [0.331, 0.498]), "41.20 [33.1, 49.8]", (0.081, 0.086)),
        (Entry([0.412], 3, [0.331, 0.498]), "41.20 [33.1, 49.8] (1 of 3)", (0.081, 0.086)),
        (Entry([0.5, 0.6], 2), "55.00 +- 7.07", (0.0707, 0.0707)),
        (Entry([0.5], 1), "50.00", (0, 0)),
        (Entry([0.0], 1, [1e-18, 0.1]), "0.00 [0.0, 10.0]", (0, 0.1)),
    ],
)
def test_one_run_has_an_interval_and_several_have_a_deviation(entry: Entry, text: str, bars: tuple) -> None:
    assert entry.text() == text
    assert entry.error_bars() == pytest.approx(bars, abs=1e-4) and min(entry.error_bars()) >= 0


def test_the_csv_has_the_ends_and_the_picture_is_drawn(tmp_path: Path) -> None:
    table = {**TABLE, "one": single({"one": {"R@1": 0.0}}, COLUMNS, {"one": {"R@1": [0.0, 0.25]}})["one"]}
    lines = to_csv(table, part="validation").splitlines()
    assert lines[0] == "row,column,mean,standard_deviation,low,high,done,planned,part"
    assert "ours,top1_acc,0.550000,0.070711,,,2,2,validation" in lines
    assert "one,R@1,0.000000,,0.000000,0.250000,1,1,validation" in lines
    draw(tmp_path / "x.png", table, COLUMNS)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "change",
    [
        *({"split": 2}, {"num_videos": 9}, {"settings": {"test_sample": {"crop_size": 32}}}),
        *({"part": "validation"}, {"part": "validation", "validation_seed": 1}),
    ],
)
def test_results_of_other_conditions_share_no_table(change: dict) -> None:
    result = {"dataset": "d", "split": 1, "num_videos": 8, "num_classes": 2, "num_clips": 10, "top1_acc": 0.5}
    assert conditions(result) == conditions({**result, "top1_acc": 0.7, "checkpoint": "another"})
    assert conditions(result) != conditions({**result, **change})
    assert conditions(result) == conditions({**result, "part": "test"}), "earlier versions had no other part"


def test_recall_of_chance_is_that_of_random_draws() -> None:
    gallery, queries = [0] * 5 + [1] * 3 + [2] * 2, [0, 1, 1, 2]
    rng = np.random.default_rng(0)
    draws = np.array([rng.permutation(gallery)[:3] for _ in range(20000)])
    drawn = np.mean([(draws == label).any(axis=1).mean() for label in queries])
    assert recall_of_chance(3, gallery=gallery, queries=queries) == pytest.approx(drawn, abs=0.01)
    assert recall_of_chance(50, gallery=gallery, queries=queries) == 1


def test_a_cell_of_an_earlier_version_gets_its_interval_from_its_digits_or_none() -> None:
    groups = ["a", "a", "b", "b", "c", "c"]
    cell = {"intervals": {"R@1": list(wilson(0.5, 6))}, "right": {"R@1": "110010"}}
    found = interval_of(cell, "R@1", groups)
    assert found == interval([True, True, False, False, True, False], groups) != wilson(0.5, 6)
    assert interval_of({"intervals": cell["intervals"]}, "R@1", groups) is None
    assert interval_of(cell, "R@1", groups[:-1]) is None and interval_of(cell, "R@5", groups) is None
