import itertools
import logging
import math
import tracemalloc
import weakref

import numpy as np
import pytest

from fedvssl.files.round_records import to_records
from fedvssl.strategy.fedvssl import FedVSSL
from fedvssl.strategy.rounds import sample_clients
from fedvssl.wire.replies import Report
from fedvssl.wire.wire import FederationError, Reply
from tests.strategy.echo import GLOBAL, EchoWire, echo, run_round, strategy_for


def test_a_round_asks_samples_and_averages_by_videos():
    wire = EchoWire(3)
    arrays, report = run_round(strategy_for(3), wire, server_round=4)
    np.testing.assert_allclose(arrays["backbone.w"], (1 * 10 + 2 * 20 + 3 * 30) / 60, rtol=1e-6)
    assert arrays["head.n"] == 3 and arrays["head.n"].dtype == np.int64
    assert wire.orders[0] == (0, {"server-round": 4, "kept-round": 0, "lr-factor": 0.5})
    assert list(report.clients) == [0, 1, 2] and report.failures == {}
    np.testing.assert_allclose([client["weight"] for client in report.clients.values()], [1 / 6, 2 / 6, 3 / 6])


@pytest.mark.parametrize(("fraction", "least", "expected"), [(0.05, 5, 5), (0.29, 5, 29), (1.0, 1, 100), (0.0, 2, 2)])
def test_number_of_sampled_clients(fraction, least, expected):
    wire = EchoWire(100)
    run_round(strategy_for(100, fraction_fit=fraction, min_fit_clients=least), wire)
    assert len(wire.orders) == expected


def test_a_client_that_cannot_be_reached_does_not_change_how_many_train():
    wire = EchoWire(10, missing=1)
    run_round(strategy_for(10, fraction_fit=0.5, min_fit_clients=2), wire)
    assert len(wire.orders) == 5, "half of 10, not of 9"


def test_sampling_depends_on_seed_and_round():
    def sampled(*, seed: int = 7, server_round: int = 1) -> list[int]:
        wire = EchoWire(20)
        run_round(strategy_for(20, fraction_fit=0.25, min_fit_clients=5, seed=seed), wire, server_round)
        return [partition_id for partition_id, _ in wire.orders]

    assert sampled() == sampled()
    assert sampled() != sampled(server_round=2) and sampled() != sampled(seed=8)


def test_the_draw_of_clients_shares_no_stream_with_a_clients_batches():
    for server_round in range(1, 6):
        of_client_0 = np.random.default_rng([7, server_round, 0, 0]).choice(100, size=5, replace=False)
        assert sample_clients(range(100), size=5, seed=7, server_round=server_round) != sorted(of_client_0)


def test_every_client_is_sampled_sooner_or_later():
    drawn = [sample_clients(range(10), size=3, seed=7, server_round=n) for n in range(100)]
    assert {n for clients in drawn for n in clients} == set(range(10))
    assert all(len(set(clients)) == 3 for clients in drawn)


def with_array(name, array):
    return lambda who, arrays: Reply(who, {**arrays, name: array}, echo(who, arrays).facts)


INVALID = {
    "no sample": lambda who, arrays: echo(who, arrays, **{"num-examples": 0}),
    "1 arrays with other names than the 2": lambda who, arrays: echo(who, {"backbone.w": arrays["backbone.w"]}),
    "'backbone.w' is float32 (3, 2) instead of": with_array("backbone.w", np.zeros((3, 2), np.float32)),
    "'head.n' is float64": with_array("head.n", np.array(0.5)),
    "'backbone.w' has values that are not finite": with_array("backbone.w", np.full((2, 3), np.nan, np.float32)),
    "the loss is nan": lambda who, arrays: echo(who, arrays, loss=math.nan),
    "ValueError: no list": lambda who, _: Reply(who, error="ValueError: no list"),
    "it trained on 7 samples and introduced": lambda who, arrays: echo(who, arrays, **{"num-examples": 7}),
    "'partition-id', which only the server writes": lambda who, arrays: echo(who, arrays, **{"partition-id": 2}),
    "'seconds-on-client' is 'long'": lambda who, arrays: echo(who, arrays, **{"seconds-on-client": "long"}),
    "the number of samples is 1000000": lambda who, arrays: echo(who, arrays, **{"num-examples": 10**400}),
}


