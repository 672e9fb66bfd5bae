"""Factors of the learning rates over rounds or epochs, and over the first steps."""

import pytest
import torch

from fedvssl.training.schedule import Cosine, Steps, scale_lr, warm_up


@pytest.mark.parametrize(("position", "factor"), [(0, 1.0), (99, 1.0), (100, 0.1), (199, 0.1), (200, 0.01)])
def test_steps_multiply_by_gamma_as_published(position: int, factor: float) -> None:
    assert Steps(steps=[100, 200], gamma=0.1)(position) == pytest.approx(factor)


def test_cosine_falls_from_one_to_nothing_and_stays_there() -> None:
    factors = [Cosine(length=4)(position) for position in range(6)]
    assert factors == pytest.approx([1, 0.853553, 0.5, 0.146447, 0, 0], abs=1e-6)


def test_cosine_is_that_of_torch() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs, ours = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=7), Cosine(length=7)
    for position in range(7):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.3 * ours(position))
        optimizer.step()
        theirs.step()


def test_warm_up_rises_to_the_rate_of_the_configuration() -> None:
    assert [warm_up(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert warm_up(0, 0) == 1, "without a warm-up the first step has the whole rate"


def test_groups_keep_their_ratio() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": weights[:1]}, {"params": weights[1:], "lr": 0.5}], lr=2.0)
    for factor in (0.5, 1.0, 0.25):
        scale_lr(optimizer, factor)
        assert [group["lr"] for group in optimizer.param_groups] == [2 * factor, 0.5 * factor]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Steps(steps=5, gamma=0.1), r"training.steps=5 must be a list"),  # pyright: ignore[reportArgumentType]
        (lambda: Steps(steps=[1.5], gamma=0.1), r"training.steps=\[1.5\] must be a list"),  # pyright: ignore
        (lambda: Steps(steps=[1], gamma=-1), r"training.gamma=-1 must be a number, at least 0"),
        (lambda: Cosine(length=0), r"training.schedule.length=0 must be a whole number, at least 1"),
    ],
)
def test_what_makes_no_sense_is_rejected(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
