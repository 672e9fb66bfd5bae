import logging
import math
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedvssl.strategy.bounds import Step, UpdateBound, check_growth, lower_median, norm
from fedvssl.wire.wire import FederationError, Update
from tests.strategy.echo import EchoWire, echo, run_round, strategy_for

START = {"w": np.arange(4, dtype=np.float32), "n": np.array(3)}


def update(partition_id: int, *, step: float, num_examples: int = 1) -> Update:
    arrays = {"w": START["w"] + np.float32(step), "n": np.array(5)}
    return Update(partition_id, arrays, {"loss": 1.0, "num-examples": float(num_examples)})


def admitted(bound: UpdateBound, *updates: Update) -> tuple[dict[int, Update], dict[int, str]]:
    """Updates that pass, and the reasons for the others."""
    reasons: dict[int, str] = {}
    passed = {u.partition_id: u for u in bound.admit(iter(updates), START, reject=reasons.__setitem__)}
    return passed, reasons


def test_norm_of_all_floating_point_arrays_together():
    arrays = {"a": np.full((3, 2), 2, np.float32), "b": np.array(5.0), "n": np.array(10**9)}
    assert norm(arrays) == math.sqrt(6 * 4 + 25)
    start = {"a": np.ones((3, 2), np.float32), "b": np.array(1.0), "n": np.array(0)}
    assert norm(arrays, start) == math.sqrt(6 + 16)
    long = np.random.default_rng(0).standard_normal(200_001, dtype=np.float32)
    assert norm({"a": long}) == pytest.approx(float(np.linalg.norm(long.astype(np.float64))), rel=1e-12)
    assert norm({"a": np.full(2, 3e38, np.float32)}) == pytest.approx(3e38 * math.sqrt(2), rel=1e-6)
    assert norm({"a": np.array(1e200)}) == math.inf
    assert norm({"a": long}) == norm({"a": long}, {"a": np.zeros_like(long)}), "the same to the bit"


def test_the_lower_median_of_two_is_the_smaller_one():
    assert lower_median([]) is None
    for norms, median in ([4], 4), ([9, 1], 1), ([3, 1, 2], 2), ([4, 1, 3, 2], 2):
        assert lower_median([Step(norm, 1, 1) for norm in norms]) == Step(median, 1, 1)
    assert lower_median([Step(9, 81, 81), Step(2, 1, 1)]) == Step(9, 81, 81), "by the root of the steps"


def test_a_size_is_relative_to_the_root_of_the_steps_that_the_server_counts():
    bound = UpdateBound(max_factor=10, batch_size=4)
    passed, _ = admitted(
        bound, update(0, step=1), update(1, step=1, num_examples=4), update(2, step=1, num_examples=33)
    )
    assert [u.metrics["update-norm"] for u in passed.values()] == pytest.approx([2, 2, 2 / 3])


@pytest.mark.parametrize(("step", "passes"), [(9.9, True), (-9.9, True), (10.1, False), (30, False), (1e30, False)])
def test_an_update_is_measured_against_the_last_accepted_round(step, passes):
    bound = UpdateBound(max_factor=10)
    bound.typical = Step(2.0, 1, 1)
    passed, reasons = admitted(bound, update(0, step=step), update(1, step=0.1))
    assert (0 in passed) is passes and 1 in passed
    if not passes:
        times = f"{abs(step):.3g}"
        assert reasons[0] == (
            f"its update is {times} times as large as is typical for its steps, strategy.max_update_factor allows 10"
        )


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_first_round_takes_its_own_median_whatever_comes_first(order, tmp_path: Path):
    bound = UpdateBound(max_factor=10, folder=tmp_path)
    sent = [update(0, step=30), update(1, step=1), update(2, step=1.1)]
    passed, reasons = admitted(bound, *(sent[n] for n in order))
    assert list(passed) == [1, 2] and list(reasons) == [0]
    np.testing.assert_array_equal(passed[2].arrays["w"], sent[2].arrays["w"])
    assert passed[2].arrays["n"] == 5 and passed[2].metrics["loss"] == 1.0
    assert not any(tmp_path.iterdir()), "the file that held them has no name"


