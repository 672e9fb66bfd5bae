import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedvssl.strategy.exchange import ClientUpdate
from fedvssl.strategy.fedavg import FedAvg, video_weights
from fedvssl.strategy.fedvssl import FedVSSL, loss_weights, mix, swa

ROUNDS = {"fraction_fit": 1.0, "min_fit_clients": 2, "num_clients": 3, "seed": 7, "round_timeout": 10.0}


def client(partition_id: int, *, loss: float = 1.0, num_videos: int = 10) -> ClientUpdate:
    rng = np.random.default_rng(partition_id)
    arrays = {
        "backbone.w": rng.standard_normal((3, 2), dtype=np.float32),
        "backbone.n": np.array(partition_id, np.int64),
    }
    return ClientUpdate(partition_id, arrays, {"loss": loss, "num-examples": num_videos})


def aggregate(strategy: FedAvg, clients: list[ClientUpdate], server_round: int = 1) -> dict[str, np.ndarray]:
    return strategy.aggregate(server_round, clients, strategy.weigh(clients)["weight"])


def assert_same(one: dict, other: dict) -> None:
    assert list(one) == list(other)
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


CLIENTS = [client(0, loss=0.5, num_videos=3), client(1, loss=2.5, num_videos=100), client(2, loss=1.0, num_videos=7)]


def test_loss_weights_are_the_softmax_of_the_negative_loss():
    losses = np.array([0.5, 2.5, 1.0])
    np.testing.assert_allclose(loss_weights(losses), np.exp(-losses) / np.exp(-losses).sum(), rtol=1e-12)


@pytest.mark.parametrize("level", [20.0, 1e4, -1e4])
def test_high_losses_do_not_underflow(level):
    np.testing.assert_allclose(loss_weights([level, level + 1]), loss_weights([0.0, 1.0]), rtol=1e-9)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=8))
def test_loss_weights_are_a_distribution_that_prefers_low_losses(losses):
    weights = loss_weights(losses)
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    assert weights[np.argmin(losses)] == weights.max()


def test_mix_at_both_ends_and_between():
    by_loss, by_videos = np.array([1.0, 0.0]), np.array([0.25, 0.75])
    np.testing.assert_array_equal(mix(by_loss, by_videos, mix_coeff=0), by_videos)
    np.testing.assert_array_equal(mix(by_loss, by_videos, mix_coeff=1), by_loss)
    np.testing.assert_allclose(mix(by_loss, by_videos, mix_coeff=0.9), [0.925, 0.075])


def test_swa_is_half_and_half_and_counters_never_go_back():
    new = {"w": np.float32([1, 3]), "n": np.array(217)}
    mean = swa(new, {"w": np.float32([3, 3]), "n": np.array(117)})
    np.testing.assert_array_equal(mean["w"], np.float32([2, 3]))
    assert mean["n"] == 217


@pytest.mark.parametrize("mix_coeff", [0, 0.9, 1])
def test_identical_clients_aggregate_to_themselves(mix_coeff):
    same = [ClientUpdate(n, CLIENTS[0].arrays, CLIENTS[n].metrics) for n in range(3)]
    assert_same(aggregate(FedVSSL(mix_coeff=mix_coeff, swbeta=0, **ROUNDS), same), CLIENTS[0].arrays)


def test_alpha_zero_is_fedavg_and_alpha_one_ignores_the_videos():
    assert_same(aggregate(FedVSSL(mix_coeff=0, swbeta=0, **ROUNDS), CLIENTS), aggregate(FedAvg(**ROUNDS), CLIENTS))
    more_videos = [
        ClientUpdate(c.partition_id, c.arrays, {**c.metrics, "num-examples": 50 + c.partition_id}) for c in CLIENTS
    ]
    by_loss = FedVSSL(mix_coeff=1, swbeta=0, **ROUNDS)
    assert_same(aggregate(by_loss, CLIENTS), aggregate(by_loss, more_videos))


def test_beta_does_nothing_in_round_1_and_halves_from_round_2():
    plain, averaged = FedVSSL(mix_coeff=0.9, swbeta=0, **ROUNDS), FedVSSL(mix_coeff=0.9, swbeta=1, **ROUNDS)
    averaged.global_arrays = {name: np.zeros_like(array) for name, array in CLIENTS[0].arrays.items()}
    assert_same(aggregate(averaged, CLIENTS, 1), aggregate(plain, CLIENTS, 1))
    halved = aggregate(averaged, CLIENTS, 2)
    np.testing.assert_allclose(halved["backbone.w"], aggregate(plain, CLIENTS, 2)["backbone.w"] / 2, rtol=1e-6)
    assert halved["backbone.n"] == 2


def test_the_order_of_clients_is_irrelevant():
    strategy = FedVSSL(mix_coeff=0.9, swbeta=0, **ROUNDS)
    one, other = aggregate(strategy, CLIENTS), aggregate(strategy, CLIENTS[::-1])
    for name, array in one.items():
        np.testing.assert_allclose(array, other[name], rtol=1e-6)


def test_fedvssl_shares_the_backbone_and_fedavg_everything():
    names = ["backbone.stem.bn.running_mean", "head.fc1.weight", "head.backbone.weight"]
    assert [FedVSSL(mix_coeff=0.9, swbeta=1, **ROUNDS).is_shared(name) for name in names] == [True, False, False]
    assert all(FedAvg(**ROUNDS).is_shared(name) for name in names)


def test_the_recorded_weights_are_distributions():
    weights = FedVSSL(mix_coeff=0.9, swbeta=1, **ROUNDS).weigh(CLIENTS)
    assert set(weights) == {"loss-weight", "video-weight", "weight"}
    for values in weights.values():
        assert values.sum() == pytest.approx(1)
    np.testing.assert_allclose(video_weights([3, 100, 7]), np.array([3, 100, 7]) / 110)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mix_coeff": 1.1, "swbeta": 1}, r"strategy\.mix_coeff=1\.1"),
        ({"mix_coeff": -0.1, "swbeta": 1}, r"strategy\.mix_coeff=-0\.1"),
        ({"mix_coeff": 0.9, "swbeta": 2}, r"strategy\.swbeta=2"),
        ({"mix_coeff": 0.9, "swbeta": 1, "fraction_fit": 1.5}, r"strategy\.fraction_fit=1\.5"),
        (
            {"mix_coeff": 0.9, "swbeta": 1, "min_fit_clients": 4},
            r"strategy\.min_fit_clients=4 must lie in 1\.\.pool_size=3",
        ),
        ({"mix_coeff": 0.9, "swbeta": 1, "min_fit_clients": 0}, r"strategy\.min_fit_clients=0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        FedVSSL(**{**ROUNDS, **settings})
