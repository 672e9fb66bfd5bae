import itertools
import math
import weakref

import numpy as np
import pytest

from fedvssl.strategy.average import mix
from fedvssl.strategy.intake import MAX_WAITING, Intake
from fedvssl.wire.wire import Update


def update(partition_id: int, num_clients: int = 5) -> Update:
    rng = np.random.default_rng(partition_id)
    arrays = {"w": rng.standard_normal(1000, dtype=np.float32), "n": np.array(partition_id)}
    return Update(partition_id, arrays, {"loss": rng.uniform(1, 9), "num-examples": 1 + partition_id})


SHARES = {"a": 0.9, "b": 0.1}


class Recorder(Intake):
    """Remembers in which order the updates were averaged."""

    def __init__(self, num_clients: int) -> None:
        super().__init__(range(num_clients), averages=SHARES, log_weights=self.weigh)
        self.order: list[int] = []

    def weigh(self, metrics):
        self.order.append(round(metrics["num-examples"]) - 1)
        return {"a": -metrics["loss"], "b": math.log(metrics["num-examples"])}


def average(order, num_clients: int = 5) -> tuple[dict[str, np.ndarray], list[int]]:
    intake = Recorder(num_clients)
    for partition_id in order:
        intake.add(update(partition_id))
    return mix(intake.finish(), SHARES), intake.order


def test_the_order_of_arrival_does_not_change_a_bit():
    expected, _ = average(range(5))
    for order in itertools.permutations(range(5)):
        result, averaged = average(order)
        np.testing.assert_array_equal(result["w"], expected["w"])
        assert averaged == [0, 1, 2, 3, 4] and result["n"] == 4


def test_an_update_is_averaged_as_soon_as_none_is_before_it():
    intake = Recorder(5)
    for partition_id, averaged in [(1, []), (0, [0, 1]), (3, [0, 1]), (2, [0, 1, 2, 3]), (4, [0, 1, 2, 3, 4])]:
        intake.add(update(partition_id))
        assert intake.order == averaged


def test_only_a_few_wait_and_then_the_first_goes_on_within_rounding():
    num_clients = MAX_WAITING + 4
    intake = Recorder(num_clients)
    for partition_id in range(num_clients - 1, 0, -1):
        intake.add(update(partition_id))
        assert num_clients - partition_id - len(intake.order) <= MAX_WAITING
    intake.add(update(0))
    assert intake.order == [3, 2, 1, 0, 4, 5, 6, 7], "of five that wait the first, in the end all in order"
    assert list(intake.metrics) != sorted(intake.metrics)
    result = mix(intake.finish(), SHARES)
    assert list(intake.metrics) == list(range(num_clients)), "records are in the order of the partitions"
    expected, _ = average(range(num_clients), num_clients)
    np.testing.assert_allclose(result["w"], expected["w"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("order", itertools.permutations([1, 2, "skip 0", "skip 3", 4]))
def test_clients_that_failed_are_not_waited_for(order):
    intake = Recorder(5)
    for step in order:
        if isinstance(step, int):
            intake.add(update(step))
        else:
            intake.skip(int(step[-1]))
    assert intake.order == [1, 2, 4], "already before the end"
    np.testing.assert_array_equal(mix(intake.finish(), SHARES)["w"], average([1, 2, 4])[0]["w"])


def test_silent_clients_hold_nothing_back_in_the_end():
    result, averaged = average([3, 1])
    assert averaged == [1, 3] and list(result) == ["w", "n"]


def test_without_an_update_there_is_no_array():
    assert Recorder(2).finish() == {"a": {}, "b": {}}


def test_no_update_is_kept():
    intake, first = Recorder(2), update(0)
    gone = weakref.ref(first)
    intake.add(first)
    del first
    assert gone() is None
