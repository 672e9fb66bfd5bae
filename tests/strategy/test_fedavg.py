import itertools
import logging
import threading
import time
import tracemalloc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.server.superlink.linkstate.utils import (
    create_message_error_unavailable_ins_message,
    create_message_error_unavailable_res_message,
)

from fedvssl.strategy import fedavg
from fedvssl.strategy.bounds import UpdateBound
from fedvssl.strategy.fedavg import FedAvg, sample_clients
from fedvssl.strategy.fedvssl import FedVSSL
from fedvssl.wire.grid import exchange
from fedvssl.wire.record import pack, unpack
from fedvssl.wire.replies import first_line
from fedvssl.wire.wire import FederationError
from tests.federation import LocalGrid

GLOBAL = {"backbone.w": np.zeros((2, 3), np.float32), "head.n": np.array(0, np.int64)}


def echo_app() -> ClientApp:
    """Every client adds its partition id + 1 to what it gets."""
    app = ClientApp()

    @app.query()
    def introduce(message: Message, context) -> Message:
        partition_id = context.node_config["partition-id"]
        facts = MetricRecord({"partition-id": partition_id, "num-examples": 10 * (partition_id + 1)})
        return Message(RecordDict({"client": facts}), reply_to=message)

    @app.train()
    def train(message: Message, context) -> Message:
        return reply_with(message, step=context.node_config["partition-id"] + 1)

    return app


def reply_with(message: Message, *, step: int, arrays=None, **facts) -> Message:
    received = unpack(message.content["arrays"])
    arrays = {name: array + array.dtype.type(step) for name, array in received.items()} if arrays is None else arrays
    metrics = MetricRecord({"loss": 1.0, "num-examples": 10 * step, **facts})
    return Message(RecordDict({"arrays": pack(arrays), "metrics": metrics}), reply_to=message)


def strategy_for(num_clients: int, *, max_factor: float | None = None, **settings) -> FedAvg:
    defaults = {"fraction_fit": 1.0, "min_fit_clients": num_clients, "seed": 7, "round_timeout": 5.0}
    return FedAvg(num_clients=num_clients, bound=UpdateBound(max_factor=max_factor), **{**defaults, **settings})


def run_round(strategy: FedAvg, grid: LocalGrid, server_round: int = 1):
    messages = strategy.configure_train(server_round, pack(GLOBAL), ConfigRecord({"lr": 0.5}), grid)
    replies = exchange(grid, messages, timeout=strategy.round_timeout, stop=strategy.stop)
    record, metrics = strategy.aggregate_train(server_round, replies)
    return {name: array.numpy() for name, array in record.items()}, dict(metrics)


def test_a_round_sends_samples_and_averages_by_videos():
    grid = LocalGrid(echo_app(), 3)
    arrays, metrics = run_round(strategy_for(3), grid, server_round=4)
    np.testing.assert_allclose(arrays["backbone.w"], (1 * 10 + 2 * 20 + 3 * 30) / 60)
    assert arrays["head.n"] == 3 and arrays["head.n"].dtype == np.int64
    config = grid.sent[0][1].content["config"]
    assert config["server-round"] == 4 and config["lr"] == 0.5
    assert metrics["partition-id"] == [0, 1, 2], "columns follow the partitions, not the order of arrival"
    np.testing.assert_allclose(metrics["weight"], [1 / 6, 2 / 6, 3 / 6])
    assert metrics["failed-partition-ids"] == []
    sizes = [len(array.data) for array in grid.sent[0][1].content["arrays"].values()]
    assert metrics["bytes-up"] == [sum(sizes)] * 3


@pytest.mark.parametrize(("fraction", "least", "expected"), [(0.05, 5, 5), (0.1, 5, 10), (1.0, 1, 100), (0.0, 2, 2)])
def test_number_of_sampled_clients(fraction, least, expected):
    grid = LocalGrid(echo_app(), 100)
    strategy = strategy_for(100, fraction_fit=fraction, min_fit_clients=least)
    strategy.configure_train(1, pack(GLOBAL), ConfigRecord(), grid)
    assert len(strategy.sampled) == expected


