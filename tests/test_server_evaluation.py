"""Evaluation between the rounds, on labelled videos of the server's own."""

import re
from pathlib import Path

import numpy as np
import pytest

from fedvssl.files.arrays import load_arrays
from fedvssl.files.rounds import round_path
from fedvssl.files.run_log import read_records
from fedvssl.server_evaluation import build_monitor
from tests.action_set import write_action_set
from tests.federation import tiny_config, train, write_clients


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    write_clients(path)
    return write_action_set(path)


def evaluating(data_dir: Path, *others: str) -> dict:
    sample = ("eval.sample.size=[43,32]", "eval.sample.crop_size=32", "eval.sample.num_clips=1")
    return tiny_config(data_dir, "eval.every=2", "eval.num_classes=3", *sample, *others)


def test_the_server_evaluates_before_the_first_round_every_second_and_after_the_last(data_dir, tmp_path):
    config = evaluating(data_dir, "rounds=3")
    train(config, tmp_path / "with", monitor=build_monitor(config))
    records = [r for r in read_records(tmp_path / "with/metrics.jsonl") if "partition_id" not in r]
    assert [r["server_round"] for r in records if "eval_R@1" in r] == [0, 2, 3]
    assert [r["server_round"] for r in records if "eval_motion_probe" in r] == [0, 2, 3]
    assert [r["server_round"] for r in records if "loss" in r] == [1, 2, 3]
    train(tiny_config(data_dir, "rounds=3"), tmp_path / "without")
    left, right = (load_arrays(round_path(tmp_path / folder, 3)) for folder in ("with", "without"))
    assert all(np.array_equal(left[name], right[name]) for name in left | right)  # evaluating changes nothing


def test_a_continued_run_evaluates_the_start_only_once(data_dir, tmp_path):
    config = evaluating(data_dir, "rounds=1")
    train(config, tmp_path, monitor=build_monitor(config))
    config = evaluating(data_dir, "rounds=2")
    train(config, tmp_path, monitor=build_monitor(config), done=1)
    records = [r for r in read_records(tmp_path / "metrics.jsonl") if "partition_id" not in r]
    assert [r["server_round"] for r in records if "eval_R@1" in r] == [0, 1, 2]


def test_a_round_is_saved_before_it_is_evaluated_and_training_goes_on_where_that_fails(data_dir, tmp_path, caplog):
    def fails(_arrays: object, *, label: str) -> dict:
        if label != "before round 1":
            assert round_path(tmp_path, int(label.split()[-1])).is_file()
        raise RuntimeError("out of memory")

    train(evaluating(data_dir, "rounds=2"), tmp_path, monitor=fails)
    assert "the evaluation after round 2 failed (out of memory); training goes on" in caplog.text
    assert [r["server_round"] for r in read_records(tmp_path / "metrics.jsonl") if "lr" in r] == [1, 2]


def test_a_protocol_can_be_left_out(data_dir):
    monitor = build_monitor(evaluating(data_dir, "eval.protocols.motion_probe=null"))
    assert monitor is not None and [*monitor.protocols] == ["R@1", "knn_top1_acc"]
    others = "eval.protocols={R@1: null, knn_top1_acc: null}"
    monitor = build_monitor(evaluating(data_dir, others, "eval.num_classes=1"))
    assert monitor is not None and [*monitor.protocols] == ["motion_probe"], "which needs no classes"


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ("eval.every=0", "eval.every=0 must be a whole number, at least 1"),
        ("eval.max_videos=none", "eval.max_videos=none must be a whole number"),
        ("eval.annotation_dir=/nowhere", "No annotation file /nowhere/train_split_1.json"),
        ("eval.sample.crop_size=99", "A crop of 99 pixels does not fit"),
    ],
)
def test_mistakes_in_the_evaluation_show_before_the_run(mistake, sentence, data_dir):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        build_monitor(evaluating(data_dir, mistake))