def test_of_two_clients_the_larger_one_is_rejected_in_the_first_round():
    passed, reasons = admitted(UpdateBound(max_factor=10), update(0, step=30), update(1, step=1))
    assert list(passed) == [1] and list(reasons) == [0]


def test_clipping_shortens_to_the_largest_size_and_keeps_the_direction_and_the_counters():
    bound = UpdateBound(max_factor=10, oversized="clip")
    bound.typical = Step(2.0, 1, 1)
    passed, reasons = admitted(bound, update(0, step=-40), update(1, step=1))
    assert not reasons
    np.testing.assert_allclose(passed[0].arrays["w"], START["w"] - 10, rtol=1e-6)
    assert passed[0].arrays["w"].dtype == np.float32 and passed[0].arrays["n"] == 5
    np.testing.assert_array_equal(passed[1].arrays["w"], START["w"] + 1)
    assert passed[0].metrics["update-norm"] == 80, "as it was sent"


def test_an_infinite_size_is_rejected_even_where_others_are_clipped():
    bound = UpdateBound(max_factor=10, oversized="clip")
    bound.typical = Step(2.0, 1, 1)
    start, huge = {"w": np.zeros(2)}, Update(0, {"w": np.full(2, 1e200)}, {"num-examples": 1.0})
    reasons: dict[int, str] = {}
    assert not list(bound.admit(iter([huge]), start, reject=reasons.__setitem__)) and "inf times" in reasons[0]


def test_without_a_factor_and_where_nothing_moved_there_is_no_bound():
    assert list(admitted(UpdateBound(max_factor=None), update(0, step=1), update(1, step=1e6))[0]) == [0, 1]
    bound = UpdateBound(max_factor=10)
    bound.typical = Step(0.0, 1, 1)
    assert list(admitted(bound, update(0, step=0), update(1, step=3))[0]) == [0, 1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_factor": 1}, "max_update_factor=1 must be above 1"),
        ({"max_factor": "x"}, "max_update_factor=x"),
        ({"max_factor": True}, "max_update_factor=True"),
        ({"max_factor": 10, "oversized": "drop"}, "oversized_updates=drop is unknown: choose reject or clip"),
    ],
)
def test_wrong_settings_are_rejected(settings, words):
    with pytest.raises(ValueError, match=words):
        UpdateBound(**settings)


def test_memory_of_the_first_round_does_not_grow_with_the_number_of_clients():
    size, peaks = 10**6, {}
    start = {"w": np.zeros(size, np.float32)}
    for num_clients in (3, 12):
        updates = (
            Update(n, {"w": np.full(size, n + 1, np.float32)}, {"num-examples": 1.0}) for n in range(num_clients)
        )
        tracemalloc.start()
        for one in UpdateBound(max_factor=100).admit(updates, start, reject=lambda *_: None):
            del one
        peaks[num_clients] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[12] == pytest.approx(peaks[3], rel=0.1)


def test_weights_that_no_training_makes_are_not_saved():
    start = {"w": np.ones(4, np.float32)}
    check_growth({"w": np.full(4, 1e5, np.float32)}, start, server_round=3)
    for value in (1e7, np.inf, np.nan):
        with pytest.raises(FederationError, match=r"Round 3 would make the weights .* it is not saved"):
            check_growth({"w": np.full(4, value, np.float32)}, start, server_round=3)
    check_growth({"w": np.full(4, 1e7, np.float32)}, {"w": np.zeros(4, np.float32)}, server_round=1)


def test_growth_is_measured_against_all_start_arrays_but_one_that_tells_enough_is_read_alone():
    counter, small, large = np.array(3), np.full(4, 1e-3, np.float32), np.full(4, 10, np.float32)
    start = {"n": counter, "small": small, "large": large}
    check_growth({"w": np.full(4, 5e6, np.float32)}, start, server_round=3)
    with pytest.raises(FederationError, match=r"Round 3 would make the weights 2e\+06 times as large"):
        check_growth({"w": np.full(4, 2e7, np.float32)}, start, server_round=3)
    check_growth({"w": large}, {"large": large, "unread": None}, server_round=3)  # pyright: ignore[reportArgumentType]