def test_a_client_that_cannot_be_reached_does_not_change_how_many_train():
    grid = LocalGrid(echo_app(), 9)
    strategy = strategy_for(10, fraction_fit=0.5, min_fit_clients=2, round_timeout=0.2)
    strategy.configure_train(1, pack(GLOBAL), ConfigRecord(), grid)
    assert len(strategy.sampled) == 5, "half of 10, not of 9"


def test_sampling_depends_on_seed_and_round_and_not_on_node_ids():
    def sampled(*, nodes: int, seed: int = 7, server_round: int = 1) -> list[int]:
        strategy = strategy_for(20, fraction_fit=0.25, min_fit_clients=5, seed=seed)
        strategy.configure_train(server_round, pack(GLOBAL), ConfigRecord(), LocalGrid(echo_app(), 20, seed=nodes))
        return list(strategy.sampled.values())

    assert sampled(nodes=1) == sampled(nodes=2)
    assert sampled(nodes=1) != sampled(nodes=1, server_round=2)
    assert sampled(nodes=1) != sampled(nodes=1, seed=8)


def test_the_draw_of_clients_shares_no_stream_with_a_clients_batches():
    for server_round in range(1, 6):
        of_client_0 = np.random.default_rng([7, server_round, 0, 0]).choice(100, size=5, replace=False)
        assert sample_clients(range(100), size=5, seed=7, server_round=server_round) != sorted(of_client_0)


def test_every_client_is_sampled_sooner_or_later():
    drawn = [sample_clients(range(10), size=3, seed=7, server_round=n) for n in range(100)]
    assert {n for clients in drawn for n in clients} == set(range(10))
    assert all(len(set(clients)) == 3 for clients in drawn)


INVALID = {
    "no metrics": lambda m: Message(RecordDict({"arrays": pack(GLOBAL)}), reply_to=m),
    "other names": lambda m: reply_with(m, step=1, arrays={"backbone.w": GLOBAL["backbone.w"]}),
    "other shape": lambda m: reply_with(m, step=1, arrays={**GLOBAL, "backbone.w": np.zeros((3, 2), np.float32)}),
    "other dtype": lambda m: reply_with(m, step=1, arrays={**GLOBAL, "head.n": np.array(0.5)}),
    "not finite": lambda m: reply_with(m, step=1, arrays={**GLOBAL, "backbone.w": np.full((2, 3), np.nan, "f4")}),
    "the loss is nan": lambda m: reply_with(m, step=1, loss=float("nan")),
    "no video": lambda m: reply_with(m, step=0),
    "ValueError: no list": lambda m: Message(Error(2, "ValueError: no list\n  at line 3"), reply_to=m),
}
SENTENCES = {
    "no metrics": "lacks 'arrays' or 'metrics'",
    "other names": "1 arrays with other names than the 2",
    "other shape": "'backbone.w' is float32 (3, 2) instead of float32 (2, 3)",
    "other dtype": "'head.n' is float64",
    "not finite": "'backbone.w' has values that are not finite",
}


@pytest.mark.parametrize("fault", INVALID)
def test_an_invalid_reply_is_named_and_left_out(fault, caplog):
    grid = LocalGrid(
        echo_app(), 3, lambda partition_id, message: INVALID[fault](message) if partition_id == 1 else None
    )
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        arrays, metrics = run_round(strategy_for(3, min_fit_clients=2), grid)
    np.testing.assert_allclose(arrays["backbone.w"], (1 * 10 + 3 * 30) / 40)
    assert metrics["partition-id"] == [0, 2] and metrics["failed-partition-ids"] == [1]
    (line,) = caplog.messages
    assert line.startswith("round 1: client 1 (client_dist2.json) failed: ") and SENTENCES.get(fault, fault) in line


FLOWERS_OWN = {
    "Node Unavailable": lambda m: create_message_error_unavailable_res_message(m.metadata, "node_unavail"),
    "expired": lambda m: create_message_error_unavailable_ins_message(m.metadata.message_id, 1),
}


@pytest.mark.parametrize("word", FLOWERS_OWN)
def test_an_error_of_flower_itself_belongs_to_the_client_that_was_asked(word, caplog):
    """It comes from the SuperLink, whose node id is none of the clients'."""
    grid = LocalGrid(echo_app(), 3, lambda partition_id, m: FLOWERS_OWN[word](m) if partition_id == 2 else None)
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        _, metrics = run_round(strategy_for(3, min_fit_clients=2), grid)
    assert metrics["partition-id"] == [0, 1] and metrics["failed-partition-ids"] == [2]
    (line,) = caplog.messages
    assert line.startswith("round 1: client 2 (client_dist3.json) failed: ") and word in line


