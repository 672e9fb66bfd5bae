"""What a sweep reads from the folder of a finished step."""

from pathlib import Path

import pytest

from fedvssl.sweeping.plan import PRETRAIN, Cell, Step
from fedvssl.sweeping.results import read_measured
from tests.run_folders import write_lines


def pretraining(folder: Path, records: list[dict]) -> Step:
    write_lines(folder / "metrics.jsonl", records)
    weights = folder / "round-2-weights.npz"
    weights.touch()
    return Step(Cell("fedavg", 7, 1), PRETRAIN, PRETRAIN, [], {}, weights)


def test_evaluations_before_and_after_the_rounds_are_no_losses(tmp_path: Path) -> None:
    ends = {"eval_R@1_low": 0.4, "eval_R@1_high": 0.6, "eval_feature_std": 0.1}
    evaluations = [{"server_round": n, "eval_R@1": 0.5, **ends} for n in (0, 2)]
    rounds = [{"server_round": 1, "loss": 9.0}, {"server_round": 1, "loss": 7.0, "partition_id": 0}]
    rounds += [{"server_round": 2, "loss": 8.0}]
    step = pretraining(tmp_path, [evaluations[0], *rounds, evaluations[1]])
    curves = {"eval_R@1": [[0, 0.5], [2, 0.5]], "loss": [[1, 9.0], [2, 8.0]]}
    assert read_measured(step) == {"metrics": {"first_loss": 9.0, "loss": 8.0}, "curves": curves}


def test_records_without_a_loss_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"metrics\.jsonl has no loss of a round"):
        read_measured(pretraining(tmp_path, [{"server_round": 0, "eval_R@1": 0.5}]))