@pytest.mark.parametrize("sentence", INVALID)
@pytest.mark.parametrize("culprit", [0, 1])
def test_an_invalid_reply_is_named_and_left_out(sentence, culprit, caplog):
    wire = EchoWire(3, lambda who, arrays, _: INVALID[sentence](who, arrays) if who == culprit else None)
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        arrays, report = run_round(strategy_for(3, min_fit_clients=2), wire)
    others = [number for number in range(3) if number != culprit]
    steps = np.array([number + 1 for number in others])
    np.testing.assert_allclose(arrays["backbone.w"], (steps * steps).sum() / steps.sum())
    assert list(report.clients) == others and list(report.failures) == [culprit]
    (line,) = caplog.messages
    assert (
        line.startswith(f"round 1: client {culprit + 1} (client_dist{culprit + 1}.json) failed: ") and sentence in line
    )


def test_an_order_names_the_last_round_in_which_the_reply_counted():
    def fall_silent(who, arrays, order):
        return Reply(who, error="no reply") if (who, order["server-round"]) == (1, 2) else None

    wire, strategy = EchoWire(2, fall_silent), strategy_for(2, min_fit_clients=1)
    for server_round in (1, 2, 3):
        run_round(strategy, wire, server_round)
    named = [(who, order["kept-round"]) for who, order in wire.orders]
    assert named == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 1)]


def test_too_few_valid_replies_end_the_run_with_one_sentence():
    wire = EchoWire(3, lambda who, arrays, _: INVALID["no sample"](who, arrays) if who else None)
    with pytest.raises(FederationError) as caught:
        run_round(strategy_for(3, min_fit_clients=2), wire, server_round=6)
    assert str(caught.value) == (
        "Round 6 has 1 valid replies of 3 clients, strategy.min_fit_clients asks for 2: lower it to go on without "
        "the others. Client 2 (client_dist2.json) failed: it trained on no sample (1 more are named in the log)."
    )


def test_too_few_clients_end_the_run_with_one_sentence():
    with pytest.raises(FederationError) as caught:
        run_round(strategy_for(3), EchoWire(3, missing=1))
    assert str(caught.value) == (
        "2 clients can be reached, strategy.min_fit_clients asks for 3: lower it to go on without the others "
        "(1 are left out, the first because it is broken)."
    )


def test_a_record_is_the_servers_and_holds_what_each_client_reports(caplog):
    """Client 0 leaves `num-clips` out and sends a name of its own."""
    facts = {0: {"evil": 1.0}, 1: {"num-clips": 4, "iou": 0.5}, 2: {"num-clips": 6, "iou": 1.0}}
    wire, strategy = EchoWire(3, lambda who, arrays, _: echo(who, arrays, **facts[who])), strategy_for(3)
    strategy.rounds.report = Report(("iou",))
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        reports = [run_round(strategy, wire, server_round)[1] for server_round in (1, 2)]
    assert caplog.messages == ["client 1 (client_dist1.json): metrics that the task lacks are left out: evil"]
    total, *clients = to_records(reports[-1], server_round=2, lr=0.1)
    assert [set(client) & {"num_clips", "iou", "evil"} for client in clients] == [set(), *[{"num_clips", "iou"}] * 2]
    assert total["num_clips"] == 10 and total["iou"] == pytest.approx((20 * 0.5 + 30 * 1.0) / 50)


def test_a_weight_that_a_client_spoils_costs_its_client_only():
    strategy = strategy_for(3, min_fit_clients=2)
    strategy.rounds.report = Report(("iou",))
    strategy.log_weights = lambda metrics: {"video": math.log(metrics["iou"]) if metrics["iou"] else -math.inf}
    wire = EchoWire(3, lambda who, arrays, _: echo(who, arrays, iou=(0.5, 0.0, 1.0)[who]))
    assert list(run_round(strategy, wire)[1].failures) == [1]


def test_a_metric_that_a_weight_needs_and_a_client_lacks_costs_its_client_only(caplog):
    strategy = strategy_for(3, min_fit_clients=2)
    strategy.rounds.report = Report(("iou",))
    strategy.log_weights = lambda metrics: {"video": metrics["iou"]}
    wire = EchoWire(3, lambda who, arrays, _: echo(who, arrays, **({"iou": 0.5} if who else {})))
    assert list(run_round(strategy, wire)[1].failures) == [0]
    assert "client 1 (client_dist1.json) failed: KeyError: 'iou'" in caplog.text


BOTH_AVERAGES = {"mix_coeff": 0.9, "swbeta": 1, "fraction_fit": 1.0, "seed": 7, "share": ["*"]}


