"""Rounds of split learning: engines, kills, clients that fail, what travels, and settings that are refused."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedvssl.building import build_task
from fedvssl.files.backbone import load_backbone
from fedvssl.files.run_log import read_records
from fedvssl.server_run import build_run
from fedvssl.split.messages import KEY, QUERY
from fedvssl.wire.wire import FederationError
from tests.picture_set import write_picture_set
from tests.split.federation import exact, files_of, flower_wire, local_wire, settings_of, train

ASKS = 2 * (3 + 2)  # two rounds of three steps and two averages
BOTTLENECK = ("model.bottleneck=C4S2", "strategy.cut=narrow")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_picture_set(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def undisturbed(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "undisturbed"
    train(settings_of(data_dir), run_dir)
    return run_dir


class Meddled:
    """A wire in which something happens at the n-th question.

    Args:
        wire: the wire.
        at: number of the question, from 0.
        change: (reply) -> reply, or raises.
    """

    def __init__(self, wire: Any, at: int | range, change: Any) -> None:
        self.wire, self.change, self.number = wire, change, -1
        self.at = range(at, at + 1) if isinstance(at, int) else at

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wire, name)

    def ask(self, action: str, orders: Any) -> Iterator:
        self.number += 1
        for reply in self.wire.ask(action, orders):
            yield self.change(reply) if self.number in self.at else reply


class Killed(BaseException):
    """The process is gone."""


def kill(_: Any) -> Any:
    raise Killed


def meddled(at: int | range, change: Any, wire: Any = local_wire) -> Any:
    return lambda *run: Meddled(wire(*run), at, change)


def same(one: Path, other: Path) -> None:
    files, others = files_of(one), files_of(other)
    assert files.keys() == others.keys()
    for path, arrays in files.items():
        assert arrays.keys() == others[path].keys()
        for name, array in arrays.items():
            assert array.tobytes() == others[path][name].tobytes(), (path, name)


@pytest.mark.parametrize("at", range(ASKS))
def test_a_killed_round_is_repeated_with_the_same_bits(
    at: int, data_dir: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Each question of two rounds: first and later steps, both averages."""
    config = settings_of(data_dir)
    with pytest.raises(Killed):
        train(config, tmp_path / "run", meddled(at, kill))
    train(config, tmp_path / "run")
    same(tmp_path / "run", undisturbed)


def test_a_kill_over_flowers_messages_leaves_no_trace_either(data_dir: Path, tmp_path: Path) -> None:
    config = settings_of(data_dir)
    train(config, tmp_path / "whole", flower_wire)
    with pytest.raises(Killed):
        train(config, tmp_path / "run", meddled(7, kill, flower_wire))
    train(config, tmp_path / "run", flower_wire)
    same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize(
    "words",
    [
        BOTTLENECK,
        ("strategy.cut=block2", "strategy.syncs_per_round=1"),  # a deep one: the followers are averaged too
        ("task.module.private_queues=2", "task.module.symmetric=false", "task.module.reset_keys=true"),
        ("strategy.frozen=true", "strategy.steps_per_message=0"),
    ],
)
def test_engines_agree_in_float64(words: tuple[str, ...], data_dir: Path, tmp_path: Path) -> None:
    """Six steps: in one process the clients compute together and their graphs live on, over messages not."""
    config = exact(settings_of(data_dir, *words))
    for name, wire in (("local", local_wire), ("flower", flower_wire)):
        train(config, tmp_path / name, wire)
    local, flower = files_of(tmp_path / "local"), files_of(tmp_path / "flower")
    assert local.keys() == flower.keys()
    for path, arrays in local.items():
        for name, array in arrays.items():
            np.testing.assert_allclose(array, flower[path][name], rtol=1e-9, atol=1e-9, err_msg=f"{path} {name}")


def test_round_files_hold_the_whole_backbone(data_dir: Path, undisturbed: Path) -> None:
    backbone = build_task(settings_of(data_dir)).backbone
    load_backbone(backbone, undisturbed / "round-2-weights.npz", tell=lambda *_: None)
    state = np.load(undisturbed / "round-2-strategy.npz")
    kept = np.load(undisturbed / "clients/client_1/kept-round-2.npz")
    assert {"queue.keys", "key_encoder.projector.out.weight", "key_encoder.backbone.block3.conv1.weight"} <= {*state}
    assert "optimizer/backbone.block3.conv1.weight/momentum_buffer" in state
    assert {"key_encoder.backbone.stem.conv1.weight", "optimizer/backbone.stem.conv1.weight/momentum_buffer"} <= {*kept}
    assert not any(name.startswith("backbone.") for name in kept), "it arrives anew with the next round"
    for name, array in backbone.state_dict().items():
        assert np.isfinite(array.numpy()).all(), name


