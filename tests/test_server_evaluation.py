"""Evaluation between the rounds, on labelled videos of the server's own."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from fedvssl.files.arrays import load_arrays
from fedvssl.files.rounds import round_path, saved_rounds
from fedvssl.files.run_log import RunLog, read_records
from fedvssl.server_evaluation import build_evaluations
from fedvssl.server_rounds import complete
from fedvssl.server_run import build_run
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
    train(config, tmp_path / "with")
    records = [r for r in read_records(tmp_path / "with/metrics.jsonl") if "partition_id" not in r]
    assert [r["server_round"] for r in records if "eval_R@1" in r] == [0, 2, 3]
    assert [r["server_round"] for r in records if "eval_motion_probe" in r] == [0, 2, 3]
    assert [r["server_round"] for r in records if "loss" in r] == [1, 2, 3]
    train(tiny_config(data_dir, "rounds=3"), tmp_path / "without")
    left, right = (load_arrays(round_path(tmp_path / folder, 3)) for folder in ("with", "without"))
    assert all(np.array_equal(left[name], right[name]) for name in left | right)  # evaluating changes nothing


def test_a_continued_run_evaluates_the_start_only_once(data_dir, tmp_path):
    config = evaluating(data_dir, "rounds=1")
    train(config, tmp_path)
    config = evaluating(data_dir, "rounds=2")
    train(config, tmp_path)
    records = [r for r in read_records(tmp_path / "metrics.jsonl") if "partition_id" not in r]
    assert [r["server_round"] for r in records if "eval_R@1" in r] == [0, 1, 2]
    assert [r["server_round"] for r in records if "gain_R@1_low" in r] == [1, 2], "a continued run finds the start"


def test_a_round_is_saved_before_it_is_evaluated_and_training_goes_on_where_that_fails(data_dir, tmp_path, caplog):
    def fails(_arrays: object, *, label: str, start: object) -> dict:
        if label != "before round 1":
            assert round_path(tmp_path, int(label.split()[-1])).is_file()
        raise RuntimeError("out of memory")

    train(evaluating(data_dir, "rounds=2"), tmp_path, monitor=fails)
    assert "the evaluation after round 2 failed (out of memory); training goes on" in caplog.text
    assert [r["server_round"] for r in read_records(tmp_path / "metrics.jsonl") if "lr" in r] == [1, 2]


def evaluated(run_dir: Path) -> list[int]:
    """Rounds of the evaluations in their order in the file."""
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [record["server_round"] for record in records if "eval_R@1" in record]


def lose(run_dir: Path, *rounds: int) -> None:
    """Cut the records of these evaluations out, as if a kill had come before them."""
    path = run_dir / "metrics.jsonl"
    lines = [line for line in path.read_text().splitlines(keepends=True)]
    kept = [line for line in lines if not ("eval_R@1" in line and json.loads(line)["server_round"] in rounds)]
    path.write_text("".join(kept))


def test_missed_evaluations_are_made_up_for_on_continuing_and_in_order(data_dir, tmp_path, caplog):
    config = evaluating(data_dir, "rounds=4")
    train({**config, "rounds": 2}, tmp_path)
    whole = read_records(tmp_path / "metrics.jsonl")
    lose(tmp_path, 0, 2)
    train(config, tmp_path)
    assert [record["server_round"] for record in read_records(tmp_path / "metrics.jsonl") if "eval_R@1" in record] == [
        *(0, 2, 4)
    ]
    before, after = (
        [{name: value for name, value in r.items() if name.startswith("eval")} for r in records if "eval_R@1" in r]
        for records in (whole, read_records(tmp_path / "metrics.jsonl"))
    )
    assert before == after[:2]
    round_path(tmp_path, 2).unlink()
    lose(tmp_path, 2)
    config = {**config, "rounds": 5}
    train(config, tmp_path)
    assert evaluated(tmp_path) == [0, 4, 5]
    assert "after rounds 2 are missing and cannot be made up for: their files are gone (keep_last)" in caplog.text


def test_the_record_of_going_back_is_no_evaluation(data_dir, tmp_path):
    lines = [{"server_round": n, "eval_R@1": 0.5} for n in (0, 2)] + [{"server_round": 4, "lost_kept": [0]}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    evaluations = build_evaluations(evaluating(data_dir, "rounds=6"))
    assert evaluations and evaluations.missed(tmp_path, done=4) == [4]


def test_a_run_whose_rounds_are_all_done_is_completed(data_dir, tmp_path, drawn):
    """Killed within the record of the last evaluation: half a line, no picture, one round file too many."""
    config = evaluating(data_dir, "rounds=2", "keep_last=1")
    train({**config, "keep_last": None}, tmp_path)
    expected = (tmp_path / "metrics.jsonl").read_text().splitlines()[:-1]
    lose(tmp_path, 2)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"server_round": 2, "eval_')
    (tmp_path / "loss.png").unlink()
    complete(build_run(config, run_dir=tmp_path))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert lines[:-1] == expected and evaluated(tmp_path) == [0, 2]
    assert (tmp_path / "loss.png").is_file() and saved_rounds(tmp_path) == [2]
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    complete(build_run(config, run_dir=tmp_path))
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}, "a whole run stays as it is"


def test_a_full_disk_is_no_failed_evaluation(data_dir, tmp_path, monkeypatch):
    def write(log: RunLog, record: dict) -> None:
        if "eval" in record:
            raise OSError(28, "No space left on device", str(log.path))

    monkeypatch.setattr(RunLog, "write", write)
    with pytest.raises(OSError, match="No space left on device"):
        train(evaluating(data_dir, "rounds=1"), tmp_path, monitor=lambda *_, **__: {"eval": 1.0})


def test_a_protocol_can_be_left_out(data_dir):
    evaluations = build_evaluations(evaluating(data_dir, "eval.protocols.motion_probe=null"))
    assert evaluations is not None and [*evaluations.monitor.protocols] == ["R@1", "knn_top1_acc"]
    others = "eval.protocols={R@1: null, knn_top1_acc: null}"
    evaluations = build_evaluations(evaluating(data_dir, others, "eval.num_classes=1"))
    assert evaluations is not None and [*evaluations.monitor.protocols] == ["motion_probe"], "which needs no classes"


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ("eval.every=0", "eval.every=0 must be null or a whole number, at least 1"),
        ("eval.max_videos=none", "eval.max_videos=none must be a whole number"),
        ("eval.annotation_dir=/nowhere", "No annotation file /nowhere/train_split_1.json"),
        ("eval.sample.crop_size=99", "A crop of 99 pixels does not fit"),
    ],
)
def test_mistakes_in_the_evaluation_show_before_the_run(mistake, sentence, data_dir):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        build_evaluations(evaluating(data_dir, mistake))
