"""What a sweep reads from the folder of a finished step."""

from pathlib import Path

import pytest

from fedvssl.sweeping.plan import PRETRAIN, Cell, Step
from fedvssl.sweeping.results import pretraining_costs, read_measured
from tests.run_folders import write_lines


def pretraining(folder: Path, records: list[dict]) -> Step:
    write_lines(folder / "metrics.jsonl", records)
    weights = folder / "round-2-weights.npz"
    weights.touch()
    return Step(Cell("fedavg", 7, 1), PRETRAIN, PRETRAIN, [], {}, weights)


def test_evaluations_before_and_after_the_rounds_are_no_losses(tmp_path: Path) -> None:
    ends = {"eval_R@1_low": 0.4, "eval_R@1_high": 0.6, "eval_feature_std": 0.1}
    evaluations = [{"server_round": n, "eval_R@1": 0.5, **ends} for n in (0, 2)]
    rounds = [{"server_round": 1, "loss": 9.0, "num_clips": 30.0}]
    rounds += [{"server_round": 1, "loss": 7.0, "partition_id": 0, "num_clips": 10.0}]
    rounds += [{"server_round": 2, "loss": 8.0, "num_clips": 20.0}]
    step = pretraining(tmp_path, [evaluations[0], *rounds, evaluations[1]])
    curves = {"eval_R@1": [[0, 0.5], [2, 0.5]], "loss": [[1, 9.0], [2, 8.0]]}
    assert read_measured(step) == {"metrics": {"first_loss": 9.0, "loss": 8.0}, "clips": 50, "curves": curves}


def test_the_samples_seen_are_told_for_each_row_that_knows_them() -> None:
    known = {Cell("vcop", 7, 1): 40, Cell("vcop", 8, 1): 40, Cell("ctp", 7, 1): 90, Cell("ctp", 8, 1): 80}
    results = {cell: {PRETRAIN: {"clips": clips}} for cell, clips in known.items()}
    results |= {Cell("earlier", 7, 1): {PRETRAIN: {"metrics": {}}}, Cell("random", 7, 1): {}}
    rows = ["random", "ctp", "vcop", "earlier", "open"]
    assert pretraining_costs(rows, results) == "Samples seen in pre-training: ctp 80 or 90, vcop 40."
    assert pretraining_costs(rows, {}) == ""


def test_the_processor_seconds_are_told_from_least_to_most_of_the_seeds() -> None:
    known = {Cell("ctp", 7, 1): 151.2, Cell("ctp", 8, 1): 160.4, Cell("ctp", 9, 1): 155.0, Cell("vcop", 7, 1): 148.6}
    results = {cell: {PRETRAIN: {"processor_seconds": seconds}} for cell, seconds in known.items()}
    told = pretraining_costs(["vcop", "earlier", "ctp"], {**results, Cell("earlier", 7, 1): {PRETRAIN: {}}})
    assert told == "Processor seconds of pre-training: vcop 149, ctp 151 to 160."


def test_records_without_a_loss_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"metrics\.jsonl has no loss of a round"):
        read_measured(pretraining(tmp_path, [{"server_round": 0, "eval_R@1": 0.5}]))
