"""The verdict: what a run has learned on held-out videos, without labels."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from fedvssl import report, verdict
from fedvssl.building import build_sample, build_task
from fedvssl.data.annotations import Annotation, write_annotations
from fedvssl.data.dataset import stack
from fedvssl.data.seen import PRETRAINING, keep_seen, seen_videos
from fedvssl.files.tensors import load_arrays_into
from fedvssl.held_out import CLIPS, has_one_backbone, measure, pretext
from fedvssl.reporting.verdict import sentence, table
from fedvssl.trained_run import read_trained
from tests.federation import tiny_config, train, write_clients
from tests.videos import moving_square, write_frames

NAMES = [f"Held/out{number}" for number in range(4)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds with two clients, and four videos that no client has."""
    folder = tmp_path_factory.mktemp("verdict")
    write_clients(folder, (3, 4))
    for number, name in enumerate(NAMES):
        frames = moving_square(num_frames=20, height=48, width=56, seed=50 + number)
        write_frames(folder / f"ucf101/zips/{name}.zip", frames)
    lists = folder / "ucf101/annotations"
    write_annotations(lists / "test_split_1.json", [Annotation(name, 0) for name in NAMES])
    trained_on = [Annotation(f"Class0/v0_{number}", 0) for number in range(3)]
    write_annotations(lists / "train_split_1.json", trained_on)
    config = tiny_config(folder, "eval.sample.size=[43,32]", "eval.sample.crop_size=32", num_clients=2)
    train(config, folder / "run")
    keep_seen(folder / "run", seen_videos("ucf101", trained_on, stage=PRETRAINING, allowed=[]))
    (folder / "run/config.yaml").write_text(yaml.safe_dump(config))
    return folder


def held_out_videos() -> list[Annotation]:
    return [Annotation(name, 0) for name in NAMES]


def test_the_loss_is_that_of_each_video_with_the_head_of_a_client(data: Path) -> None:
    run = read_trained(data / "run/round-2-weights.npz", [])
    assert len(run.of_clients) == 2
    task, sample = build_task(run.config).eval(), build_sample(run.config)
    losses = []
    for index, name in enumerate(NAMES):
        load_arrays_into(task, run.of_clients[index % 2])
        path = data / f"ucf101/zips/{name}.zip"
        clips = [sample(path, np.random.default_rng([run.config["seed"], k, index])) for k in range(CLIPS)]
        batch = task.augment(stack([{**clip, "index": torch.tensor(0)} for clip in clips]))
        with torch.no_grad():
            losses.append((float(task(batch)["loss"]), float(task.trivial(batch)["still"])))
    found = pretext(run, held_out_videos())
    assert found["loss"] == pytest.approx(np.mean([own for own, _ in losses]), rel=1e-6)
    assert found["trivial_still"] == pytest.approx(np.mean([still for _, still in losses]), rel=1e-6)
    assert found["better"]["still"][0] == np.mean([own < still for own, still in losses])


def test_random_weights_are_random_for_a_run_that_began_from_a_file_which_is_gone(data: Path) -> None:
    random, other = (read_trained(data / "run/round-2-weights.npz", words).initial for words in ([], ["init=gone.pth"]))
    assert all(np.array_equal(array, other[name]) for name, array in random.items())


def test_a_state_is_the_shared_arrays_and_the_head_of_the_client(data: Path) -> None:
    run = read_trained(data / "run/round-2-weights.npz", [])
    first, second = run.of_clients
    for name in (name for name in first if name.startswith("backbone.")):
        np.testing.assert_array_equal(first[name], second[name])
    assert not np.array_equal(first["head.fc1.weight"], second["head.fc1.weight"])
    assert first.keys() == run.initial.keys()


