"""Tables of results in the report."""

from pathlib import Path
from typing import Any

from fedvssl.reporting.folders import Folder
from fedvssl.reporting.results import evaluation_table


def table_of(*seeds: int) -> str:
    """The table of one checkpoint, evaluated with these seeds."""
    folder = Folder(path=Path("run"), label="mine", config={}, records=[], environment=[], evaluations=[], test=None)
    facts: dict[str, Any] = {"dataset": "ucf101", "split": 1, "checkpoint": "run/round-2-weights.npz"}
    results = [{**facts, "seed": seed, "rows": {"checkpoint": {"R@1": seed / 10}}} for seed in seeds]
    return evaluation_table([(folder, result) for result in results])


def test_checkpoints_are_told_apart_by_their_seed_where_it_varies() -> None:
    both = table_of(7, 8)
    assert all(f"mine, round-2-weights.npz, seed {seed}" in both for seed in (7, 8))
    assert "round-2-weights.npz" in table_of(7) and "seed" not in table_of(7)
