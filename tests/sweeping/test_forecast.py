"""A dry run of a sweep tells what is done and open, and leaves nothing behind."""

import json
import statistics
from pathlib import Path

import pytest

from fedvssl import sweep
from fedvssl.files.progress import clock
from fedvssl.sweeping.forecast import _estimate
from fedvssl.sweeping.plan import PRETRAIN, Cell, Step
from tests.stand_in import StandIn

TWO_SEEDS = "seeds=[1,2]"


def test_a_dry_run_tells_what_is_open_and_runs_nothing(
    words: list[str], commands: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert sweep.main([*words, "--dry_run"]) == 0
    printed = capsys.readouterr().out
    assert "| random-seed1-split1 | - | open | open | - |" in printed and commands.modules == []
    assert "7 of 7 steps are open: 2 retrieval, 2 linear_probe, 1 pretrain, 2 finetune." in printed
    assert printed.startswith("composing the commands of seeds 1/1"), "with many rows it takes a minute"
    assert "No step of these kinds is done" in printed and not (tmp_path / "sweep/results").exists()
    assert sweep.main([*words, "measures.finetune.rows=[]"]) == 0
    path = tmp_path / "sweep/results/random-seed1-split1.json"
    path.write_text(json.dumps({"retrieval": {**json.loads(path.read_text())["retrieval"], "seconds": 60.0}}))
    capsys.readouterr()
    assert sweep.main([*words, TWO_SEEDS, "--dry_run"]) == 0
    printed = capsys.readouterr().out
    assert "| random-seed1-split1 | - | done | open | - |" in printed
    assert printed.endswith("\nSamples seen in pre-training: fedvssl_09_1 40.\n")
    assert "without finetune, of which none is done" in printed and "2 retrieval" in printed
    cells = [json.loads(path.read_text()) for path in (tmp_path / "sweep/results").glob("*.json")]
    known = [cell["linear_probe"]["seconds"] for cell in cells if "linear_probe" in cell]
    (other,) = (cell["retrieval"]["seconds"] for cell in cells if cell["retrieval"]["seconds"] != 60.0)
    seconds = 60.0 + other + 3 * statistics.median(known)
    seconds += cells[0].get("pretrain", cells[1].get("pretrain", {}))["seconds"]
    assert f". About {clock(seconds)}, by the median" in printed and seconds >= 60
    assert sweep.main([*words, "--dry_run", "rounds=3"]) == 2, "a mistake is told"


def test_a_dry_run_leaves_the_lists_of_a_sweep_alone(words: list[str], commands: StandIn, tmp_path: Path) -> None:
    own = [*(word for word in words if word != "rows.alone=null"), "measures.finetune.rows=[]"]
    assert sweep.main(own) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "sweep").rglob("*") if path.is_file()}
    assert sweep.main([*own, "rows.alone.alone=2", "--dry-run"]) == 2, "results of other settings"
    assert sweep.main([*own, "--dry_run"]) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "sweep").rglob("*") if path.is_file()} == before


def test_a_row_is_estimated_by_its_own_steps_where_some_are_done() -> None:
    """A pooled run takes ten times as long as a federated one, and the row alone has done nothing yet."""
    cells = [Cell(row, seed, 1) for row in ("pooled", "federated", "alone") for seed in (1, 2, 3)]
    steps = [Step(cell, PRETRAIN, PRETRAIN, [], {}, Path()) for cell in cells]
    seconds = {Cell("pooled", 1, 1): 1000, Cell("federated", 1, 1): 100, Cell("federated", 2, 1): 120}
    results = {cell: {PRETRAIN: {"seconds": taken}} for cell, taken in seconds.items()}
    still_open = [step for step in steps if step.cell not in seconds]
    expected = 2 * 1000 + 1 * 110 + 3 * 120
    assert f" About {clock(expected)}, by" in _estimate(steps, still_open, results)