def test_a_task_that_compares_samples_has_no_loss_on_one_video(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = read_trained(data / "run/round-2-weights.npz", [])
    monkeypatch.setattr("fedvssl.tasks.ctp.CtP.least_batch", 2, raising=False)
    assert pretext(run, held_out_videos()) == {}


def test_the_command_writes_what_the_report_shows(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = tmp_path / "run"
    shutil.copytree(data / "run", run)
    assert verdict.main([f"run={run}"]) == 0
    shown, found = capsys.readouterr().out, json.loads((run / "verdict.json").read_text())
    assert found["verdict"] in shown and "4 videos of ucf101 that were held out" in shown
    assert found["features"]["run"]["videos_eval"] == 4 and "right_motion_probe" in found["features"]["random weights"]
    assert report.main([str(run)]) == 0
    assert "IoU of predicted boxes" in (run / "report.html").read_text()
    found["server_round"] = 1  # of an earlier round
    (run / "verdict.json").write_text(json.dumps(found))
    assert report.main([str(run)]) == 0
    assert "python -m fedvssl.verdict run=" in (run / "report.html").read_text()


def test_videos_of_the_training_are_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for part, name in {"test": "Class0/v0_0", "train": NAMES[0]}.items():
        write_annotations(tmp_path / f"{part}_split_1.json", [Annotation(name, 0)])
    words = [f"run={data / 'run'}", f"eval.annotation_dir={tmp_path}"]
    assert verdict.main(words) == 2
    assert "had 1 of the 1 test videos in its pre-training" in capsys.readouterr().err


def test_a_run_without_held_out_videos_is_told_what_to_name(data: Path, capsys: pytest.CaptureFixture) -> None:
    assert verdict.main([f"run={data / 'run'}", "eval.annotation_dir=none"]) == 2
    assert "No none/test_split_1.json: a verdict is told on videos that no client has" in capsys.readouterr().err


def test_features_of_a_client_that_keeps_a_part_of_the_backbone_are_said_to_be_its_own(data: Path) -> None:
    run = read_trained(data / "run/round-2-weights.npz", [])
    assert has_one_backbone(run)
    first, second = run.of_clients
    name = next(name for name in first if name.startswith("backbone."))
    assert not has_one_backbone(replace(run, of_clients=[first, {**second, name: 2 * second[name]}]))
    assert "those of the first client's" in table({**numbers(low=0.6, gain_low=0.1), "of_first_client": True})
    assert "first client" not in table(numbers(low=0.6, gain_low=0.1))


def test_no_round_gets_a_sentence(capsys: pytest.CaptureFixture) -> None:
    assert verdict.main(["seed=3"]) == 2
    assert "Name a round with run=last" in capsys.readouterr().err


def numbers(*, low: float, gain_low: float, rank: float | None = 5.0) -> dict[str, Any]:
    """Content of a verdict.json with the lower ends of both signs."""
    probe = {"eval_motion_probe": 0.5, "eval_motion_probe_low": 0.4, "eval_motion_probe_high": 0.6}
    gains = {"gain_motion_probe": 0.3, "gain_motion_probe_low": gain_low, "gain_motion_probe_high": 0.5}
    rank_of = {} if rank is None else {"eval_effective_rank": rank, "eval_feature_std": 0.5}
    task = {"loss": 1.0, "trivial_still": 2.0, "iou": 0.7, "iou_still": 0.4, "better": {"still": [0.9, low, 1.0]}}
    features = {"run": {**probe, **gains, **rank_of}, "random weights": {**probe, **rank_of}}
    return {"server_round": 20, "dataset": "mine", "num_test": 9, "pretext": task, "features": features}


@pytest.mark.parametrize(
    ("found", "start"),
    [
        (numbers(low=0.6, gain_low=0.1), "It has learned: the pretext loss is below that of 'still'"),
        (numbers(low=0.4, gain_low=0.1), "It has begun to learn: the features tell"),
        (numbers(low=0.6, gain_low=-0.1), "It has begun to learn: the pretext loss"),
        (numbers(low=0.4, gain_low=0.0), "Nothing is seen to be learned yet"),
        (numbers(low=0.6, gain_low=0.1, rank=None), "The features are not finite"),
    ],
)
def test_the_verdict_follows_the_intervals(found: dict[str, Any], start: str) -> None:
    assert sentence(found).startswith(start)
    if start.startswith(("Nothing", "It has begun")):
        assert "rounds=40" in sentence(found)


def test_a_run_whose_learning_rate_has_fallen_to_the_end_is_trained_anew(data: Path) -> None:
    found = numbers(low=0.4, gain_low=0.0)
    assert "Continue with more rounds" in sentence(found)
    words = sentence({**found, "schedule_length": 20})
    assert "Train anew with more rounds (its command again with rounds=40 and another --name" in words
    run = read_trained(data / "run/round-2-weights.npz", [])
    run.config["training"]["schedule"] = {"length": 2}
    assert measure(run)["schedule_length"] == 2


def test_the_table_has_each_baseline_beside_the_run() -> None:
    lines = table(numbers(low=0.6, gain_low=0.1)).splitlines()
    assert any(line.split() == ["pretext", "loss", "1.000", "still", "2.000"] for line in lines)
    assert any("0.700" in line and "still 0.400" in line for line in lines)
    assert any("difference +30.0 [10.0, 50.0]" in line for line in lines)
