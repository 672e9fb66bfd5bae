import numpy as np
import pytest

from fedvssl.files.arrays import Arrays
from fedvssl.strategy.average import RunningMean
from fedvssl.strategy.fedavg import FedAvg
from fedvssl.strategy.fedvssl import FedVSSL
from fedvssl.strategy.intake import Intake
from fedvssl.strategy.rounds import weight_columns
from fedvssl.wire.wire import Update

ROUNDS = {"fraction_fit": 1.0, "min_fit_clients": 2, "num_clients": 3, "seed": 7, "share": ["backbone.*"]}


def client(partition_id: int, *, loss: float = 1.0, num_videos: int = 10) -> Update:
    rng = np.random.default_rng(partition_id)
    arrays = {
        "backbone.w": rng.standard_normal((3, 2), dtype=np.float32),
        "backbone.n": np.array(partition_id, np.int64),
    }
    return Update(partition_id, arrays, {"loss": loss, "num-examples": num_videos})


def aggregate(
    strategy: FedAvg, clients: list[Update], server_round: int = 1, previous: Arrays | None = None
) -> dict[str, np.ndarray]:
    partition_ids = [client.partition_id for client in clients]
    intake = Intake(partition_ids, averages=strategy.averages(), log_weights=strategy.log_weights)
    for client in clients:
        intake.add(client)
    return strategy.aggregate(server_round, intake.finish(), previous or {})


def weigh(strategy: FedAvg, clients: list[Update]) -> dict[str, np.ndarray]:
    return weight_columns([strategy.log_weights(client.metrics) for client in clients], strategy.averages())


def assert_same(one: dict, other: dict) -> None:
    assert list(one) == list(other)
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


CLIENTS = [client(0, loss=0.5, num_videos=3), client(1, loss=2.5, num_videos=100), client(2, loss=1.0, num_videos=7)]


def test_losses_and_videos_weigh_by_themselves():
    arrays = [client.arrays["backbone.w"].astype(np.float64) for client in CLIENTS]
    s = np.exp([-0.5, -2.5, -1.0]) / np.exp([-0.5, -2.5, -1.0]).sum()
    for mix_coeff, weights in ((0, np.array([3, 100, 7]) / 110), (1, s)):
        mean = aggregate(FedVSSL(mix_coeff=mix_coeff, swbeta=0, **ROUNDS), CLIENTS)["backbone.w"]
        np.testing.assert_allclose(mean, np.average(arrays, axis=0, weights=weights), rtol=1e-5, atol=1e-6)


def test_alpha_adds_both_averages():
    by_loss, by_videos, mixed = (
        aggregate(FedVSSL(mix_coeff=alpha, swbeta=0, **ROUNDS), CLIENTS)["backbone.w"] for alpha in (1, 0, 0.9)
    )
    np.testing.assert_allclose(mixed, 0.9 * by_loss + 0.1 * by_videos, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("mix_coeff", "num_means"), [(0, 1), (0.9, 2), (1, 1)])
def test_an_average_without_a_share_is_not_made(mix_coeff, num_means, monkeypatch):
    made = set()
    real = RunningMean.add
    monkeypatch.setattr(RunningMean, "add", lambda mean, *a, **k: made.add(mean) or real(mean, *a, **k))
    aggregate(FedVSSL(mix_coeff=mix_coeff, swbeta=0, **ROUNDS), CLIENTS)
    assert len(made) == num_means


def test_the_average_over_rounds_is_half_and_half_and_counters_never_go_back():
    means = {"video": {"w": np.float32([1, 3]), "n": np.array(217)}}
    strategy = FedVSSL(mix_coeff=0, swbeta=1, **ROUNDS)
    mean = strategy.aggregate(2, means, {"w": np.float32([3, 3]), "n": np.array(117)})
    np.testing.assert_array_equal(mean["w"], np.float32([2, 3]))
    assert mean["n"] == 217


@pytest.mark.parametrize("mix_coeff", [0, 0.9, 1])
def test_identical_clients_aggregate_to_themselves(mix_coeff):
    same = [Update(n, CLIENTS[0].arrays, CLIENTS[n].metrics) for n in range(3)]
    assert_same(aggregate(FedVSSL(mix_coeff=mix_coeff, swbeta=0, **ROUNDS), same), CLIENTS[0].arrays)


