"""Parameter groups by name, and the state of an optimizer as named arrays."""

import numpy as np
import pytest
import torch
from torch import nn

from fedvssl.building import build_optimizer
from fedvssl.config import compose
from fedvssl.preflight import check_recipe
from fedvssl.training.optimizer import STEPS, load_state, parameter_groups, state_arrays, state_bytes

LBFGS = (
    *("training.optimizer._target_=torch.optim.LBFGS", "~training.optimizer.momentum"),
    "~training.optimizer.weight_decay",
)


def small_module() -> nn.Module:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3))
    return nn.ModuleDict({"backbone": backbone, "head": nn.Linear(3, 1)})


def names_of(module: nn.Module, groups: list[dict]) -> list[list[str]]:
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return [[names[id(parameter)] for parameter in group["params"]] for group in groups]


def training(*overrides: str) -> dict:
    return compose("base", [*overrides])["training"]


def test_the_published_recipe_has_one_group_of_all_parameters_in_their_order() -> None:
    module = small_module()
    optimizer = build_optimizer(training(), module, on_gpu=False)
    assert type(optimizer) is torch.optim.SGD
    assert names_of(module, optimizer.param_groups) == [[name for name, _ in module.named_parameters()]]
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.01, 0.9, 1e-4)


def test_groups_by_name_with_and_without_weight_decay() -> None:
    module = small_module()
    groups = parameter_groups(module, {"head.*": {"lr": 5.0}, "*": {}}, decay_norm_and_bias=False)
    assert names_of(module, groups) == [
        ["backbone.0.weight"],
        ["backbone.0.bias", "backbone.1.weight", "backbone.1.bias"],
        ["head.weight"],
        ["head.bias"],
    ]
    settings = [{name: value for name, value in group.items() if name != "params"} for group in groups]
    assert settings == [{}, {"weight_decay": 0.0}, {"lr": 5.0}, {"lr": 5.0, "weight_decay": 0.0}]


@pytest.mark.parametrize("name", ["Adam", "NAdam", "RAdam", "Adamax", "Adafactor", "Adagrad", "RMSprop", "Adadelta"])
def test_other_optimizers_of_torch_take_the_place_of_adamw(name: str) -> None:
    settings = training("optimizer=adamw", f"training.optimizer._target_=torch.optim.{name}")
    module = small_module()
    optimizer = build_optimizer(settings, module, on_gpu=False)
    before = module["head"].weight.clone()  # pyright: ignore
    step(module, optimizer, seed=0)
    assert not torch.equal(before, module["head"].weight)  # pyright: ignore


def test_a_pattern_with_a_weight_decay_of_its_own_keeps_it_for_biases() -> None:
    groups = parameter_groups(small_module(), {"head.*": {"weight_decay": 0.5}}, decay_norm_and_bias=False)
    assert [group.get("weight_decay") for group in groups] == [None, 0.0, 0.5, 0.5]


