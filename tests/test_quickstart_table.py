"""The quickstart's table: from the files of its commands to text and table.json."""

import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fedvssl.evaluation.intervals import paired_difference, wilson
from fedvssl.files.atomic import write_json
from fedvssl.files.predictions import write_predictions
from tests.test_scripts import load

RIGHT = {"finetuned": [True] * 80 + [False] * 40, "scratch": [False] * 20 + [True] * 50 + [False] * 50}


NAMES = [f"A/v_A_g{n // 4 + 1:02}_c{n % 4 + 1:02}" for n in range(120)]  # groups of four


def write_work_dir(work_dir: Path, *, names: dict[str, list[str]] | None = None) -> Path:
    accs = {"checkpoint": 0.5, "random": 0.25, "mean frame": 0.2}
    for protocol, metric in (("retrieval", "R@1"), ("linear_probe", "top1_acc"), ("motion_probe", "top1_acc")):
        found = {
            **{"dataset": "small", "num_train": 96, "num_test": 120, "num_groups": 30},
            **{"checkpoint": "pretraining/round-20-weights.npz", "seed": 7},
            "rows": {row: {metric: acc} for row, acc in accs.items()},
            "intervals": {row: {metric: list(wilson(acc, 120))} for row, acc in accs.items()},
            "chance": {metric: 0.125} if protocol == "motion_probe" else {},
            "differences": {
                metric: {"difference": 0.25, "low": -0.01 if protocol == "retrieval" else 0.2, "high": 0.3}
            },
        }
        write_json(work_dir / "pretraining/evaluation/round-20-weights-small-split1" / f"{protocol}.json", found)
    (work_dir / "pretraining/round-20-weights.npz").touch()
    for folder, right in RIGHT.items():
        acc, third = sum(right) / 120, {"top1_acc": 1 / 3}
        found = {"top1_acc": acc, "intervals": {"top1_acc": list(wilson(acc, 120))}}
        write_json(work_dir / folder / "test.json", {**found, "majority_class": third, "chance": {"top1_acc": 1 / 6}})
        videos = (names or {}).get(folder, NAMES)
        write_predictions(
            *(work_dir / folder / "predictions.csv", videos),
            labels=[0] * 120,
            answers=[1 - hit for hit in right],
            right={"top1_acc": right, "top5_acc": right},
        )
    return work_dir


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.setattr(sys, "argv", ["quickstart_table.py", str(tmp_path)])
    return load("quickstart_table")


def test_the_table_and_its_json(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_work_dir(tmp_path)
    assert script.main() == 0
    report = json.loads((tmp_path / "table.json").read_text())
    low, high = wilson(0.5, 120)
    assert report["rows"]["pre-trained"]["linear probe"] == {"value": 0.5, "low": low, "high": high}
    assert (
        report["rows"]["from scratch"].keys() == {"fine-tuned"}
        and report["rows"]["random weights"]["R@1"]["value"] == 0.25
    )
    assert report["rows"]["chance"]["motion probe"] == {"value": 0.125}
    assert report["rows"]["majority class"].keys() == {"linear probe", "fine-tuned"}
    paired = paired_difference(RIGHT["finetuned"], RIGHT["scratch"], [name[:-4] for name in NAMES])
    assert paired != paired_difference(RIGHT["finetuned"], RIGHT["scratch"], NAMES)
    assert report["differences"]["fine-tuned"] == {"baseline": "from scratch", **paired._asdict()}
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("120 test videos in 30 groups and 96 training videos; brackets")
    assert lines[0].split("  ")[-1].endswith("(percent)") and "fine-tuned" in lines[0]
    rows = {line.split("  ")[0]: line for line in lines[1:]}
    assert "66.67 [57.8, 74.5]" in rows["pre-trained"] and rows["random weights"].rstrip().endswith("-")
    assert "fine-tuned: pre-trained - from scratch +25.0 [" in "\n".join(lines)
    assert [line for line in lines if "too few test videos" in line] == [
        "R@1: pre-trained - random weights +25.0 [-1.0, 30.0]: too few test videos to tell them apart"
    ]


def test_tests_of_other_videos_are_rejected(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_work_dir(tmp_path, names={"scratch": [f"w{number}" for number in range(120)]})
    assert script.main() == 2
    assert "finetuned and scratch were tested on other videos" in capsys.readouterr().err


def test_a_missing_part_gets_a_sentence(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert script.main() == 2
    assert capsys.readouterr().err.startswith(f"error: No retrieval in {tmp_path / 'pretraining'}")


def write_another(work_dir: Path, **own: object) -> None:
    """A newer linear probe beside the one of the quickstart."""
    places = work_dir / "pretraining/evaluation"
    (place,) = places.glob("*/linear_probe.json")
    content = json.loads(place.read_text())
    rows = {row: {"top1_acc": 0.9} for row in content["rows"]}
    write_json(places / "another/linear_probe.json", {**content, "rows": rows, **own})
    os.utime(places / "another/linear_probe.json", (2e9, 2e9))


def test_an_evaluation_of_another_round_stays_outside(script: ModuleType, tmp_path: Path) -> None:
    write_another(write_work_dir(tmp_path), checkpoint="pretraining/round-5-weights.npz")
    assert script.main() == 0
    report = json.loads((tmp_path / "table.json").read_text())
    assert report["rows"]["pre-trained"]["linear probe"]["value"] == 0.5


def test_evaluations_of_other_seeds_are_refused(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_another(write_work_dir(tmp_path), seed=8)
    assert script.main() == 2
    assert "differ in seed, so they cannot stand in one table: run scripts/quickstart.sh" in capsys.readouterr().err