def test_memory_does_not_grow_with_the_number_of_clients():
    arrays = {f"backbone.w{n}": np.ones(10**6, np.float32) for n in range(4)}
    size = sum(array.nbytes for array in arrays.values())
    peaks = {}
    for num_clients in (4, 16):
        strategy = FedVSSL(num_clients=num_clients, min_fit_clients=num_clients, **BOTH_AVERAGES)
        tracemalloc.start()
        strategy.round(EchoWire(num_clients), 2, arrays, {})
        peaks[num_clients] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[16] == pytest.approx(peaks[4], rel=0.05)
    assert peaks[16] < 3.6 * size, "two averages and a reply"


def test_a_reply_is_gone_when_the_next_one_is_asked_for():
    alive: list[weakref.ref] = []

    class Watched(EchoWire):
        def ask(self, action, orders):
            for who, (arrays, _) in orders.items():
                assert not [reference for reference in alive if reference() is not None]
                held = [echo(who, arrays)]
                alive[:] = [weakref.ref(held[0]), *map(weakref.ref, held[0].arrays.values())]
                yield held.pop()

    run_round(strategy_for(3), Watched(3))
    assert len(alive) == 3


class AnyOrder(EchoWire):
    """The replies come in this order."""

    def __init__(self, order) -> None:
        super().__init__(len(order))
        self._order = order

    def ask(self, action, orders):
        replies = list(super().ask(action, orders))
        return iter([replies[number] for number in self._order])


def test_the_order_of_arrival_does_not_change_a_bit():
    arrays = {"backbone.w": np.random.default_rng(0).standard_normal(100, dtype=np.float32)}
    outcomes = []
    for order in itertools.permutations(range(4)):
        strategy = FedVSSL(num_clients=4, min_fit_clients=4, **BOTH_AVERAGES)
        outcomes.append(strategy.round(AnyOrder(order), 2, arrays, {}))
    for averaged, report in outcomes:
        assert averaged["backbone.w"].tobytes() == outcomes[0][0]["backbone.w"].tobytes()
        assert report.clients == outcomes[0][1].clients


def test_an_invalid_reply_leaves_the_averages_untouched():
    """Its last array is the only wrong one."""
    arrays = {"backbone.v": np.ones(3, np.float32), "backbone.w": np.ones(3, np.float32)}
    wrong = {"backbone.v": np.full(3, 1e30, np.float32), "backbone.w": np.full(3, np.nan, np.float32)}
    wire = EchoWire(3, lambda who, sent, _: Reply(who, wrong, echo(who, sent).facts) if who == 1 else None)
    averaged, report = strategy_for(3, min_fit_clients=2).round(wire, 2, arrays, {})
    np.testing.assert_allclose(averaged["backbone.v"], 1 + (1 * 10 + 3 * 30) / 40)
    assert list(report.failures) == [1]


def test_the_arrays_of_the_round_before_stay_as_they_are():
    before = {name: array.copy() for name, array in GLOBAL.items()}
    run_round(FedVSSL(num_clients=2, min_fit_clients=2, **BOTH_AVERAGES), EchoWire(2), server_round=2)
    for name, array in GLOBAL.items():
        np.testing.assert_array_equal(array, before[name])


def test_scalars_of_an_own_strategy_become_arrays_again():
    """As numpy makes them of arrays without dimensions, and no engine could send them on."""
    strategy = strategy_for(2)
    strategy.aggregate = lambda _round, means, _previous: {name: 1 * array for name, array in means["video"].items()}
    arrays, _ = strategy.round(EchoWire(2), 1, GLOBAL, {})
    assert all(isinstance(array, np.ndarray) for array in arrays.values()) and arrays["head.n"].shape == ()


def test_weights_that_explode_end_the_run_before_they_count():
    strategy = strategy_for(1)
    wire = EchoWire(1, lambda who, arrays, _: Reply(who, {"w": np.full(2, 1e9, np.float32)}, echo(who, arrays).facts))
    with pytest.raises(FederationError, match=r"Round 3 would make the weights 1e\+09 times as large: it is not saved"):
        strategy.round(wire, 3, {"w": np.ones(2, np.float32)}, {})
    assert strategy.rounds.kept_rounds == {} and strategy.rounds.bound.typical is None


def test_seconds_of_waiting_and_of_averaging_are_apart(pass_time):
    _, report = run_round(strategy_for(2), EchoWire(2, lambda *_: pass_time(0.2)))
    assert report.seconds["seconds_clients"] == pytest.approx(0.4, abs=0.15)
    assert report.seconds["seconds_aggregate"] < 0.15
    assert report.seconds["seconds"] >= report.seconds["seconds_clients"] + report.seconds["seconds_aggregate"]
