"""What the benchmarks say about two sides; what they measure is theirs alone."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import learning, round_parts
from benchmarks.measure import Result, alternate
from benchmarks.plain import PlainSample
from fedvssl.building import build_sample
from fedvssl.config import compose
from fedvssl.files.atomic import write_json
from tests.videos import moving_square, write_frames

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("more_is_better", "ratio"), [(True, 0.5), (False, 2.0)])
def test_a_ratio_above_one_means_that_ours_does_more(more_is_better: bool, ratio: float) -> None:
    result = Result("name", "s", ours=[1.0, 1.0, 9.0], baseline=[2.0, 2.0, 0.1], more_is_better=more_is_better)
    assert result.ratio == ratio
    told = json.loads(json.dumps(result.to_json()))
    assert (told["ours"], told["baseline"], told["ratio"], told["unit"]) == (1.0, 2.0, ratio, "s")


@pytest.mark.parametrize(("published", "counts"), [(None, True), (1.75, True), (2.3, True), (1.7, False), (2.4, False)])
def test_a_baseline_that_is_not_the_published_one_does_not_count(published: float | None, counts: bool) -> None:
    result = Result("name", "s", ours=[1.0], baseline=[2.0], published=published)
    assert result.counts == counts and ("DOES NOT COUNT" in result.line()) != counts


def test_sides_take_turns_after_a_warm_up() -> None:
    calls: list[str] = []
    seconds = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert "".join(calls) == "ababab" and len(seconds["a"]) == len(seconds["b"]) == 2


def test_the_parts_of_a_round_do_the_work_of_a_round(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    sent = {"backbone.a.weight": rng.normal(size=(50, 3)).astype(np.float32), "backbone.n": np.array(1)}
    trained = {name: array + 1 for name, array in sent.items()}
    monkeypatch.setattr(round_parts, "backbone_arrays", lambda: (sent, trained))
    results = {result.name.removeprefix("round_"): result for result in round_parts.measure()}
    assert list(results) == ["copying", "checks", "averaging", "saving"] and not list(tmp_path.iterdir())
    assert all(len(result.ours) == len(result.baseline) == round_parts.REPEATS for result in results.values())
    with pytest.raises(ValueError, match="not finite"):
        round_parts.check(sent, {**trained, "backbone.a.weight": np.full((50, 3), np.nan, np.float32)})


MEASURE = """
from functools import partial
import numpy as np
from benchmarks.measure import peak_memory
print(peak_memory(partial(np.ones, 8_000_000)))
"""


def test_peak_memory_is_that_of_the_work_alone() -> None:
    """In a process that has no memory of its own to spare, as the benchmarks have."""
    output = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, check=True, cwd=ROOT).stdout
    assert 60e6 < int(output) < 90e6


def test_the_plain_pipeline_makes_a_clip(tmp_path) -> None:
    path = write_frames(tmp_path / "video.zip", moving_square(num_frames=40, height=240, width=320))
    sample = PlainSample(build_sample(compose("base", [])))
    for seed in range(5):
        made = sample(path, np.random.default_rng(seed))
        assert made["clips"].shape == (3, 16, 112, 112) and made["boxes"].shape == (3, 16, 4)
        assert made["clips"].isfinite().all() and made["clips"].std() > 0.3


def quickstart_table(value: float, *, low: float) -> dict:
    cell, difference = (
        {"value": value},
        {"baseline": "random weights", "difference": value - 0.1, "low": low, "high": 0.9},
    )
    return {"rows": {"pre-trained": {"R@1": cell}, "chance": {}}, "differences": {"R@1": difference}}


def test_learning_counts_the_seeds_whose_interval_excludes_zero() -> None:
    tables = [quickstart_table(0.4, low=0.1), quickstart_table(0.6, low=-0.1)]
    (line,) = learning.summarise(tables)
    assert line.startswith(
        "R@1: pre-trained - random weights +40.0 +- 14.1, above 0 in 1 of 2 seeds: +30.0 [10.0, 90.0]"
    )
    found = learning.entries(tables)
    assert found["pre-trained"]["R@1"].text() == "50.00 +- 14.14" and found["chance"]["R@1"].text() == "-"


def test_learning_does_not_repeat_a_seed_that_has_its_table(tmp_path, monkeypatch) -> None:
    calls = []

    def quickstart(command, **_) -> None:
        calls.append(command)
        write_json(tmp_path / "seed3" / "table.json", {"rows": {}})

    monkeypatch.setattr(learning.subprocess, "run", quickstart)
    assert learning.run_seed(3, tmp_path / "seed3") == learning.run_seed(3, tmp_path / "seed3") == {"rows": {}}
    assert len(calls) == 1 and calls[0][2:4] == ["--seed", "3"]
