"""Whatever one client sends, its reply is dropped in one line and the round goes on with the others."""

import json
import logging
import math
from functools import partial

import numpy as np
import pytest
from flwr.app import Array, ConfigRecord, Error, Message, MetricRecord

from fedvssl.files.round_records import to_records
from fedvssl.strategy.fedvssl import FedVSSL
from fedvssl.wire.record import pack
from fedvssl.wire.replies import Report
from fedvssl.wire.wire import FederationError
from tests.federation import LocalGrid
from tests.strategy.test_fedavg import GLOBAL, echo_app, reply_with, run_round, strategy_for

BEFORE, AFTER = "{'descr': '<f4', 'fortran_order': False, 'shape': ", ", }"
HEADERS = {
    "a lost bracket": BEFORE + "(2, 3",
    "brackets": "{{{{",
    "a bool in the shape": f"{BEFORE}(True, 3){AFTER}",
    "a shape of 800 digits": f"{BEFORE}({'9' * 800},){AFTER}",
    "a shape of 4 TB": f"{BEFORE}(1000000, 1000000){AFTER}",
    "a negative shape": f"{BEFORE}(-1,){AFTER}",
    "nesting": "[" * 900,
}


def set_header(reply: Message, text: str) -> None:
    encoded = text.encode().ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(encoded).to_bytes(2, "little") + encoded + bytes(24)
    reply.content["arrays"]["backbone.w"] = Array("float32", (2, 3), "numpy.ndarray", data)


def change_array(reply: Message, **changed) -> None:
    reply.content["arrays"]["backbone.w"].__dict__.update(changed)


def set_fact(reply: Message, name: str, value) -> None:
    reply.content["metrics"].__dict__["_data"][name] = value


def replace(reply: Message, **records) -> None:
    reply.content.__dict__["_data"].update(records)


def fail(reply: Message, reason) -> None:
    reply.__dict__.update(_content=None, _error=Error(2, reason))


CHANGES = {
    **{name: partial(set_header, text=text) for name, text in HEADERS.items()},
    "another storage": partial(change_array, stype="\n" * 1000),
    "an array of nothing": partial(change_array, data=None),
    "videos inf": partial(set_fact, name="num-examples", value=math.inf),
    "videos 1e12": partial(set_fact, name="num-examples", value=1e12),
    "server-round": partial(set_fact, name="server-round", value=9),
    "partition-id": partial(set_fact, name="partition-id", value=0),
    "loss below 0": partial(set_fact, name="loss", value=-1e9),
    "a huge number": partial(set_fact, name="seconds-on-client", value=10**400),
    "seconds in words": partial(set_fact, name="seconds-on-client", value="long"),
    "metrics are no record": partial(replace, metrics=[1]),
    "an array is no array": partial(replace, arrays={"backbone.w": 1}),
    "a reason in bytes": partial(fail, reason=b"\xff\n" * 10**6),
}


def changed(message: Message, partition_id: int, change) -> Message:
    reply = reply_with(message, step=partition_id + 1)
    change(reply)
    return reply


@pytest.mark.parametrize("fault", CHANGES)
@pytest.mark.parametrize("culprit", [0, 1])
def test_a_reply_costs_its_client_only(fault, culprit, caplog):
    """Client 0 comes first, which once decided the names of all columns."""
    grid = LocalGrid(echo_app(), 3, lambda p, m: changed(m, p, CHANGES[fault]) if p == culprit else None)
    strategy = FedVSSL(
        **{"mix_coeff": 0.9, "swbeta": 0, "fraction_fit": 1.0, "min_fit_clients": 2, "num_clients": 3, "seed": 7},
        round_timeout=5.0,
    )
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        arrays, columns = run_round(strategy, grid)
    others = [number for number in range(3) if number != culprit]
    assert columns["partition-id"] == others and columns["failed-partition-ids"] == [culprit]
    (line,) = caplog.messages
    assert line.startswith(f"round 1: client {culprit} (") and line.isprintable() and len(line) < 600
    steps = np.array([number + 1 for number in others])
    weights = 0.9 * np.array([0.5, 0.5]) + 0.1 * steps / steps.sum()
    np.testing.assert_allclose(arrays["backbone.w"], (weights * steps).sum(), rtol=1e-6)


def test_all_bad_replies_end_the_run_in_one_sentence():
    grid = LocalGrid(echo_app(), 2, lambda p, m: changed(m, p, CHANGES["brackets"]))
    with pytest.raises(FederationError) as caught:
        run_round(strategy_for(2), grid)
    assert str(caught.value).startswith("Round 1 has 0 valid replies of 2 clients") and str(caught.value).isprintable()


