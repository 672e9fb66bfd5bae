"""Settings of the recipe where they act: at the optimiser, the clipping and the dropout of each step."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric

from fedvssl import finetune
from fedvssl.server_run import build_run
from fedvssl.wire.wire import TRAIN
from tests.action_set import TINY, write_action_set
from tests.federation import client_of, order_of, sent_arrays, tiny_config, train, write_clients

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
    run_dir = tmp_path / "run"
    order = {**order_of(config, server_round), **build_run(config, run_dir=run_dir).order(server_round)}
    client_of(config, run_dir, 0).answer(TRAIN, sent_arrays(config), order)
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


ADAMW = ("optimizer=adamw", "training.lr=0.3", "training.optimizer.param_groups={head.*:{lr:0.1}}")


def rates(steps: list[Step]) -> list[tuple[float, ...]]:
    return [tuple(round(group["lr"], 6) for group in step.groups) for step in steps]


def test_a_client_warms_up_in_each_round_or_once(steps: list[Step], tmp_path: Path) -> None:
    """Two steps in each of two rounds; a quarter more of the rates in each of the first four steps."""
    write_clients(tmp_path)
    words = (*ADAMW, "training.batch_size=2", "training.warmup_steps=4", "pool_size=1", "strategy.min_fit_clients=1")
    for keeps, expected in {"false": [0.25, 0.5, 0.25, 0.5], "true": [0.25, 0.5, 0.75, 1.0]}.items():
        steps.clear()
        config = tiny_config(tmp_path, *words, f"training.keep_optimizer={keeps}")
        train(config, tmp_path / keeps)
        assert rates(steps) == [(round(0.3 * factor, 6), round(0.1 * factor, 6)) for factor in expected]
        assert {group["weight_decay"] for step in steps for group in step.groups} == {0.05}


def test_fine_tuning_warms_up_once_and_follows_the_cosine(steps: list[Step], tmp_path: Path) -> None:
    write_action_set(tmp_path / "data")
    words = [word for word in TINY if not word.startswith(("training.steps", "training.lr"))]
    words += ["optimizer=adamw", "schedule=cosine", "training.lr=0.3", "training.warmup_steps=3", "from_scratch=true"]
    words += ["training.optimizer.decay_norm_and_bias=false", "training.epochs=1"]
    places = [f"data_dir={tmp_path / 'data'}", f"work_dir={tmp_path / 'work'}"]
    assert finetune.main(["finetune", *words, *places, "training.schedule.length=2"]) == 0
    assert finetune.main(["finetune", *words, *places, "training.schedule.length=2", "training.epochs=2"]) == 0
    assert rates(steps) == [(0.1, 0.1), (0.2, 0.2), (0.15, 0.15), (0.15, 0.15)], "half the cosine in epoch 2"
    assert [group["weight_decay"] for group in steps[0].groups] == [0.05, 0.0]
