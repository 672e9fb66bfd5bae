"""The fault of the published port, as benchmarks/flower_port.py has it, against the arithmetic of its description."""

import numpy as np
import pytest

from benchmarks.flower_port import FlowerPort
from fedvssl.config import compose
from fedvssl.files.arrays import Arrays
from fedvssl.server_app import build_strategy, initial_arrays
from tests.federation import TINY
from tests.strategy.test_fedavg import replies_to

ROUNDS = {"fraction_fit": 1.0, "min_fit_clients": 2, "num_clients": 2, "seed": 7, "round_timeout": 5.0}
OVERRIDES = ["strategy._target_=benchmarks.flower_port.FlowerPort", "~strategy.fedavg"]


def global_models(*, alpha: float, beta: int, num_rounds: int, start: Arrays) -> list[Arrays]:
    strategy, arrays, models = FlowerPort(mix_coeff=alpha, swbeta=beta, **ROUNDS), start, []
    for server_round in range(1, num_rounds + 1):
        record, _ = strategy.aggregate_train(server_round, replies_to(strategy, arrays))
        arrays = {name: array.numpy() for name, array in record.items()}
        models.append(arrays)
    return models


def test_the_backbone_is_alpha_times_fedavg_whatever_the_losses() -> None:
    """The clients of this test add 1 and 2 to what they get, and have 10 and 20 videos; see replies_to."""
    start = {"backbone.w": np.full(3, 4, np.float32), "backbone.n": np.array(100)}
    (first, second) = global_models(alpha=0.5, beta=0, num_rounds=2, start=start)
    fedavg = FlowerPort(mix_coeff=1.0, swbeta=0, **ROUNDS)
    record, _ = fedavg.aggregate_train(1, replies_to(fedavg, start))
    mean = record["backbone.w"].numpy()
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
        strategy.global_arrays = arrays
        arrays = strategy.aggregate(server_round, {name: array.copy() for name, array in arrays.items()})
    np.testing.assert_allclose(arrays["backbone.running_var"], factor, rtol=1e-6)
    assert arrays["backbone.running_var"].dtype == np.float32


def test_the_row_of_the_sweep_selects_it_and_starts_from_the_weights_of_all_rows() -> None:
    port, ours = compose("base", [*TINY, *OVERRIDES]), compose("base", list(TINY))
    strategy = build_strategy(port)
    assert type(strategy) is FlowerPort and (strategy.mix_coeff, strategy.swbeta) == (0.9, 1)
    assert strategy.is_shared("backbone.conv1.weight") and not strategy.is_shared("head.fc.weight")
    for name, array in initial_arrays(ours).items():
        np.testing.assert_array_equal(initial_arrays(port)[name], array)
