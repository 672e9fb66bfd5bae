"""Settings of the recipe where they act: at the optimiser, the clipping and the dropout of each step."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric

from fedvssl import finetune
from fedvssl.client_app import train_client
from tests.action_set import TINY, write_action_set
from tests.federation import site_of, tiny_config, training_content, write_clients

RECIPE = ("training.lr=0.3", "training.momentum=0.7", "training.weight_decay=0.02", "training.max_norm=3")


@dataclass(frozen=True)
class Step:
    """What one training step used."""

    groups: list[dict]
    num_parameters: int
    max_norm: float
    dropouts: list[float]
    is_training: bool


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """Every step, recorded where its gradients are clipped, right before the optimiser moves the weights."""
    seen: list[Step] = []
    clip = Fabric.clip_gradients

    def recorded(fabric, module, optimizer, **options):
        groups = [
            {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
        ]
        held = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        assert held == {id(weight) for weight in module.parameters()}, "a weight is not trained"
        dropouts = [layer.p for layer in module.modules() if isinstance(layer, torch.nn.Dropout)]
        seen.append(Step(groups, len(held), options["max_norm"], dropouts, module.training))
        return clip(fabric, module, optimizer, **options)

    monkeypatch.setattr(Fabric, "clip_gradients", recorded)
    return seen


def assert_recipe(step: Step, *, lr: float) -> None:
    for group in step.groups:
        used = [group[name] for name in ("lr", "momentum", "weight_decay", "dampening", "nesterov")]
        assert used == pytest.approx([lr, 0.7, 0.02, 0, False])
    assert step.max_norm == 3 and step.is_training and step.num_parameters > 0


@pytest.mark.parametrize(("server_round", "lr"), [(1, 0.3), (2, 0.03), (3, 0.003)])
def test_a_client_trains_by_the_settings_of_its_round(server_round: int, lr: float, steps: list[Step], tmp_path: Path):
    write_clients(tmp_path)
    config = tiny_config(tmp_path, *RECIPE, "training.steps=[1,2]", "training.gamma=0.1", "training.batch_size=2")
    content = training_content(config, server_round)
    train_client(content, site=site_of(config, tmp_path / "run"), partition_id=0, write=lambda line: None)
    assert len(steps) == 2, "3 videos in batches of 2"
    for step in steps:
        assert_recipe(step, lr=lr)


def test_fine_tuning_trains_by_the_settings_of_its_epoch(steps: list[Step], tmp_path: Path) -> None:
    write_action_set(tmp_path / "data")
    words = [word for word in TINY if not word.startswith(("training.steps", "training.lr"))]
    words += [*RECIPE, "training.steps=[1]", "training.gamma=0.1", "dropout=0.25", "from_scratch=true"]
    places = [f"data_dir={tmp_path / 'data'}", f"work_dir={tmp_path / 'work'}"]
    assert finetune.main(["finetune", *words, *places]) == 0
    assert len(steps) == 4, "6 videos in batches of 4, twice"
    for step, lr in zip(steps, (0.3, 0.3, 0.03, 0.03), strict=True):
        assert_recipe(step, lr=lr)
        assert step.dropouts == [0.25]