def test_a_client_with_an_oversized_update_fails_in_its_round_only(caplog):
    def times_30(partition_id, arrays, order):
        return echo(partition_id, arrays, step=30) if (partition_id, order["server-round"]) == (1, 2) else None

    wire, strategy = EchoWire(3, times_30), strategy_for(3, min_fit_clients=2, max_factor=10)
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        reports = [run_round(strategy, wire, server_round)[1] for server_round in (1, 2, 3)]
    assert [list(report.failures) for report in reports] == [[], [1], []]
    sizes = [math.sqrt(6 / n) * n / math.sqrt(10) for n in (1, 2, 3)]
    assert [client["update-norm"] for client in reports[0].clients.values()] == pytest.approx(sizes)
    (line,) = caplog.messages
    assert "client 2 (client_dist2.json) failed: its update is" in line


def test_the_bound_of_a_round_is_the_typical_update_of_the_last_accepted_one():
    strategy = strategy_for(3, max_factor=10)
    _, report = run_round(strategy, EchoWire(3))
    middle = sorted(report.clients.values(), key=lambda client: client["update-norm"])[1]
    typical = strategy.rounds.bound.typical
    assert typical is not None and typical.size == middle["update-norm"]
    assert report.typical == [typical.norm, typical.least, typical.most]


