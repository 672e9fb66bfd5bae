"""Strategies of Flower behind the rounds of this project."""

import logging

import numpy as np
import pytest
from flwr.serverapp import strategy as flower

from fedvssl.building import build
from fedvssl.config import compose
from fedvssl.files.arrays import Arrays
from fedvssl.strategy.flower import FlowerStrategy
from fedvssl.wire.wire import FederationError, Reply
from tests.strategy.echo import EchoWire, echo

START = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "half": np.ones(2, np.float16), "n": np.array(3)}
STRATEGIES = {
    "median": flower.FedMedian(),
    "trimmed": flower.FedTrimmedAvg(beta=0.2),
    "krum": flower.Krum(num_malicious_nodes=1),
    "multi-krum": flower.MultiKrum(num_malicious_nodes=1, num_nodes_to_select=3),
    "bulyan": flower.Bulyan(num_malicious_nodes=1),
    "average": flower.FedAvg(),
}


def one_round(strategy: object, *, num_clients: int = 7, bad: float = 0) -> tuple[Arrays, list[int]]:
    """Clients add 1, 2, ...; with `bad` the last one adds this."""
    rounds = {"fraction_fit": 1.0, "min_fit_clients": 2, "num_clients": num_clients, "seed": 7, "share": ["*"]}
    own = FlowerStrategy(strategy=strategy, **rounds)
    own.restore({}, START)

    def reply(partition_id: int, arrays: Arrays, _: object) -> Reply | None:
        return echo(partition_id, arrays, step=int(bad)) if bad and partition_id == num_clients - 1 else None

    arrays, report = own.round(EchoWire(num_clients, reply), 1, START, {})
    return arrays, list(report.clients)


@pytest.mark.parametrize("name", STRATEGIES)
def test_dtypes_come_back_and_counters_take_their_maximum(name: str) -> None:
    arrays, clients = one_round(STRATEGIES[name])
    assert clients == list(range(7))
    for key, array in START.items():
        assert arrays[key].dtype == array.dtype and arrays[key].shape == array.shape
    assert arrays["n"] == 3 + 7
    assert (arrays["w"] > START["w"]).all() and (arrays["w"] <= START["w"] + 7).all()


def test_the_median_and_the_average_are_those_of_the_replies() -> None:
    np.testing.assert_allclose(one_round(STRATEGIES["median"])[0]["w"], START["w"] + 4)
    steps = np.arange(1, 8)
    mean = (steps * steps).sum() / steps.sum()
    np.testing.assert_allclose(one_round(STRATEGIES["average"])[0]["w"], START["w"] + mean, rtol=1e-6)


@pytest.mark.parametrize("name", ["median", "trimmed", "krum", "multi-krum", "bulyan"])
def test_a_robust_strategy_withstands_one_client(name: str) -> None:
    arrays, _ = one_round(STRATEGIES[name], bad=10_000)
    assert (arrays["w"] <= START["w"] + 7).all()


def test_the_memory_is_told_before_the_start(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="fedvssl"):
        one_round(STRATEGIES["median"])
    assert caplog.messages[0] == "FedMedian needs all 7 replies of a round at once: 0.0 GB."


def test_too_few_replies_for_a_strategy_end_the_run_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("needs 7")

    monkeypatch.setattr(flower.FedMedian, "aggregate_train", fail)
    with pytest.raises(FederationError, match=r"Round 1: FedMedian cannot aggregate 3 replies \(AssertionError: needs"):
        one_round(flower.FedMedian(), num_clients=3)


def test_it_is_named_in_yaml() -> None:
    krum = ["strategy.strategy._target_=flwr.serverapp.strategy.Krum", "+strategy.strategy.num_malicious_nodes=1"]
    for words, kind in (([], flower.FedMedian), (krum, flower.Krum)):
        settings = compose("base", ["strategy=fedmedian", *words])["strategy"]
        limits = {"max_update_factor", "oversized_updates", "rule"}
        built = build({n: v for n, v in settings.items() if n not in limits}, num_clients=5, seed=7)
        assert type(built.strategy) is kind and built.share == ["backbone.*"]


@pytest.mark.parametrize("setting", [{"fraction_train": 0.5}, {"min_train_nodes": 3}, {"min_available_nodes": 4}])
def test_settings_of_whom_to_ask_are_refused_because_they_would_have_no_effect(setting: dict) -> None:
    with pytest.raises(ValueError, match=rf"strategy\.strategy\.{next(iter(setting))} has no effect: set"):
        one_round(flower.FedMedian(**setting))
