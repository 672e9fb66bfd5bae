import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedvssl.files.arrays import Arrays
from fedvssl.strategy.average import BLOCK, RunningMean, mix, move, softmax


def weighted_mean(models: Sequence[Mapping[str, np.ndarray]], weights: Sequence[float] | np.ndarray) -> Arrays:
    mean = RunningMean()
    for model, weight in zip(models, weights, strict=True):
        mean.add(model, math.log(weight))
    return mean.result()


def model(seed: int, counter: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "weight": rng.standard_normal((2, 3), dtype=np.float32),
        "half": rng.standard_normal(4).astype(np.float16),
        "double": rng.standard_normal(()),
        "counter": np.array(counter, dtype=np.int64),
    }


def test_mean_of_two_by_hand():
    mean = weighted_mean([{"w": np.float32([1, 2])}, {"w": np.float32([3, 6])}], [3, 1])
    np.testing.assert_array_equal(mean["w"], np.float32([1.5, 3.0]))


def test_names_shapes_and_dtypes_stay():
    mean = weighted_mean([model(0), model(1)], [1, 2])
    for name, array in model(0).items():
        assert mean[name].dtype == array.dtype and mean[name].shape == array.shape


def test_counters_take_the_maximum_whatever_the_weights():
    mean = weighted_mean([model(0, 103), model(1, 117), model(2, 110)], [100, 1e-9, 1])
    assert mean["counter"] == 117 and mean["counter"].dtype == np.int64


def test_the_order_of_names_in_a_model_is_irrelevant():
    one, other = model(0), model(1)
    shuffled = dict(reversed(other.items()))
    for name, array in weighted_mean([one, other], [1, 2]).items():
        np.testing.assert_array_equal(array, weighted_mean([one, shuffled], [1, 2])[name])


def test_many_small_float32_terms_are_summed_without_drift():
    models = [{"w": np.float32([1 / 3])}] * 100_000
    np.testing.assert_array_equal(weighted_mean(models, np.ones(len(models)))["w"], np.float32([1 / 3]))


def test_the_mean_is_that_of_float64_and_of_arrays_of_several_blocks():
    rng = np.random.default_rng(0)
    models = [{"w": rng.standard_normal((3, BLOCK), dtype=np.float32)} for _ in range(20)]
    weights = rng.uniform(0.1, 100, size=20)
    expected = np.average([model["w"].astype(np.float64) for model in models], axis=0, weights=weights)
    np.testing.assert_allclose(weighted_mean(models, weights)["w"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("level", [0.0, 20.0, 1e4, -1e4])
def test_only_differences_of_log_weights_count(level):
    mean = RunningMean()
    for value, log_weight in [(1, 0.0), (2, -1.0), (4, 1.0)]:
        mean.add({"w": np.float32([value])}, level + log_weight)
    shares = np.exp([0.0, -1.0, 1.0]) / np.exp([0.0, -1.0, 1.0]).sum()
    np.testing.assert_allclose(mean.result()["w"], shares @ [1, 2, 4], rtol=1e-6)


@pytest.mark.parametrize("losses", [[0, 1e4], [1e4, 0], [0, 1e300], [1e300, 0]])
def test_losses_worlds_apart_leave_the_better_model(losses):
    mean = RunningMean()
    for loss in losses:
        mean.add({"w": np.float32([3 if loss else 7])}, -loss)
    np.testing.assert_array_equal(mean.result()["w"], np.float32([7]))


def test_what_comes_in_is_only_read_and_not_kept():
    models = [model(0), model(1)]
    for array in [*models[0].values(), *models[1].values()]:
        np.asarray(array).flags.writeable = False
    mean = weighted_mean(models, [1, 2])
    for name, array in mean.items():
        assert array.flags.writeable and not any(np.shares_memory(array, one[name]) for one in models)


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda array: np.repeat(array, 2, axis=1)[:, ::2]])
def test_the_layout_in_memory_is_irrelevant(layout):
    one, other = (model(seed)["weight"] for seed in (0, 1))
    mean = weighted_mean([{"w": layout(one)}, {"w": layout(other)}], [1, 2])["w"]
    np.testing.assert_array_equal(mean, weighted_mean([{"w": one}, {"w": other}], [1, 2])["w"])


def test_moving_is_in_place():
    arrays, inside = {"w": np.float32([1, 3]), "n": np.array(7)}, {}
    inside |= arrays
    move(arrays, {"w": np.float32([3, 3]), "n": np.array(9)}, share=0.25)
    np.testing.assert_array_equal(inside["w"], np.float32([1.5, 3]))
    assert inside["n"] == 9


def test_mixing_adds_the_means_by_their_shares():
    means = {kind: {"w": np.float32([value])} for kind, value in [("a", 1), ("b", 2), ("c", 4)]}
    mixed = mix(means, {"a": 0.2, "b": 0.3, "c": 0.5})
    np.testing.assert_allclose(mixed["w"], [0.2 + 0.6 + 2.0], rtol=1e-6)
    assert mixed["w"] is means["a"]["w"]


def test_softmax_of_log_weights():
    losses = np.array([0.5, 2.5, 1.0])
    np.testing.assert_allclose(softmax(-losses), np.exp(-losses) / np.exp(-losses).sum(), rtol=1e-12)
    np.testing.assert_allclose(softmax(np.log([3, 100, 7])), np.array([3, 100, 7]) / 110)


@pytest.mark.parametrize("level", [20.0, 1e4, -1e4])
def test_high_losses_do_not_underflow(level):
    np.testing.assert_allclose(softmax([-level, -level - 1]), softmax([0.0, -1.0]), rtol=1e-9)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=8))
def test_softmax_is_a_distribution_that_prefers_low_losses(losses):
    weights = softmax([-loss for loss in losses])
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    assert weights[np.argmin(losses)] == weights.max()


def test_a_missing_name_is_an_error_and_not_a_shift():
    with pytest.raises(KeyError):
        weighted_mean([model(0), {"weight": np.zeros((2, 3))}], [1, 1])


@given(weights=st.lists(st.floats(0.01, 1e6), min_size=1, max_size=5), scale=st.floats(1e-3, 1e3))
def test_identical_models_and_scaled_weights_change_nothing(weights, scale):
    models = [model(seed) for seed in range(len(weights))]
    mean = weighted_mean(models, weights)
    for name, array in weighted_mean(models, scale * np.array(weights)).items():
        np.testing.assert_allclose(array, mean[name], rtol=1e-5, atol=0.01 if name == "half" else 1e-6)
    same = weighted_mean([models[0]] * len(weights), weights)
    np.testing.assert_array_equal(same["weight"], models[0]["weight"])
