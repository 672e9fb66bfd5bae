import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedvssl.strategy.average import weighted_mean


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


def test_a_missing_name_is_an_error_and_not_a_shift():
    with pytest.raises(KeyError):
        weighted_mean([model(0), {"weight": np.zeros((2, 3))}], [1, 1])


@given(weights=st.lists(st.floats(0.01, 1e6), min_size=1, max_size=5), scale=st.floats(1e-3, 1e3))
def test_identical_models_and_scaled_weights_change_nothing(weights, scale):
    models = [model(seed) for seed in range(len(weights))]
    mean = weighted_mean(models, weights)
    for name, array in weighted_mean(models, scale * np.array(weights)).items():
        np.testing.assert_allclose(array, mean[name], rtol=1e-3 if name == "half" else 1e-5, atol=1e-6)
    same = weighted_mean([models[0]] * len(weights), weights)
    np.testing.assert_array_equal(same["weight"], models[0]["weight"])
