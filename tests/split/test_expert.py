"""Training of the expert as a run: one logical client in parts, an attacker that is saved, frozen clients after it."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedvssl.files.run_log import read_records
from fedvssl.split.stepping import Stepping
from fedvssl.wire.wire import FederationError
from tests.picture_set import SIDE, write_picture_set
from tests.split.federation import exact, files_of, flower_wire, settings_of, train
from tests.split.test_rounds import Killed, kill, meddled, same

EXPERT = ("strategy=taressfl_expert", "strategy.target_ssim=0", "strategy.attacker_steps=[1]", "model.bottleneck=C4S2")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_picture_set(tmp_path_factory.mktemp("pictures"))


def expert(data_dir: Path, *words: str) -> dict:
    return settings_of(data_dir, *words, strategy=EXPERT)


def test_the_parts_of_the_logical_client_make_the_steps_of_one(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two parts with six pictures of a step and one with the same twelve: the same weights, in float64."""
    parts = 2

    def views(_: Any, partition_id: int, turn: Any, step: int, __: Any) -> tuple[torch.Tensor, ...]:
        drawn = torch.Generator().manual_seed(100 * turn.order.server_round + step)
        both = torch.randn(2, 12, 3, SIDE, SIDE, generator=drawn, dtype=torch.float64)
        first, second = both.chunk(parts, dim=1)[partition_id]
        return first, second

    monkeypatch.setattr(Stepping, "_views", views)
    split = train(exact(expert(data_dir)), tmp_path / "parts")
    lists = tmp_path / "lists"
    lists.mkdir()
    shutil.copyfile(data_dir / "cifar10/annotations/train_split_1.json", lists / "client_dist1.json")
    parts = 1
    whole = train(exact(expert(data_dir, "pool_size=1", f"partition_dir={lists}")), tmp_path / "whole")
    assert split.strategy.attacker.steps == whole.strategy.attacker.steps == 2 * 3
    for found, expected in ((split.shared, whole.shared), (split.strategy.state(), whole.strategy.state())):
        assert found.keys() == expected.keys()
        for name, array in found.items():
            np.testing.assert_allclose(array, expected[name], rtol=1e-8, atol=1e-10, err_msg=name)


def test_a_killed_expert_repeats_its_round_with_the_same_attacker(data_dir: Path, tmp_path: Path) -> None:
    config = expert(data_dir)
    train(config, tmp_path / "whole")
    assert "attacker/m.0.conv1.weight" in files_of(tmp_path / "whole")["round-2-strategy.npz"]
    with pytest.raises(Killed):
        train(config, tmp_path / "run", meddled(8, kill))
    train(config, tmp_path / "run")
    same(tmp_path / "run", tmp_path / "whole")


def test_the_privacy_loss_changes_what_the_client_learns(data_dir: Path, tmp_path: Path) -> None:
    fronts = {}
    for name, word in (("defended", "strategy.privacy_weight=2"), ("control", "strategy.privacy_weight=0")):
        run = train(expert(data_dir, "rounds=1", word), tmp_path / name)
        fronts[name] = run.shared["backbone.stem.conv1.weight"]
        record = read_records(tmp_path / name / "metrics.jsonl")[0]
        assert -1 < record["ssim"] < 1 and -1 < record["attacker_ssim"] < 1
    assert not np.array_equal(fronts["defended"], fronts["control"])


def test_pictures_leave_no_client_over_a_network(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="pictures leave no client"):
        train(expert(data_dir), tmp_path / "run", flower_wire)


def test_clients_stay_at_the_expert(data_dir: Path, tmp_path: Path) -> None:
    train(expert(data_dir, "rounds=1", "pool_size=1"), tmp_path / "expert")
    first = tmp_path / "expert/round-1-weights.npz"
    words = ("model.bottleneck=C4S2", "strategy.cut=narrow", "strategy.frozen=true", f"init={first}")
    run = train(settings_of(data_dir, *words), tmp_path / "run")
    begun = np.load(first)
    for name in ("backbone.stem.conv1.weight", "backbone.narrow.0.weight"):
        np.testing.assert_array_equal(run.shared[name], begun[name])
    assert not np.array_equal(run.shared["backbone.widen.0.weight"], begun["backbone.widen.0.weight"])
