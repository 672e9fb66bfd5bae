"""L-DAWA beside a slow reference, which is written out here."""

import logging

import numpy as np
import pytest

from fedvssl.config import compose
from fedvssl.files.arrays import Arrays, load_arrays
from fedvssl.files.rounds import round_path
from fedvssl.files.run_log import read_records
from fedvssl.strategy.ldawa import delta
from fedvssl.wire.wire import Reply
from tests.federation import strategy_of, tiny_config, train
from tests.strategy.echo import EchoWire
from tests.strategy.test_learning import federation
from tests.strategy.test_learning import train as train_lines

WORDS = ["strategy=ldawa", "pool_size=3", "strategy.min_fit_clients=3"]


class Replies(EchoWire):
    """Client k replies with the k-th arrays; it has 10 (k + 1) videos."""

    def __init__(self, replies: list[Arrays]) -> None:
        facts = {"loss": 1.0}
        super().__init__(len(replies), lambda k, _, __: Reply(k, replies[k], {**facts, "num-examples": 10 * (k + 1)}))


def slow(replies: list[Arrays], sent: Arrays, *, statistics: bool) -> Arrays:
    """The rule of the paper, entry by entry."""
    result = {}
    for name, reference in sent.items():
        plain = reference.ndim == 0 or ("running" in name and not statistics)
        total = np.zeros(reference.size)
        for reply in replies:
            own, share = reply[name].ravel().tolist(), 1.0
            if not plain:
                dot = sum(a * b for a, b in zip(own, reference.ravel().tolist(), strict=True))
                norms = sum(a * a for a in own) ** 0.5 * sum(b * b for b in reference.ravel().tolist()) ** 0.5
                share = min(1.0, dot / norms) if norms > 0 else 1.0
            total += share * np.array(own)
        result[name] = (total / len(replies)).reshape(reference.shape)
    return result


def models(number: int) -> list[Arrays]:
    rng = np.random.default_rng(number)
    shapes = {"backbone.conv.weight": (4, 3, 2, 2), "backbone.bn.running_mean": (5,), "backbone.bn.running_var": (5,)}
    shapes |= {"backbone.bn.bias": (5,), "head.scale": ()}
    found = [{name: np.asarray(rng.normal(size=s), np.float32) for name, s in shapes.items()} for _ in range(4)]
    return [{name: abs(array) if name.endswith("var") else array for name, array in own.items()} for own in found]


def aggregated(sent: Arrays, replies: list[Arrays], *words: str, server_round: int = 4) -> Arrays:
    strategy = strategy_of(compose("base", [*WORDS, "strategy.max_update_factor=null", *words]))
    strategy.restore({}, sent)
    return strategy.round(Replies(replies), server_round, sent, {})[0]


@pytest.mark.parametrize("statistics", [False, True])
def test_each_layer_counts_by_its_cosine(statistics):
    sent, *replies = models(1)
    found = aggregated(sent, replies, f"strategy.statistics={statistics}")
    expected = slow(replies, sent, statistics=statistics)
    assert found.keys() == expected.keys() and all(array.dtype == np.float32 for array in found.values())
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_layer_without_a_direction_takes_the_plain_mean():
    sent, *replies = models(2)
    sent["backbone.bn.bias"][:] = 0  # as at the start of a run
    replies[1]["backbone.conv.weight"][:] = 0
    found, expected = aggregated(sent, replies), slow(replies, sent, statistics=False)
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["backbone.bn.bias"], np.mean([r["backbone.bn.bias"] for r in replies], 0), 1e-5)


def test_the_first_rounds_average_by_numbers_of_videos():
    sent, *replies = models(3)
    for server_round in (1, 2, 3):
        found = aggregated(sent, replies, server_round=server_round)
        for name in sent:
            mean = np.average([reply[name] for reply in replies], axis=0, weights=[1, 2, 3])
            np.testing.assert_allclose(found[name], mean, rtol=1e-5, atol=1e-6)
    assert not np.allclose(aggregated(sent, replies)["backbone.bn.bias"], found["backbone.bn.bias"], rtol=1e-2)


def test_delta_is_at_most_one():
    assert delta(np.array([3.0, 4.0]), np.array([3.0, 4.0])) == 1
    assert delta(np.array([1.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(0.5**0.5)
    assert delta(np.array([-1.0]), np.array([2.0])) == -1, "the published rule has no lower bound"
    assert delta(np.zeros(2), np.ones(2)) == delta(np.ones(2), np.zeros(2)) == 1


def test_a_federation_over_videos_shares_the_backbone_alone(data_dir, tmp_path, caplog):
    words = ("strategy=ldawa", "strategy.share=['backbone.*']", "strategy.fedavg_rounds=1", "rounds=3")
    with caplog.at_level(logging.INFO):
        train(tiny_config(data_dir, *words), tmp_path / "whole")
    assert all(name.startswith("backbone.") for name in load_arrays(round_path(tmp_path / "whole", 3)))
    records = [r for r in read_records(tmp_path / "whole/metrics.jsonl") if "partition_id" in r]
    assert ["alignment" in record for record in records] == [False] * 3 + [True] * 6
    assert all(0.5 < record["alignment"] <= 1 for record in records[3:])
    assert "round 2: layers of lowest mean delta: backbone." in caplog.text
    for rounds in (2, 3):  # continued
        train(tiny_config(data_dir, *words, f"rounds={rounds}"), tmp_path / "parts")
    ends = [load_arrays(round_path(tmp_path / name, 3)) for name in ("whole", "parts")]
    assert all(np.array_equal(array, ends[1][name]) for name, array in ends[0].items())


def test_it_learns():
    losses, _ = train_lines(federation("strategy=ldawa"), rounds=8)
    assert losses[-1] < 0.1 * losses[0], losses


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("strategy.fedavg_rounds=-1", "strategy.fedavg_rounds=-1 must be a whole number, at least 0"),
        ("strategy.fedavg_rounds=1.5", "strategy.fedavg_rounds=1.5 must be a whole number"),
        ("strategy.statistics=some", "strategy.statistics=some must be true or false"),
    ],
)
def test_bad_settings(words, error):
    with pytest.raises(ValueError, match=error):
        strategy_of(compose("base", [*WORDS, words]))