def test_a_column_is_the_servers_and_holds_what_each_client_reports(caplog):
    """Client 0 leaves `num-clips` out and sends a name of its own."""
    facts = {0: {"evil": 1.0}, 1: {"num-clips": 4, "iou": 0.5}, 2: {"num-clips": 6, "iou": 1.0}}
    grid = LocalGrid(echo_app(), 3, lambda p, m: reply_with(m, step=p + 1, **facts[p]))
    strategy = strategy_for(3)
    strategy.report = Report(("iou",))
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        for server_round in (1, 2):
            _, columns = run_round(strategy, grid, server_round)
    assert caplog.messages == ["client 0 (client_dist1.json): metrics that the task lacks are left out: evil"]
    total, *clients = to_records(columns, server_round=2, lr=0.1, seconds={"seconds_clients": 5.0})
    assert [set(client) & {"num_clips", "iou", "evil"} for client in clients] == [set(), *[{"num_clips", "iou"}] * 2]
    assert (total["num_clips"], total["clips_per_second"]) == (10, 2.0)
    assert total["iou"] == pytest.approx((20 * 0.5 + 30 * 1.0) / 50), "the mean of those who report it"
    json.dumps([total, *clients], allow_nan=False)


def test_answers_to_nothing_and_second_answers_are_dropped():
    strategy = strategy_for(3, min_fit_clients=2)
    grid = LocalGrid(echo_app(), 3)
    messages = strategy.configure_train(1, pack(GLOBAL), ConfigRecord(), grid)
    for number, message in enumerate(messages):
        message.metadata.__dict__["_message_id"] = str(number)
    replies = [reply_with(message, step=n) for n, message in enumerate(messages, start=1)]
    stranger = reply_with(messages[2], step=3)
    stranger.metadata.__dict__["_reply_to_message_id"] = "unknown"
    lost = reply_with(messages[2], step=3)
    lost.__dict__["_metadata"] = None
    record, columns = strategy.aggregate_train(1, [replies[0], replies[0], stranger, lost, replies[1]])
    assert columns["partition-id"] == [0, 1] and columns["failed-partition-ids"] == [2]
    np.testing.assert_allclose(record["backbone.w"].numpy(), (1 * 10 + 2 * 20) / 30)


def test_a_reply_in_the_name_of_another_client_is_nobodys(caplog):
    first: list[Message] = []

    def pretend(partition_id: int, message: Message) -> Message | None:
        first.append(message)
        return reply_with(first[0], step=100, arrays=dict(GLOBAL)) if partition_id == 1 else None

    grid = LocalGrid(echo_app(), 3, pretend)
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        arrays, columns = run_round(strategy_for(3, min_fit_clients=2), grid)
    assert columns["failed-partition-ids"] == [1]
    np.testing.assert_allclose(arrays["backbone.w"], (1 * 10 + 3 * 30) / 40)
    assert caplog.messages == ["round 1: client 1 (client_dist2.json) failed: no reply to its message within 5 s"]


def test_a_reply_that_flower_cannot_read_costs_its_client_only(caplog, monkeypatch):
    grid = LocalGrid(echo_app(), 3)
    pull = grid.pull_messages

    def cannot_read(message_ids):
        (number,) = message_ids
        if grid.sent and number == grid.sent[1][1].metadata.message_id:
            raise KeyError("an unknown record")
        return pull(message_ids)

    monkeypatch.setattr(grid, "pull_messages", cannot_read)
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        _, columns = run_round(strategy_for(3, min_fit_clients=2), grid)
    assert columns["failed-partition-ids"] == [1] and "cannot be read: KeyError: 'an unknown record'" in caplog.text


def test_a_weight_that_a_client_spoils_costs_its_client_only():
    strategy = strategy_for(3, min_fit_clients=2)
    strategy.report = Report(("iou",))
    strategy.log_weights = lambda metrics: {"video": math.log(metrics["iou"]) if metrics["iou"] else -math.inf}
    facts = {0: {"iou": 0.5}, 1: {"iou": 0.0}, 2: {"iou": 1.0}}
    grid = LocalGrid(echo_app(), 3, lambda p, m: reply_with(m, step=p + 1, **facts[p]))
    _, columns = run_round(strategy, grid)
    assert columns["failed-partition-ids"] == [1]


def test_a_doubtful_node_is_left_out_and_the_others_go_on(caplog):
    grid = LocalGrid(echo_app(), 5)
    nodes = list(grid.partition_of)
    grid.partition_of[nodes[4]] = 3
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        _, columns = run_round(strategy_for(5, min_fit_clients=3), grid)
    assert columns["partition-id"] == [0, 1, 2] and len(caplog.messages) == 2
    with pytest.raises(
        FederationError, match=r"3 clients can be reached, .* asks for 4: .* \(2 are left out, the first"
    ):
        run_round(strategy_for(5, min_fit_clients=4), grid)


def test_a_partition_beyond_the_pool_is_left_out():
    grid = LocalGrid(echo_app(), 3)
    grid.partition_of[list(grid.partition_of)[2]] = 77
    strategy = strategy_for(3, min_fit_clients=2)
    _, columns = run_round(strategy, grid)
    assert columns["partition-id"] == [0, 1] and sorted(strategy.introductions.clients) == [0, 1]


def test_metric_records_are_left_as_they_came():
    """The time of the way is the server's own number and does not go through the record of the client."""
    kept: list[MetricRecord] = []

    def reply(partition_id: int, message: Message) -> Message:
        made = reply_with(message, step=partition_id + 1, **{"seconds-on-client": 1e9})
        kept.append(made.content["metrics"])
        return made

    _, columns = run_round(strategy_for(2), LocalGrid(echo_app(), 2, reply))
    assert columns["seconds-communication"] == [0.0, 0.0], "never below zero"
    assert all("seconds-communication" not in facts for facts in kept)
