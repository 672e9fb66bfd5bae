import math
from typing import Any

import numpy as np
import pytest

from fedvssl.wire.replies import LONGEST_LINE, Report, first_line, one_line, read_update, reason
from fedvssl.wire.wire import Reply, Update

REPORT = Report(("iou", "grad_norm"))
FACTS = {"loss": 1.0, "iou": 0.5, "num-clips": 7.0, "data-share": 0.25, "num-examples": 7}
SENT = {
    "bn.running_var": np.ones(2, np.float32),
    "bn.num_batches_tracked": np.array(100),
    "w": np.zeros((2, 3), np.float32),
    "half": np.zeros(2, np.float16),
    "pointer": np.array([5], np.int64),
    "flag": np.array([True]),
}


def read(facts: dict[str, Any], report: Report = REPORT) -> dict[str, float]:
    return report.read(facts, num_examples=7)


def update_with(arrays: dict[str, Any] | None = None, **facts: Any) -> Update:
    reply = Reply(0, {**SENT, **(arrays or {})}, {"loss": 1.0, "num-examples": 7, **facts}, bytes_up=5, seconds=2.0)
    return read_update(reply, expected=SENT, num_examples=7, report=REPORT)


def test_known_metrics_come_in_the_order_of_the_server():
    found = read({"num-clips": 7, **dict(reversed(FACTS.items())), "evil": 1.0})
    assert list(found) == ["loss", "iou", "num-clips", "data-share", "num-examples"]
    assert found["num-clips"] == 7.0 and isinstance(found["num-clips"], float)
    assert REPORT.unknown({**FACTS, "evil": 1.0}) == ["evil"]


def test_a_metric_that_is_missing_is_left_out():
    assert read({"loss": 1.0, "num-examples": 7}) == {"loss": 1.0, "num-examples": 7.0}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "server-round",
            "partition_id",
            "weight",
            "loss-weight",
            "lr",
            "seconds",
            "bytes-up",
            "bytes-down",
            "eval_R@1",
            "epoch",
        ),
        *("update-norm", "update_norm"),
    ],
)
def test_names_of_the_server_are_refused(name):
    with pytest.raises(ValueError, match=f"it reports '{name}', which only the server writes"):
        read({**FACTS, name: 3})
    with pytest.raises(ValueError, match=f"a metric '{name}', a name that is taken"):
        Report((name,))


@pytest.mark.parametrize("name", ["num_clips", "data-share", "num-examples", "loss"])
def test_a_task_does_not_use_the_names_of_the_loop(name):
    with pytest.raises(ValueError, match="a name that is taken: give it another one"):
        Report((name,))


@pytest.mark.parametrize("name", ["loss", "iou", "num-clips", "data-share"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e31, 10**400, True, "1", [1.0], None])
def test_a_metric_is_a_finite_number(name, value):
    with pytest.raises(ValueError, match=f"{name}'? is "):
        read({**FACTS, name: value})


@pytest.mark.parametrize(("name", "value"), [("num-clips", -1), ("seconds-data", -1e-9), ("data-share", 1.01)])
def test_facts_of_the_loop_have_their_ranges(name, value):
    with pytest.raises(ValueError, match=f"'{name}' is {value}, not a number from 0 to "):
        read({**FACTS, name: value})
    assert read({**FACTS, "iou": -1})["iou"] == -1, "a metric of the task may be any number"


def test_a_loss_lies_above_the_least_of_its_task():
    with pytest.raises(ValueError, match=r"the loss is -1000000000\.0, not a number from 0 to 1e\+30"):
        read({**FACTS, "loss": -1e9})
    assert read({**FACTS, "loss": -0.5}, Report(least_loss=-1.0))["loss"] == -0.5
    assert read({**FACTS, "loss": -9e9}, Report(least_loss=-math.inf))["loss"] == -9e9
    with pytest.raises(ValueError, match="the loss is missing"):
        read({"num-examples": 7})


@pytest.mark.parametrize("number", [math.inf, 1e12, 8, 6.5, math.nan, True, "7"])
def test_the_number_of_videos_is_the_introduced_one(number):
    with pytest.raises(ValueError, match="samples"):
        read({**FACTS, "num-examples": number})
    assert read({**FACTS, "num-examples": 7.0})["num-examples"] == 7


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("bn.running_var", np.float32([1, -1e-6])),
        ("bn.num_batches_tracked", np.array(99)),
        ("bn.num_batches_tracked", np.array(2**63 - 1)),
        ("bn.num_batches_tracked", np.array(100 + 2**31 + 1)),
        ("pointer", np.array([-(2**63)])),
        ("w", np.full((2, 3), 3e38, np.float32)),
        ("w", np.full((2, 3), np.nan, np.float32)),
        ("w", np.full((2, 3), -np.inf, np.float32)),
        ("half", np.full(2, 6e4, np.float16)),
        ("flag", np.array([255], np.uint8).view(bool)),
    ],
)
def test_arrays_that_no_training_makes_are_refused(name, array):
    with pytest.raises(ValueError, match=f"'{name}' has values "):
        update_with({name: array})


def test_arrays_that_a_training_makes_are_taken():
    grown = {"bn.running_var": np.float32([0, 1e9]), "bn.num_batches_tracked": np.array(100 + 2**31)}
    update = update_with({**grown, "w": np.full((2, 3), -1e9, np.float32), "pointer": np.array([0])})
    assert update.arrays.keys() == SENT.keys() and update.metrics["loss"] == 1.0


def test_an_error_is_the_reason_for_the_rejection():
    with pytest.raises(ValueError, match="out of memory"):
        read_update(Reply(0, error="out of memory"), expected=SENT, num_examples=7, report=REPORT)


def test_the_server_counts_bytes_and_the_round_trip_without_the_clients_own_work():
    update = update_with(**{"seconds-on-client": 0.5})
    assert (update.metrics["bytes-up"], update.metrics["seconds-communication"]) == (5, 1.5)
    assert update_with(**{"seconds-on-client": 1e9}).metrics["seconds-communication"] == 0.0, "never below zero"
    assert "seconds-communication" not in update_with().metrics


def test_first_line():
    assert first_line("<class 'ray.exceptions.ActorDiedError'>:<'It died.\nMore'>") == "ActorDiedError: It died."
    assert first_line("\n  Traceback\n more") == "Traceback"
    assert first_line(None) == first_line(" \n") == first_line("\0\n") == "no reason given"


def test_a_reason_is_one_printable_line():
    hostile = "a\nb\0\x1b[31m\ud800\u202e" + "x" * 10**6
    for line in (one_line(hostile), first_line(hostile[2:]), reason(ValueError(hostile)), reason(KeyError(hostile))):
        assert line.isprintable() and len(line) <= LONGEST_LINE
    assert one_line(b"\xff") == r"b'\xff'" and reason(KeyError("w")) == "KeyError: 'w'"
    assert reason(ValueError("it is")) == "it is" and reason(ValueError()) == "ValueError:"
