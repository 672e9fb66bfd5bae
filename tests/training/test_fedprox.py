import pytest
import torch

from fedvssl.building import build_optimizer
from fedvssl.config import compose
from fedvssl.preflight import check_finetuning
from fedvssl.training.fedprox import FedProx


def steps(optimizer: torch.optim.Optimizer, weight: torch.nn.Parameter, gradients: list[float]) -> float:
    for gradient in gradients:
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
    return float(weight.detach()[0])


def test_a_weight_is_drawn_back_to_where_it_started() -> None:
    weight = torch.nn.Parameter(torch.full((2,), 5.0))
    expected = 5.0
    for gradient in (1.0, 1.0, -2.0):
        expected -= 0.1 * (gradient + 0.5 * (expected - 5.0))
    assert steps(FedProx([weight], mu=0.5, lr=0.1), weight, [1.0, 1.0, -2.0]) == pytest.approx(expected, rel=1e-6)


def test_without_the_term_it_is_sgd() -> None:
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    one, other = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    gradients = [1.0, -0.5, 2.0]
    assert steps(FedProx([one], mu=0, **settings), one, gradients) == steps(
        torch.optim.SGD([other], **settings), other, gradients
    )


def test_it_is_an_optimizer_of_the_configuration_with_groups_of_their_own() -> None:
    words = ["optimizer=fedprox", "training.optimizer.mu=0.1", "training.optimizer.param_groups={bias:{mu:0}}"]
    training = compose("base", words)["training"]
    optimizer = build_optimizer(training, torch.nn.Linear(2, 2), on_gpu=False)
    assert type(optimizer) is FedProx and sorted(group["mu"] for group in optimizer.param_groups) == [0, 0.1]
    for wrong in ("-1", "much"):
        with pytest.raises(ValueError, match=f"mu={wrong} must be a number"):
            build_optimizer(
                compose("base", ["optimizer=fedprox", f"training.optimizer.mu={wrong}"])["training"],
                torch.nn.Linear(2, 2),
                on_gpu=False,
            )


def test_it_is_refused_in_fine_tuning_whose_start_a_continued_run_would_forget() -> None:
    with pytest.raises(ValueError, match="FedProx is for the rounds of a federation"):
        check_finetuning(compose("finetune", ["optimizer=fedprox", "device=cpu"]))