def test_latents_are_counted_both_ways(data_dir: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Three latents a picture, two for a frozen client; and weights at the begin of a round and at each average."""
    latent, pictures = 4 * 16 * 16 * 4, 18
    for client in read_records(undisturbed / "metrics.jsonl"):
        if "partition_id" in client:
            assert 1 < client["bytes_up"] / (2 * latent * pictures) < 1.03
            assert 1 < client["bytes_down"] / (latent * pictures) < 1.05
            assert client["num_clips"] == pictures and client["divergence"] > 0
    train(settings_of(data_dir, "strategy.frozen=true", "strategy.steps_per_message=0"), tmp_path / "run")
    for client in read_records(tmp_path / "run/metrics.jsonl"):
        if "partition_id" in client:
            assert 1 < client["bytes_up"] / (2 * latent * pictures) < 1.01
            assert client["bytes_down"] < 3000 and client["divergence"] == 0


@pytest.mark.parametrize(("wire_dtype", "share"), [("float16", 0.5), ("uint8", 0.25)])
def test_fewer_bits_travel_and_the_loss_stays_near(
    wire_dtype: str, share: float, data_dir: Path, undisturbed: Path, tmp_path: Path
) -> None:
    train(settings_of(data_dir, f"strategy.wire_dtype={wire_dtype}"), tmp_path / "run")
    coded, whole = (read_records(path / "metrics.jsonl")[0] for path in (tmp_path / "run", undisturbed))
    assert coded["bytes_up"] / whole["bytes_up"] == pytest.approx(share, abs=0.03)
    assert coded["loss"] == pytest.approx(whole["loss"], rel=0.05) and coded["loss"] != whole["loss"]


def test_a_frozen_client_never_changes(data_dir: Path, tmp_path: Path) -> None:
    train(settings_of(data_dir, "strategy.frozen=true"), tmp_path / "run")
    files = files_of(tmp_path / "run")
    first, second = (files[f"round-{number}-weights.npz"] for number in (1, 2))
    for name in first:
        moved = not np.array_equal(first[name], second[name])
        assert moved == (not name.startswith("backbone.stem.")), name


def broken(reply: Any, **changes: Any) -> Any:
    """Reply of the first client with other arrays or an error."""
    return replace(reply, **changes) if reply.partition_id == 0 else reply


def other_latents(make: Any) -> Any:
    return lambda reply: broken(
        reply, arrays={name: make(a) if name in (QUERY, KEY) else a for name, a in reply.arrays.items()}
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda reply: broken(reply, error="no reply to its message within 5 s", arrays={}), "no reply to its message"),
        (other_latents(lambda a: a * np.float32(np.nan)), "'latents/query' has values that are not finite"),
        (other_latents(lambda a: a[:, :, :8]), "'latents/query' is (6, 4, 8, 16) instead of 6 rows of (4, 16, 16)"),
        (other_latents(lambda a: a[:2]), "'latents/query' is (2, 4, 16, 16) instead of 6 rows"),
        (other_latents(lambda a: a.astype(np.float64)), "'latents/query' is float64, not float32"),
        (lambda reply: broken(reply, arrays={}), "'latents/query' is missing"),
    ],
)
def test_a_client_that_misses_a_step_is_left_out_of_it(
    change: Any, why: str, data_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(settings_of(data_dir, "rounds=1"), tmp_path / "run", meddled(1, change, flower_wire))
    whole, *clients = read_records(tmp_path / "run/metrics.jsonl")
    assert whole["num_clients"] == 2 and [client["missed_steps"] for client in clients] == [1, 0]
    assert f"round 1: client 1 (client_dist1.json) misses a step: {why}" in caplog.text


def test_of_two_clients_the_one_with_latents_of_another_shape_is_left_out(data_dir: Path, tmp_path: Path) -> None:
    """The hostile client answers first and is half of the pool: its shape must not become that of the round."""
    hostile = meddled(range(ASKS), other_latents(lambda a: np.concatenate([a, a], axis=2)))
    train(settings_of(data_dir, "rounds=1"), tmp_path / "run", hostile)
    whole, client = read_records(tmp_path / "run/metrics.jsonl")
    assert whole["failed_partition_ids"] == [0]
    assert (client["partition_id"], client["missed_steps"]) == (1, 0)


def test_the_gradient_of_a_lost_answer_is_sent_again(data_dir: Path, tmp_path: Path) -> None:
    """The client has made the step of the lost message already: it goes back to its file and makes it once."""
    sent: list[dict] = []

    def watched(*run: Any) -> Any:
        wire = Meddled(flower_wire(*run), 1, lambda reply: broken(reply, error="lost", arrays={}))
        ask = wire.ask

        def recorded(action: str, orders: Any) -> Any:
            sent.append({own: (arrays, order) for own, (arrays, order) in orders.items()})
            return ask(action, orders)

        wire.ask = recorded  # pyright: ignore[reportAttributeAccessIssue]
        return wire

    train(settings_of(data_dir, "rounds=1"), tmp_path / "run", watched)
    before, again = sent[1][0], sent[2][0]
    assert np.array_equal(before[0]["gradient"], again[0]["gradient"])
    assert before[1]["split-after"] == again[1]["split-after"] == 0 and again[1]["split-number"] == 2
    kept = np.load(tmp_path / "run/clients/client_1/kept-round-1.npz")
    assert int(kept["optimizer/steps"]) == 2, "two steps of three: it has one gradient less"


def test_a_client_that_is_away_for_the_whole_round_fails_in_it(data_dir: Path, tmp_path: Path) -> None:
    away = meddled(range(ASKS // 2), lambda reply: broken(reply, error="gone", arrays={}))
    train(settings_of(data_dir), tmp_path / "run", away)
    rounds = [one for one in read_records(tmp_path / "run/metrics.jsonl") if "num_clients" in one]
    assert [one["failed_partition_ids"] for one in rounds] == [[0], []]


def test_a_missing_picture_costs_its_client_the_step(data_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(data_dir, tmp_path / "data")
    first = json.loads((tmp_path / "data/cifar10/annotations/client_distribution/client_dist1.json").read_text())
    name = json.dumps(first).split(".png")[0].split('"')[-1]
    (tmp_path / f"data/cifar10/pictures/{name}.png").unlink()
    train(settings_of(tmp_path / "data", "rounds=1"), tmp_path / "run")
    _, *clients = read_records(tmp_path / "run/metrics.jsonl")
    assert [client["missed_steps"] for client in clients] == [1, 0]


def test_too_few_answers_end_the_run(data_dir: Path, tmp_path: Path) -> None:
    nobody = meddled(3, lambda reply: broken(reply, error="gone", arrays={}))
    with pytest.raises(FederationError, match=r"strategy\.min_fit_clients asks for 2: lower it"):
        train(settings_of(data_dir, "strategy.min_fit_clients=2"), tmp_path / "run", nobody)


def test_a_client_whose_weights_are_no_numbers_is_left_out_of_the_mean(data_dir: Path, tmp_path: Path) -> None:
    spoil = meddled(4, lambda reply: broken(reply, arrays={n: a * np.nan for n, a in reply.arrays.items()}))
    train(settings_of(data_dir, "rounds=1"), tmp_path / "run", spoil)
    arrays = np.load(tmp_path / "run/round-1-weights.npz")
    assert all(np.isfinite(arrays[name]).all() for name in arrays)
    assert read_records(tmp_path / "run/metrics.jsonl")[0]["failed_partition_ids"] == [0]


def test_the_mean_is_of_the_clients_of_the_pool_and_goes_to_all(data_dir: Path, tmp_path: Path) -> None:
    """The reference began its mean with client 0, also where that was not of the pool."""
    replies: list = []
    watch = meddled(4, lambda reply: replies.append(reply) or reply)
    run = train(settings_of(data_dir, "rounds=1"), tmp_path / "run", watch)
    for name, array in run.shared.items():
        if name in replies[0].arrays:
            expected = np.mean([reply.arrays[name] for reply in replies], axis=0, dtype=np.float64)
            np.testing.assert_allclose(array, expected, rtol=1e-6)
    assert len(replies) == 2 and run.strategy.averages_followers is False


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("strategy.cut=block3",), "strategy.cut=block3 lies outside of the network"),
        (("task=moco_v2",), "MoCo cannot be split: its loss needs more than the latents of two views"),
        (("model=resnet18",), "ResNet cannot be cut"),
        (("model=r3d18",), "The model takes no views of the shape (3, 16, 16)"),
        (("task.module.queue_length=23",), "task.module.queue_length=23 is shorter than the 24 keys of a batch"),
        (
            ("task.module.private_queues=3",),
            "task.module.private_queues=3 must be 0, one queue for all, or pool_size=2",
        ),
        (("pool_size=1",), "Split learning with 1 client in a round has no other client's pictures"),
        (("strategy.fraction_fit=0.5",), "Split learning with 1 client in a round has no other client's pictures"),
        (("training.precision=bf16-mixed",), "both parts of a split network compute in float32"),
        (("training.local_epochs=2",), "training.local_epochs=2: the server makes the steps"),
        (("training.batch_size=1",), "training.batch_size=1 has no picture for each of the 2 clients"),
        (("strategy.wire_dtype=int4",), "strategy.wire_dtype=int4 is unknown: choose float32, float16, uint8"),
        (("strategy.steps_per_message=2",), "strategy.steps_per_message=2 is for frozen clients"),
    ],
)
def test_what_is_not_for_split_learning_is_refused_before_it_starts(
    words: tuple[str, ...], sentence: str, data_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        build_run(settings_of(data_dir, *words), run_dir=tmp_path)
