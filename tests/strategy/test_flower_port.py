"""The fault of the published port, as benchmarks/flower_port.py has it, against the arithmetic of its description."""

from dataclasses import dataclass

import numpy as np
import pytest

from benchmarks.flower_port import FlowerPort
from fedvssl.config import compose
from fedvssl.files.arrays import Arrays
from fedvssl.wire.introductions import Introductions
from fedvssl.wire.local import LocalWire
from fedvssl.wire.wire import Facts, Order
from tests.federation import TINY, initial_arrays, strategy_of

ROUNDS = {"fraction_fit": 1.0, "min_fit_clients": 2, "num_clients": 2, "seed": 7, "share": ["backbone.*"]}
OVERRIDES = ["strategy._target_=benchmarks.flower_port.FlowerPort", "~strategy.fedavg"]


@dataclass(frozen=True)
class Adds:
    """A client with 10 videos that adds 1 to what it gets, or with 20 that adds 2."""

    step: int

    def introduce(self) -> Facts:
        return {"partition-id": self.step - 1, "num-examples": 10 * self.step}

    def answer(self, action: str, arrays: Arrays, order: Order) -> tuple[Arrays, Facts]:
        added = {name: np.asarray(array + array.dtype.type(self.step)) for name, array in arrays.items()}
        return added, {"loss": 1 / self.step, "num-examples": 10 * self.step}


def global_models(*, alpha: float, beta: int, num_rounds: int, start: Arrays) -> list[Arrays]:
    strategy, models = FlowerPort(mix_coeff=alpha, swbeta=beta, **ROUNDS), [start]
    wire = LocalWire({0: Adds(1), 1: Adds(2)}, Introductions(2))
    for server_round in range(1, num_rounds + 1):
        models.append(strategy.round(wire, server_round, models[-1], {})[0])
    return models[1:]


def test_the_backbone_is_alpha_times_fedavg_whatever_the_losses() -> None:
    start = {"backbone.w": np.full(3, 4, np.float32), "backbone.n": np.array(100)}
    (first, second) = global_models(alpha=0.5, beta=0, num_rounds=2, start=start)
    (fedavg,) = global_models(alpha=1.0, beta=0, num_rounds=1, start=start)
    mean = fedavg["backbone.w"]
    np.testing.assert_allclose(mean, 4 + (1 * 10 + 2 * 20) / 30, rtol=1e-6)
    np.testing.assert_allclose(first["backbone.w"], 0.5 * mean)
    np.testing.assert_allclose(second["backbone.w"], 0.5 * (first["backbone.w"] + mean - 4))
    assert first["backbone.n"] == 51 and first["backbone.n"].dtype == np.array(100).dtype, "half of 102"


def test_with_beta_the_last_model_holds_half_from_the_second_round_on() -> None:
    start = {"backbone.w": np.full(3, 4, np.float32)}
    plain = global_models(alpha=0.5, beta=0, num_rounds=1, start=start)
    first, second = global_models(alpha=0.5, beta=1, num_rounds=2, start=start)
    np.testing.assert_array_equal(first["backbone.w"], plain[0]["backbone.w"])
    gain = 2 * first["backbone.w"] - 4  # of the clients' mean in a round
    np.testing.assert_allclose(
        second["backbone.w"], 0.5 * (0.5 * (first["backbone.w"] + gain) + first["backbone.w"]), rtol=1e-6
    )


@pytest.mark.parametrize(("beta", "factor"), [(0, 0.9**3), (1, 0.9 * 0.95**2)])
def test_a_backbone_that_does_not_learn_shrinks(beta: int, factor: float) -> None:
    strategy = FlowerPort(mix_coeff=0.9, swbeta=beta, **ROUNDS)
    arrays: Arrays = {"backbone.running_var": np.ones(2, np.float32)}
    for server_round in (1, 2, 3):
        mean = {name: array.copy() for name, array in arrays.items()}
        arrays = strategy.aggregate(server_round, {"video": mean}, arrays)
    np.testing.assert_allclose(arrays["backbone.running_var"], factor, rtol=1e-6)
    assert arrays["backbone.running_var"].dtype == np.float32


def test_the_row_of_the_sweep_selects_it_and_starts_from_the_weights_of_all_rows() -> None:
    port, ours = compose("base", [*TINY, *OVERRIDES]), compose("base", list(TINY))
    strategy = strategy_of(port)
    assert type(strategy) is FlowerPort and (strategy.mix_coeff, strategy.swbeta) == (0.9, 1)
    assert strategy.is_shared("backbone.conv1.weight") and not strategy.is_shared("head.fc.weight")
    for name, array in initial_arrays(ours).items():
        np.testing.assert_array_equal(initial_arrays(port)[name], array)
