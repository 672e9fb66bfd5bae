"""Tables of results in the report."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from fedvssl.reporting import results as shown
from fedvssl.reporting.folders import Folder


def table_of(*seeds: int) -> str:
    """The table of one checkpoint, evaluated with these seeds."""
    folder = Folder(path=Path("run"), label="mine", config={}, records=[], environment=[], evaluations=[], test=None)
    facts: dict[str, Any] = {"dataset": "ucf101", "split": 1, "checkpoint": "run/round-2-weights.npz"}
    results = [{**facts, "seed": seed, "rows": {"checkpoint": {"R@1": seed / 10}}} for seed in seeds]
    return shown.evaluation_table([(folder, result) for result in results])


def test_checkpoints_are_told_apart_by_their_seed_where_it_varies() -> None:
    both = table_of(7, 8)
    assert all(f"mine, round-2-weights.npz, seed {seed}" in both for seed in (7, 8))
    assert "round-2-weights.npz" in table_of(7) and "seed" not in table_of(7)


def test_a_result_of_an_earlier_version_says_that_its_intervals_are_over_videos() -> None:
    facts: dict[str, Any] = {"dataset": "ucf101", "split": 1, "checkpoint": "run/round-2-weights.npz", "seed": 7}
    measured = {row: {"R@1": 0.5} for row in ("checkpoint", "random")}
    old = {**facts, "rows": measured, "intervals": {row: {"R@1": [0.4, 0.6]} for row in measured}}
    new = {**old, "num_groups": 9, "intervals": {row: {"R@1": [0.3, 0.7]} for row in measured}}
    test = {**facts, "num_videos": 11, "top1_acc": 0.5, "intervals": {"top1_acc": [0.4, 0.6]}}
    folders = {name: Folder(Path(name), name, {}, [], [], [], None) for name in ("now", "then")}
    html = shown.evaluation_table([(folders["now"], new), (folders["then"], old)])
    assert "then, round-2-weights.npz (interval over single videos)" in html and html.count("single videos") == 2
    pairs = (("now", {**test, "num_groups": 9}), ("then", test))
    html = shown.test_table([replace(folders[name], test=own) for name, own in pairs])
    assert "then (interval over single videos)" in html and html.count("single videos") == 1
    assert "single videos" not in shown.evaluation_table([(folders["then"], old)])