def test_alpha_zero_is_fedavg_and_alpha_one_ignores_the_videos():
    assert_same(aggregate(FedVSSL(mix_coeff=0, swbeta=0, **ROUNDS), CLIENTS), aggregate(FedAvg(**ROUNDS), CLIENTS))
    more_videos = [
        Update(c.partition_id, c.arrays, {**c.metrics, "num-examples": 50 + c.partition_id}) for c in CLIENTS
    ]
    by_loss = FedVSSL(mix_coeff=1, swbeta=0, **ROUNDS)
    assert_same(aggregate(by_loss, CLIENTS), aggregate(by_loss, more_videos))


def test_beta_does_nothing_in_round_1_and_halves_from_round_2():
    plain, averaged = FedVSSL(mix_coeff=0.9, swbeta=0, **ROUNDS), FedVSSL(mix_coeff=0.9, swbeta=1, **ROUNDS)
    previous = {name: np.zeros_like(array) for name, array in CLIENTS[0].arrays.items()}
    assert_same(aggregate(averaged, CLIENTS, 1, previous), aggregate(plain, CLIENTS, 1))
    halved = aggregate(averaged, CLIENTS, 2, previous)
    np.testing.assert_allclose(halved["backbone.w"], aggregate(plain, CLIENTS, 2)["backbone.w"] / 2, rtol=1e-6)
    assert halved["backbone.n"] == 2


def test_the_order_of_clients_is_irrelevant_to_the_bit():
    strategy = FedVSSL(mix_coeff=0.9, swbeta=0, **ROUNDS)
    assert_same(aggregate(strategy, CLIENTS), aggregate(strategy, CLIENTS[::-1]))


def test_fedvssl_shares_the_backbone_and_fedavg_everything():
    names = ["backbone.stem.bn.running_mean", "head.fc1.weight", "head.backbone.weight"]
    assert [FedVSSL(mix_coeff=0.9, swbeta=1, **ROUNDS).is_shared(name) for name in names] == [True, False, False]
    whole = FedVSSL(mix_coeff=0.9, swbeta=1, fedavg=True, **ROUNDS)
    assert all(strategy.is_shared(name) for strategy in (whole, FedAvg(**{**ROUNDS, "share": ["*"]})) for name in names)


@pytest.mark.parametrize("share", [["backbone.*", "head.*"], ["*", "!*bn*"], []])
def test_the_published_switch_does_not_overrule_another_share_in_silence(share: list[str]):
    with pytest.raises(ValueError, match=r"fedavg=true shares the whole model, not strategy\.share=.*: leave"):
        FedVSSL(mix_coeff=0.9, swbeta=1, fedavg=True, **{**ROUNDS, "share": share})


def test_the_published_switch_is_fedavg_to_the_bit():
    switch, fedavg = FedVSSL(mix_coeff=0.9, swbeta=1, fedavg=True, **ROUNDS), FedAvg(**{**ROUNDS, "share": ["*"]})
    previous = CLIENTS[2].arrays
    assert_same(aggregate(switch, CLIENTS, 2, previous), aggregate(fedavg, CLIENTS, 2, previous))
    assert set(weigh(switch, CLIENTS)) == {"weight"}


@pytest.mark.parametrize(
    ("share", "travels"),
    [
        (["*"], [True, True, True]),
        (["*", "!*bn*"], [False, True, True]),
        (["backbone.*", "!*.running_*"], [False, False, False]),
        (["*", "!head.*", "head.fc1.*"], [True, True, False]),
    ],
)
def test_the_last_pattern_that_fits_decides_what_travels(share, travels):
    names = ["backbone.stem.bn.running_mean", "head.fc1.weight", "head.backbone.weight"]
    assert [FedAvg(**{**ROUNDS, "share": share}).is_shared(name) for name in names] == travels


def test_the_recorded_weights_are_distributions():
    weights = weigh(FedVSSL(mix_coeff=0.9, swbeta=1, **ROUNDS), CLIENTS)
    assert set(weights) == {"loss-weight", "video-weight", "weight"}
    for values in weights.values():
        assert values.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights["video-weight"], np.array([3, 100, 7]) / 110)
    s = np.exp([-0.5, -2.5, -1.0]) / np.exp([-0.5, -2.5, -1.0]).sum()
    np.testing.assert_allclose(weights["loss-weight"], s)
    np.testing.assert_allclose(weights["weight"], 0.9 * s + 0.1 * np.array([3, 100, 7]) / 110)
    assert set(weigh(FedVSSL(mix_coeff=0, swbeta=1, **ROUNDS), CLIENTS)) == set(weights)
    assert set(weigh(FedAvg(**ROUNDS), CLIENTS)) == {"weight"}


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
