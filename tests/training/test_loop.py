"""The training loop on a task of one weight."""

import os
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from fedvssl.files.parent import STARTER
from fedvssl.training import loop
from fedvssl.training.loop import EpochResult, build_fabric, metric_names, seed_torch, set_up, train_epoch


class Line(nn.Module):
    """Fits y = weight * x; `augment` counts its calls and doubles x."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.0))
        self.augmented = 0

    def augment(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        assert not torch.is_grad_enabled()
        self.augmented += 1
        return {"x": 2 * batch["x"], "y": batch["y"]}  # without the index, which the loop takes before

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        error = self.weight * batch["x"] - batch["y"]
        return {"loss": (error**2).mean(), "mean_error": error.detach().mean()}


def batch(size: int, *, y: float = 1.0) -> dict[str, Tensor]:
    return {"x": torch.full((size,), 0.5), "y": torch.full((size,), y), "index": torch.arange(size)}


def train(batches: list[dict[str, Tensor]], *, lr: float = 0.1, max_norm: float = 40, **options) -> tuple:
    fabric, module = build_fabric(device="cpu", precision="32-true"), Line()
    task, optimizer = set_up(fabric, module, torch.optim.SGD(module.parameters(), lr=lr))
    return module, train_epoch(fabric, task, optimizer, batches, max_norm=max_norm, **options)


def test_one_step_is_that_of_sgd() -> None:
    module, result = train([batch(3)])
    assert module.weight.item() == pytest.approx(0.1 * 2)  # the gradient of (w - 1)^2 at 0 is -2
    assert module.augmented == 1
    means = {name: value for name, value in result.metrics.items() if "grad" not in name and "clipped" not in name}
    assert means == pytest.approx({"loss": 1.0, "mean_error": -1.0})
    assert result.num_clips == 3 and result.seconds_compute > 0


def test_a_network_that_follows_moves_after_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def after_step(task: Line) -> None:
        seen.append(task.weight.item())

    monkeypatch.setattr(Line, "after_step", after_step, raising=False)
    module, _ = train([batch(1), batch(1)])
    assert seen == [pytest.approx(0.2), module.weight.item()] and module.weight.item() > 0.2


def test_weights_of_pictures_and_clips_have_the_layout_of_their_convolutions() -> None:
    module = nn.ModuleList([nn.Conv2d(2, 3, 3), nn.Conv3d(2, 3, 3), nn.Linear(2, 3)])
    before = [weight.clone() for weight in module.parameters()]
    loop.channels_last(module)
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert module[1].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert all(torch.equal(*pair) for pair in zip(before, module.parameters(), strict=True))


def test_means_are_per_clip_not_per_batch() -> None:
    _, result = train([batch(3), batch(1, y=3.0)], lr=1e-9)
    assert result.metrics["loss"] == pytest.approx((3 * 1 + 9) / 4)


def test_gradients_are_clipped_and_their_norms_told_before_clipping() -> None:
    module, result = train([batch(1, y=100.0), batch(1, y=0.1)], max_norm=0.5)
    # The gradient of (w - y)^2 is 2 (w - y): -200 at w = 0, then -0.1 at w = 0.05, where clipping has left it.
    assert module.weight.item() == pytest.approx(0.1 * 0.5 + 0.1 * 0.1)
    metrics = result.metrics
    assert metrics["grad_norm"] == pytest.approx((200 + 0.1) / 2) and metrics["grad_norm_max"] == pytest.approx(200)
    assert metrics["clipped_share"] == 0.5


def test_report_gets_running_means() -> None:
    seen = []
    train([batch(1), batch(1, y=3.0)], lr=1e-9, report=lambda *step: seen.append((*step[:2], float(step[2]["loss"]))))
    assert seen == [(1, 2, pytest.approx(1.0)), (2, 2, pytest.approx(5.0))]


def test_divergence_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"diverged.*lower training\.lr"):
        train([batch(1, y=1e30), batch(1)])


def test_speed_and_share_of_the_data() -> None:
    result = EpochResult({"loss": 0.0}, num_clips=30, seconds_data=1.0, seconds_compute=3.0)
    assert result.clips_per_second == 7.5 and result.data_share == 0.25


def test_the_factor_of_a_step_counts_from_the_configured_rate() -> None:
    """Gradient -2 at 0 and -1 at .5: .25 * 2 * factors, the second step from the rate of the configuration too."""
    module, _ = train([batch(1), batch(1)], lr=0.25, lr_factor=lambda step: [1.0, 0.5][step])
    assert module.weight.item() == pytest.approx(0.5 + 0.125)


def test_seeds_differ_by_key_and_repeat() -> None:
    draws = []
    for key in [(7, 1, 0, 0), (7, 2, 0, 0), (7, 0, 1, 0), (7, 1, 0, 0)]:
        seed_torch(key)
        draws.append(torch.rand(1).item())
    assert draws[0] == draws[3] and len(set(draws)) == 3


def test_zeros_at_the_end_of_a_key_are_no_other_stream() -> None:
    """Weights from scratch, of the random row and of a federated run are equal for one seed because of that."""
    weights = []
    for key in [(7,), (7, 0), (7, 0, 0, 0), (7, 0, 0, 1), (0, 7)]:
        seed_torch(key)
        weights.append(nn.Linear(3, 2).weight.detach())
    assert torch.equal(weights[0], weights[1]) and torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[3]) and not torch.equal(weights[0], weights[4])


def test_an_infinite_gradient_in_the_last_step_is_an_error_too() -> None:
    """The loss was finite when it was computed; what must not be saved is the weight after it."""
    with pytest.raises(ValueError, match="diverged"):
        train([batch(1, y=10.0)], lr=1e38)


def test_compiling_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled task is what is trained; its weights are those of the task."""
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    module = Line()
    fabric = build_fabric(device="cpu", precision="32-true")
    set_up(fabric, module, torch.optim.SGD(module.parameters(), lr=0.1))
    assert compiled == []
    set_up(fabric, module, torch.optim.SGD(module.parameters(), lr=0.1), compiled=True)
    assert compiled == [module]


class Instrumented(Line):
    def trivial(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"zero": batch["y"].square().mean()}

    def health(self) -> dict[str, Tensor]:
        assert self.weight.grad is not None, "after the backward pass"
        return {"slope": self.weight.grad}


@pytest.mark.parametrize("kind", [Line, Instrumented])
def test_one_step_tells_the_names_of_all_metrics_and_changes_nothing(kind: type[Line]) -> None:
    task, before = kind(), torch.get_rng_state()
    names = metric_names(task, batch(2))
    assert task.weight.grad is None and task.augmented == 0 and torch.equal(torch.get_rng_state(), before)
    fabric = build_fabric(device="cpu", precision="32-true")
    wrapped, optimizer = set_up(fabric, kind(), torch.optim.SGD(task.parameters(), lr=0.1))
    assert names == list(train_epoch(fabric, wrapped, optimizer, [batch(2)], max_norm=1.0).metrics)


@pytest.mark.parametrize(("devices", "rank", "named"), [(1, None, False), (2, None, True), (2, "1", False)])
def test_further_processes_end_with_the_one_that_starts_them(monkeypatch, devices, rank, named) -> None:
    """tests/files/test_parent.py has what the name in the environment brings about."""
    monkeypatch.setenv(STARTER, "of this process")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    seen = {}
    monkeypatch.setattr(loop, "Fabric", lambda **_: SimpleNamespace(launch=lambda: seen.update(os.environ)))
    build_fabric(device="cpu", devices=devices, precision="32-true")
    assert (seen[STARTER] == str(os.getpid())) == named