def test_groups_from_the_command_line_reach_the_optimizer() -> None:
    words = ["optimizer=adamw", "training.optimizer.param_groups={head.*:{lr:0.0005}}", "training.lr=0.004"]
    optimizer = build_optimizer(training(*words), small_module(), on_gpu=False)
    assert type(optimizer) is torch.optim.AdamW
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.004, 0.05), (0.0005, 0.05)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["training.optimizer._target_=torch.optim.Adagrat"], r"Adagrat cannot be built"),
        (["training.optimizer._target_=torch.optim.AdamW"], r"AdamW takes no momentum: start from .*optimizer=adamw"),
        ([*LBFGS, "training.momentum=null", "training.weight_decay=null"], r"LBFGS computes losses itself"),
        (["optimizer=adamw", "training.momentum=0.5"], r"training.momentum=0.5 has no effect on torch.optim.AdamW"),
        (["schedule=cosine", "training.steps=[3]"], r"training.steps=\[3\] has no effect on .*Cosine"),
        (["training.optimizer.param_groups={haed.*:{lr:1}}"], r"no parameter is left for 'haed.\*'; .*'backbone.0.w"),
        (["training.optimizer.param_groups={head.*:{larning_rate:1}}"], r"SGD has no setting 'larning_rate'; .* lr, "),
        (["training.optimizer.param_groups={head.*:{lr:-1}}"], r"lr=-1 must be a number, at least 0"),
        (["training.optimizer.param_groups={head.*:{lr:fast}}"], r"lr=fast must be a number, at least 0"),
        (["training.lr=0.3", "training.optimizer.lr=0.1"], r"training.lr=0.3 and training.optimizer.lr=0.1 contradict"),
        (["training.schedule.gamma=0.5"], r"training.gamma=0.1 and training.schedule.gamma=0.5 contradict"),
        (["~training.optimizer.lr", "training.lr=null"], r"training.optimizer needs an lr"),
        (["training.optimizer=null"], r"training.optimizer=None must be a section"),
        (["training.schedule=null"], r"training.schedule=None must be a section"),
        (["training.optimizer.param_groups={head.*:1}"], r"must be settings by pattern"),
        (["training.optimizer.decay_norm_and_bias=1"], r"decay_norm_and_bias=1 must be true or false"),
        (["training.lr=-1"], r"training.lr=-1 must be null or a number above 0"),
        (["training.lr=fast"], r"training.lr=fast must be null or a number"),
        (["training.warmup_steps=1.5"], r"training.warmup_steps=1.5 must be a whole number, at least 0"),
        (["training.steps=5"], r"training.steps=5 must be null or a list"),
        (["training.gamma=x"], r"training.gamma=x must be null or a number"),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_work_is_rejected_before_the_start(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_recipe(settings := training(*words))
        build_optimizer(settings, small_module(), on_gpu=False)


def step(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


@pytest.mark.parametrize("words", [[], ["optimizer=adamw", "training.optimizer.param_groups={head.*:{lr:0.5}}"]])
def test_a_state_that_went_through_arrays_continues_bit_by_bit(words: list[str]) -> None:
    settings = training(*words)
    straight, stopped = small_module(), small_module()
    optimizer = build_optimizer(settings, straight, on_gpu=False)
    for seed in range(4):
        step(straight, optimizer, seed)

    first = build_optimizer(settings, stopped, on_gpu=False)
    for seed in range(2):
        step(stopped, first, seed)
    arrays = {name: array.copy() for name, array in state_arrays(first, stopped, steps=2).items()}
    second = build_optimizer(settings, stopped, on_gpu=False)
    assert load_state(second, stopped, arrays) == 2
    for seed in range(2, 4):
        step(stopped, second, seed)
    for one, other in zip(straight.parameters(), stopped.parameters(), strict=True):
        assert torch.equal(one, other)


def test_no_state_is_a_fresh_start() -> None:
    module = small_module()
    optimizer = build_optimizer(training(), module, on_gpu=False)
    assert load_state(optimizer, module, {"head.weight": np.zeros(3)}) == 0 and not optimizer.state


def test_bytes_of_the_state_are_those_of_its_arrays() -> None:
    module = small_module()
    optimizer = build_optimizer(training("optimizer=adamw"), module, on_gpu=False)
    weights = sum(parameter.numel() for parameter in module.parameters())
    counters = len(list(module.parameters()))
    assert state_bytes(optimizer, module) == 4 * (2 * weights + counters) + np.array(1).nbytes
    assert STEPS in state_arrays(optimizer, module, steps=1)


def test_an_entry_that_is_no_tensor_cannot_be_kept() -> None:
    module = small_module()
    optimizer = build_optimizer(training(), module, on_gpu=False)
    optimizer.state[module["head"].weight]["note"] = "text"  # pyright: ignore
    with pytest.raises(ValueError, match=r"note of SGD is no tensor"):
        state_arrays(optimizer, module, steps=0)