def test_an_error_of_flower_itself_to_the_first_question_names_the_node(caplog, monkeypatch):
    grid = LocalGrid(echo_app(), 2)
    lost, answer = sorted(grid.partition_of)[0], grid.app
    monkeypatch.setattr(
        grid,
        "app",
        lambda m, context: FLOWERS_OWN["Node Unavailable"](m) if m.metadata.dst_node_id == lost else answer(m, context),
    )
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        run_round(strategy_for(2, min_fit_clients=1, round_timeout=0.5), grid)
    assert caplog.messages[0].startswith(f"node {lost} cannot take part: ")


def test_a_message_that_cannot_be_sent_is_not_waited_for(monkeypatch):
    grid = LocalGrid(echo_app(), 2)
    push = grid.push_messages
    monkeypatch.setattr(grid, "push_messages", lambda messages: [None, *list(push(messages))[1:]])
    messages = [Message(RecordDict(), node_id, "query") for node_id in grid.partition_of]
    started = time.monotonic()
    assert len(list(exchange(grid, messages, timeout=20, stop=threading.Event()))) == 1
    assert time.monotonic() - started < 10


def test_an_order_names_the_last_round_in_which_the_reply_counted():
    def fall_silent(partition_id, message):
        return "silence" if (partition_id, message.content["config"]["server-round"]) == (1, 2) else None

    grid = LocalGrid(echo_app(), 2, fall_silent)
    strategy = strategy_for(2, min_fit_clients=1, round_timeout=0.3)
    for server_round in (1, 2, 3):
        run_round(strategy, grid, server_round)
    named = [(who, message.content["config"]["head-round"]) for who, message in grid.sent]
    assert [sorted(named[n : n + 2]) for n in (0, 2, 4)] == [[(0, 0), (1, 0)], [(0, 1), (1, 1)], [(0, 2), (1, 1)]]


def test_too_few_valid_replies_end_the_run_with_one_sentence():
    grid = LocalGrid(
        echo_app(), 3, lambda partition_id, message: INVALID["no video"](message) if partition_id else None
    )
    with pytest.raises(FederationError) as caught:
        run_round(strategy_for(3, min_fit_clients=2), grid, server_round=6)
    assert str(caught.value) == (
        "Round 6 has 1 valid replies of 3 clients, strategy.min_fit_clients asks for 2: lower it to go on without "
        "the others. Client 1 (client_dist2.json) failed: it trained on no video (1 more are named in the log)."
    )


def test_a_silent_client_is_left_out_after_the_timeout():
    grid = LocalGrid(echo_app(), 2, lambda partition_id, message: "silence" if partition_id == 0 else None)
    strategy = strategy_for(2, min_fit_clients=1, round_timeout=0.3)
    _, metrics = run_round(strategy, grid)
    assert metrics["partition-id"] == [1] and metrics["failed-partition-ids"] == [0]


def test_a_round_waits_until_all_nodes_are_there():
    grid = LocalGrid(echo_app(), 3)
    everyone = dict(grid.partition_of)
    late = grid.partition_of.popitem()
    timer = threading.Timer(0.3, lambda: grid.partition_of.update([late]))
    timer.start()
    strategy = strategy_for(3, min_fit_clients=1)
    strategy.configure_train(1, pack(GLOBAL), ConfigRecord(), grid)
    assert strategy.sampled.keys() == everyone.keys()


def test_nodes_that_never_come_end_the_run():
    with pytest.raises(FederationError, match=r"2 clients can be reached, strategy\.min_fit_clients asks for 3"):
        run_round(strategy_for(3, round_timeout=0.3), LocalGrid(echo_app(), 2))


def test_stopping_ends_the_waiting_at_once():
    grid = LocalGrid(echo_app(), 2, lambda *_: "silence")
    strategy = strategy_for(2, round_timeout=60)
    threading.Timer(0.3, strategy.stop.set).start()
    started = time.monotonic()
    with pytest.raises(FederationError, match="stopped"):
        run_round(strategy, grid)
    assert time.monotonic() - started < 10