def trained(
    start: np.ndarray,
    *,
    num_videos: int,
    lr: float,
    rng: np.random.Generator,
    curvature: float,
    drift: float,
    warmup: int,
) -> np.ndarray:
    """Weights after an epoch of SGD with momentum in steps of 4, as published clients train.

    The loss is a noisy quadratic of this curvature with a slope `drift` that all clients share.
    """
    weights, velocity = start.copy(), np.zeros_like(start)
    for step in range(-(-num_videos // 4)):
        velocity = 0.9 * velocity + curvature * weights + drift + rng.standard_normal(len(start))
        weights -= lr * min(1.0, (step + 1) / max(warmup, 1)) * velocity
    return weights


@pytest.mark.parametrize("clients", [(4, 400), (400, 4), (4, 4, 400), (4, 4, 1600), (4, 400, 4, 40, 400)])
@pytest.mark.parametrize(("curvature", "drift"), [(1, 0), (0.02, 0), (0.02, 0.5), (0.0, 1)])
@pytest.mark.parametrize("warmup", [0, 100])
def test_clients_of_4_and_of_400_videos_pass_through_a_tenfold_decay_of_the_rate(clients, curvature, drift, warmup):
    rng = np.random.default_rng(0)
    bound, theta = UpdateBound(max_factor=10, batch_size=4, warmup_steps=warmup), rng.standard_normal(100)
    for server_round in range(1, 9):
        problem = {"rng": rng, "lr": 0.01 * 0.1 ** (server_round // 4)}
        problem |= {"curvature": curvature, "drift": drift, "warmup": warmup}
        updates = [
            Update(n, {"w": trained(theta, num_videos=videos, **problem)}, {"num-examples": float(videos)})
            for n, videos in enumerate(clients)
        ]
        reasons: dict[int, str] = {}
        passed = list(bound.admit(iter(updates), {"w": theta}, reject=reasons.__setitem__))
        assert not reasons, f"round {server_round}"
        bound.accept(range(len(clients)))
        median = sorted(passed, key=lambda u: u.metrics["update-norm"])[(len(passed) - 1) // 2]
        enlarged = replace(median, arrays={"w": theta + 30 * (median.arrays["w"] - theta)})
        if len(clients) > 2:
            others = [u for u in passed if u.partition_id != median.partition_id]
            left = list(bound.admit(iter([enlarged, *others]), {"w": theta}, reject=reasons.__setitem__))
            assert len(left) == len(others) and list(reasons) == [median.partition_id]
        theta = np.mean([u.arrays["w"] for u in passed], axis=0)


@pytest.mark.parametrize(("keep", "least", "most"), [(False, 1.25, 1.25), (True, 1.25, 2)])
def test_steps_of_the_warm_up_count_by_the_square_of_their_factor(keep, least, most):
    bound = UpdateBound(max_factor=10, batch_size=4, local_epochs=2, warmup_steps=2, keep_optimizer=keep)
    assert bound.count_steps(4) == (least, most)
    assert bound.count_steps(40) == (19.25, 20 if keep else 19.25)


BATCH_NORM = {"w": np.ones(4, np.float32), "bn.running_mean": np.full(4, 100, np.float32)}


def moved(partition_id: int, *, weights: float, statistics: float) -> Update:
    arrays = {"w": BATCH_NORM["w"] + np.float32(weights), "bn.running_mean": BATCH_NORM["bn.running_mean"] + statistics}
    return Update(partition_id, {k: v.astype(np.float32) for k, v in arrays.items()}, {"num-examples": 1.0})


def test_enlarged_weights_do_not_hide_behind_running_statistics():
    bound = UpdateBound(max_factor=10)
    for weights in (0.03, 1e3):
        sent = [moved(0, weights=0.001, statistics=50), moved(1, weights=0.001, statistics=40)]
        reasons: dict[int, str] = {}
        sent.append(moved(2, weights=weights, statistics=50))
        passed = list(bound.admit(iter(sent), BATCH_NORM, reject=reasons.__setitem__))
        assert [u.partition_id for u in passed] == [0, 1] and list(reasons) == [2]
        bound.accept([0, 1])


def test_running_statistics_may_change_by_their_own_norm_times_the_factor():
    bound = UpdateBound(max_factor=10, typical=Step(0.002, 1, 1))
    sent = [moved(0, weights=0.001, statistics=990), moved(1, weights=0.001, statistics=1010)]
    reasons: dict[int, str] = {}
    assert [u.partition_id for u in bound.admit(iter(sent), BATCH_NORM, reject=reasons.__setitem__)] == [0]
    assert list(reasons) == [1]


@pytest.mark.parametrize("clients", [1, 2])
def test_one_or_two_clients_cannot_take_the_typical_size_away(clients):
    """The first one sends next to nothing, and the honest others of the next rounds pass."""
    bound = UpdateBound(max_factor=10, typical=Step(2.0, 1, 1))
    for _ in range(3):
        small = [update(0, step=1e-6)] + [update(1, step=1)] * (clients - 1)
        passed, _ = admitted(bound, *small)
        assert len(passed) == clients
        bound.accept(passed)
        assert admitted(bound, update(0, step=1), update(1, step=1))[1] == {}
    assert bound.typical is not None and bound.typical.norm >= 2 * 0.5**3


def test_three_clients_that_do_not_move_leave_the_typical_size():
    bound = UpdateBound(max_factor=10, typical=Step(2.0, 1, 1))
    bound.accept(admitted(bound, *(update(n, step=0) for n in range(3)))[0])
    assert bound.typical == Step(2.0, 1, 1)


def test_clipping_is_told(caplog):
    bound = UpdateBound(max_factor=10, oversized="clip", typical=Step(2.0, 1, 1))
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        admitted(bound, update(3, step=-40), update(4, step=1))
    assert caplog.messages == ["client 4: its update is 4 times too large and is shortened"]


def test_a_training_that_takes_off_is_no_fault_of_one_client(caplog):
    bound = UpdateBound(max_factor=10, typical=Step(2.0, 1, 1))
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        passed, reasons = admitted(
            bound, update(0, step=20), update(1, step=25), update(2, step=1), update(3, step=900)
        )
    assert list(passed) == [2, 0, 1] and list(reasons) == [3]
    assert caplog.messages == ["Most weights moved much farther than in the last round, which no longer bounds them."]
