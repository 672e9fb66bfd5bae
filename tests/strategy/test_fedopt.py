"""Optimizers on the server, against a slow computation of their equations."""

import numpy as np
import pytest

from fedvssl.files.arrays import Arrays
from fedvssl.strategy.fedopt import FedAdam, FedAvgM, FedYogi, ServerOptimizer
from fedvssl.strategy.flower import FlowerStrategy
from tests.strategy.echo import EchoWire

ROUNDS = {"fraction_fit": 1.0, "min_fit_clients": 2, "num_clients": 2, "seed": 7, "share": ["*"]}
ADAM = {"server_lr": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 0.01}
CHANGE = (10 * 1 + 20 * 2) / 30  # the clients of these tests add 1 and 2, and have 10 and 20 videos
START = {"w": np.float32([1, -2]), "bn.running_var": np.ones(2, np.float32), "n": np.array(0)}


def trained(strategy: ServerOptimizer, num_rounds: int) -> Arrays:
    arrays = START
    strategy.restore({}, arrays)
    for server_round in range(1, num_rounds + 1):
        arrays, _ = strategy.round(EchoWire(2), server_round, arrays, {})
    return arrays


def test_momentum_goes_on_in_the_last_direction() -> None:
    arrays = trained(FedAvgM(server_lr=0.5, momentum=0.5, **ROUNDS), 2)
    np.testing.assert_allclose(arrays["w"], START["w"] + 0.5 * (CHANGE + (0.5 * CHANGE + CHANGE)), atol=1e-6)


def test_without_momentum_and_with_rate_1_it_is_fedavg() -> None:
    arrays = trained(FedAvgM(server_lr=1, momentum=0, **ROUNDS), 2)
    np.testing.assert_allclose(arrays["w"], START["w"] + 2 * CHANGE, rtol=1e-6)


@pytest.mark.parametrize("kind", [FedAdam, FedYogi])
def test_adam_and_yogi_are_those_of_the_paper(kind: type[FedAdam]) -> None:
    w, m, v = START["w"].astype(np.float64), 0.0, ADAM["tau"] ** 2
    for _ in range(4):
        m = ADAM["beta1"] * m + (1 - ADAM["beta1"]) * CHANGE
        if kind is FedAdam:
            v = ADAM["beta2"] * v + (1 - ADAM["beta2"]) * CHANGE**2
        else:
            v = v - (1 - ADAM["beta2"]) * CHANGE**2 * np.sign(v - CHANGE**2)
        w = w + ADAM["server_lr"] * m / (np.sqrt(v) + ADAM["tau"])
    np.testing.assert_allclose(trained(kind(**ADAM, **ROUNDS), 4)["w"], w, rtol=1e-5)


@pytest.mark.parametrize("strategy", [FedAvgM(server_lr=1, momentum=0.9, **ROUNDS), FedAdam(**ADAM, **ROUNDS)])
def test_running_statistics_take_their_mean_and_counters_their_maximum(strategy: ServerOptimizer) -> None:
    arrays = trained(strategy, 2)
    np.testing.assert_allclose(arrays["bn.running_var"], 1 + 2 * CHANGE, rtol=1e-6)
    assert arrays["n"] == 4 and arrays["w"].dtype == np.float32
    assert not any("running" in name or name.endswith(" n") for name in strategy.state())


@pytest.mark.parametrize("kind", [FedAdam, FedYogi])
def test_a_strategy_goes_on_from_its_state_to_the_bit(kind: type[FedAdam]) -> None:
    whole, first, second = (kind(**ADAM, **ROUNDS) for _ in range(3))
    expected, arrays = trained(whole, 3), trained(first, 2)
    kept = {name: array.copy() for name, array in first.state().items()}
    second.restore(kept, arrays)
    arrays, _ = second.round(EchoWire(2), 3, arrays, {})
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"server_lr": 0}, "server_lr=0 must be"), ({"beta1": 1}, r"beta1=1 must lie"), ({"tau": 0}, "tau=0 must be")],
)
def test_settings_out_of_range_are_named(settings: dict, words: str) -> None:
    with pytest.raises(ValueError, match=rf"strategy\.{words}"):
        FedAdam(**{**ADAM, **settings}, **ROUNDS)


def test_an_optimizer_of_flower_is_refused_because_its_moments_would_be_lost() -> None:
    from flwr.serverapp import strategy

    with pytest.raises(ValueError, match=r"FedAdam keeps something of its own .* fedvssl\.strategy\.fedopt"):
        FlowerStrategy(strategy=strategy.FedAdam(), **ROUNDS)