def test_messages_outlive_the_round(monkeypatch):
    strategy = strategy_for(1, round_timeout=10**6)
    grid = LocalGrid(echo_app(), 1)
    run_round(strategy, grid)
    assert grid.sent[0][1].metadata.ttl >= 10**6, "Flower's default of 12 h would lose the reply of a longer round"


def test_a_client_is_asked_for_its_partition_once(monkeypatch):
    asked = []
    real = fedavg.exchange
    monkeypatch.setattr(
        fedavg, "exchange", lambda grid, messages, **k: asked.extend(messages) or real(grid, messages, **k)
    )
    strategy, grid = strategy_for(3), LocalGrid(echo_app(), 3)
    run_round(strategy, grid, 1)
    run_round(strategy, grid, 2)
    assert len(asked) == 3


def replies_to(strategy: FedAvg, arrays: dict[str, np.ndarray]) -> Iterator[Message]:
    """A round whose replies are made when they are asked for; partition 0 replies first."""
    grid = LocalGrid(echo_app(), strategy.num_clients)
    messages = strategy.configure_train(2, pack(arrays), ConfigRecord(), grid)
    for number, message in enumerate(messages):
        message.metadata.__dict__["_message_id"] = str(number)
    return (reply_with(message, step=n, loss=1 / n) for n, message in enumerate(messages, start=1))


BOTH_AVERAGES = {"mix_coeff": 0.9, "swbeta": 1, "fraction_fit": 1.0, "seed": 7, "round_timeout": 5.0}


def test_memory_does_not_grow_with_the_number_of_clients():
    arrays = {f"backbone.w{n}": np.ones(10**6, np.float32) for n in range(4)}
    size = sum(array.nbytes for array in arrays.values())
    peaks = {}
    for num_clients in (4, 16):
        strategy = FedVSSL(num_clients=num_clients, min_fit_clients=num_clients, **BOTH_AVERAGES)
        replies = replies_to(strategy, arrays)
        tracemalloc.start()
        strategy.aggregate_train(2, replies)
        peaks[num_clients] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[16] == pytest.approx(peaks[4], rel=0.05)
    assert peaks[16] < 4.1 * size, "two averages, a reply, and the arrays of which this test's client makes it"


def test_a_reply_is_gone_when_the_next_one_is_asked_for():
    alive = []
    strategy = strategy_for(3)

    def watched(replies):
        for _ in range(3):
            assert not [reference for reference in alive if reference() is not None]
            held = [next(replies)]
            alive[:] = map(weakref.ref, [held[0], *held[0].content["arrays"].values()])
            yield held.pop()

    strategy.aggregate_train(2, watched(replies_to(strategy, GLOBAL)))
    assert len(alive) == 3


def test_the_order_of_arrival_does_not_change_a_bit():
    arrays = {"backbone.w": np.random.default_rng(0).standard_normal(100, dtype=np.float32)}
    strategy = FedVSSL(num_clients=4, min_fit_clients=4, **BOTH_AVERAGES)
    replies = list(replies_to(strategy, arrays))
    outcomes = [strategy.aggregate_train(2, order) for order in itertools.permutations(replies)]
    for record, metrics in outcomes:
        assert record["backbone.w"].data == outcomes[0][0]["backbone.w"].data and metrics == outcomes[0][1]


def test_an_invalid_reply_leaves_the_averages_untouched():
    """Its last array is the only wrong one."""
    arrays = {"backbone.v": np.ones(3, np.float32), "backbone.w": np.ones(3, np.float32)}
    strategy = strategy_for(3, min_fit_clients=2)
    first, second, third = replies_to(strategy, arrays)
    wrong = {"backbone.v": np.full(3, 1e30, np.float32), "backbone.w": np.full(3, np.nan, np.float32)}
    second.content["arrays"] = pack(wrong)
    record, metrics = strategy.aggregate_train(2, [first, second, third])
    np.testing.assert_allclose(record["backbone.v"].numpy(), 1 + (1 * 10 + 3 * 30) / 40)
    assert metrics["failed-partition-ids"] == [1]


def test_first_line():
    assert first_line("<class 'ray.exceptions.ActorDiedError'>:<'It died.\nMore'>") == "ActorDiedError: It died."
    assert (
        first_line("\n  Traceback\n more") == "Traceback" and first_line(None) == first_line(" \n") == "no reason given"
    )
