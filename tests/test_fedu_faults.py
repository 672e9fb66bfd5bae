"""Faults of the released code of FedU and FedEMA: each check passes here and fails when its fault is put back.

Clients are real ones with made-up pictures. The classifier's and the neighbours' faults are in
tests/evaluation/test_released_faults.py.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedvssl.client import client, training
from fedvssl.client.client import ClientError
from fedvssl.config import compose
from fedvssl.data.annotations import write_annotations
from fedvssl.files.arrays import Arrays, load_arrays
from fedvssl.files.rounds import round_path
from fedvssl.files.run_log import read_records
from fedvssl.strategy import average
from fedvssl.strategy.bounds import STATISTICS
from fedvssl.strategy.fedema import DIVERGENCE, OWN_SHARE, SCALER, FedEMA
from fedvssl.strategy.patterns import fits
from fedvssl.strategy.rule import Replace
from fedvssl.tasks.follower import Follower
from fedvssl.tasks.moco import Queue
from fedvssl.wire.wire import TRAIN
from tests.federation import client_of, initial_arrays, order_of, train
from tests.tasks.test_two_views_federation import HIDDEN, PREDICTOR, SMALL
from tests.tasks.test_views import write_pictures
from tests.test_published_faults import fails

SIZES = (8, 12)  # pictures of both clients, in batches of 4
STEPS = (2, 3)
MODEL = ("model=resnet18", "task.sample.max_side=16", "training.num_workers=0")
BYOL = ("task=byol", *MODEL, HIDDEN, PREDICTOR)
MOCO = ("task=moco_v2", *MODEL, "strategy=fedavg")
QUEUE, PLACE = "queue.keys", "queue.place"
CONV = "backbone.conv1.weight"


@pytest.fixture(autouse=True)
def _new_clients() -> None:
    client.local_training.cache_clear()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("pictures")
    annotations = write_pictures(folder / "pictures", sum(SIZES), side=16)
    for number, own in enumerate((annotations[: SIZES[0]], annotations[SIZES[0] :]), start=1):
        write_annotations(folder / f"lists/client_dist{number}.json", own)
    return [f"data.media_dir={folder / 'pictures'}", f"partition_dir={folder / 'lists'}"]


def config_of(places: list[str], *words: str) -> dict[str, Any]:
    return compose("base", [*SMALL, *places, *words])


def shared_in(config: dict[str, Any]) -> Arrays:
    """Initial arrays that travel; a task's private ones stay."""
    return {name: a for name, a in initial_arrays(config).items() if not fits(name, config["task"]["private"])}


def contact(config: dict[str, Any], run_dir: Path, arrived: Arrays, *, server_round: int = 1) -> tuple[Arrays, Arrays]:
    """Arrays that client 1 installs for a round and those that it keeps of it; it took part in the last one."""
    installed: list[Arrays] = []
    real = training.load_state

    def look(task: Any, arrays: Arrays) -> None:
        installed.append({name: np.array(array) for name, array in arrays.items()})
        real(task, arrays)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "load_state", look)
        order = order_of(config, server_round, kept_round=server_round - 1)
        client_of(config, run_dir, 1).answer(TRAIN, arrived, order)
    return installed[0], load_arrays(run_dir / f"clients/client_2/kept-round-{server_round}.npz")


def moved(arrays: Arrays) -> Arrays:
    """Other arrays of the same names, as the average of a round would be."""
    return {name: array * 1.5 + 0.5 if array.dtype.kind == "f" else array for name, array in arrays.items()}


# First contact makes target and online encoder one object.
def check_the_target_is_a_copy_at_the_first_contact(config: dict[str, Any], run_dir: Path) -> None:
    shared = moved(shared_in(config))
    trained, _ = client_of(config, run_dir, 1).answer(TRAIN, shared, order_of(config))
    kept = load_arrays(run_dir / "clients/client_2/kept-round-1.npz")
    online, target = (
        float(np.linalg.norm(a[n] - shared[CONV])) for a, n in [(trained, CONV), (kept, f"target.{CONV}")]
    )
    assert 0 < target < 0.1 * online, "it starts at what arrived, and follows slowly"
    counter = "backbone.bn1.num_batches_tracked"
    assert kept[f"target.{counter}"] == trained[counter] == 2 * STEPS[1], (
        "a view at a time, and each its own statistics"
    )


def shared_target(self: Follower, backbone: torch.nn.Module, projector: torch.nn.Module, *, reset: bool) -> None:
    self.backbone, self.projector = backbone, projector
    self.rounds += 1


def test_the_target_is_a_copy_at_the_first_contact(places, tmp_path, monkeypatch) -> None:
    config = config_of(places, *BYOL, "strategy=fedu")
    check_the_target_is_a_copy_at_the_first_contact(config, tmp_path / "sound")
    client.local_training.cache_clear()
    monkeypatch.setattr(Follower, "start_round", shared_target)
    assert fails(check_the_target_is_a_copy_at_the_first_contact, config, tmp_path / "faulty")


# The target encoder is sent and averaged although nobody uses it.
def check_only_encoder_and_predictor_travel(config: dict[str, Any], run_dir: Path) -> None:
    train(config, run_dir)
    records = read_records(run_dir / "metrics.jsonl")
    used = [array for name, array in initial_arrays(config).items() if not name.startswith("target.")]
    expected = sum(map(npy_bytes, used))
    clients = [record for record in records if "partition_id" in record]
    assert [(r["bytes_up"], r["bytes_down"]) for r in clients] == [(expected, expected)] * 2
    rounds = [record for record in records if "num_clients" in record]
    assert [(r["bytes_up"], r["bytes_down"]) for r in rounds] == [(2 * expected, 2 * expected)]


def npy_bytes(array: np.ndarray) -> int:
    np.save(file := BytesIO(), array)
    return len(file.getvalue())


@pytest.mark.parametrize("strategy", ["fedbyol", "fedu", "fedema"])
def test_the_target_encoder_costs_no_bytes(strategy: str, places, tmp_path) -> None:
    words = [*BYOL, f"strategy={strategy}", "rounds=1"]
    check_only_encoder_and_predictor_travel(config_of(places, *words), tmp_path / "sound")
    faulty = config_of(places, *words, "task.private=[]")  # whatever is shared travels
    assert fails(check_only_encoder_and_predictor_travel, faulty, tmp_path / "faulty")


# A download overwrites FedMoCo's queue with the server's first random one and its pointer with 0, and the statistics of
# the key encoder's BatchNorm with averaged ones.
def check_queue_and_key_statistics_survive_a_round(config: dict[str, Any], run_dir: Path) -> None:
    shared, keys = shared_in(config), 2 * 4 * STEPS[1]  # of two views of each picture
    _, first = contact(config, run_dir, shared)
    installed, second = contact(config, run_dir, moved(shared), server_round=2)
    assert first[PLACE] == installed[PLACE] == keys % len(first[QUEUE]) and second[PLACE] == 2 * keys % len(
        first[QUEUE]
    )
    statistics = [name for name in first if name.startswith("key_encoder.") and name.endswith(STATISTICS)]
    assert statistics
    for name in (QUEUE, *statistics):
        np.testing.assert_array_equal(installed[name], first[name], err_msg=name)
        assert not np.array_equal(second[name], first[name]), "and it goes on from there"


def from_the_server(self: Replace, arrived: Arrays, kept: Arrays, initial: Arrays, when: Any) -> Arrays:
    return {**initial, **kept, **{name: initial[name] for name in (QUEUE, PLACE)}, **arrived}


def key_statistics_averaged(self: Replace, arrived: Arrays, kept: Arrays, initial: Arrays, when: Any) -> Arrays:
    averaged = {f"key_encoder.{name}": array for name, array in arrived.items() if name.endswith(STATISTICS)}
    return {**initial, **kept, **averaged, **arrived}


@pytest.mark.parametrize("fault", [from_the_server, key_statistics_averaged])
def test_queue_and_key_statistics_survive_a_round(fault, places, tmp_path, monkeypatch) -> None:
    config = config_of(places, *MOCO, "task.module.queue_length=64")
    check_queue_and_key_statistics_survive_a_round(config, tmp_path / "sound")
    monkeypatch.setattr(Replace, "receive", fault)
    assert fails(check_queue_and_key_statistics_survive_a_round, config, tmp_path / "faulty")


# FedEMA of the predictor alone stops with a TypeError if all clients train in each round.
def check_fedema_of_the_predictor_alone(config: dict[str, Any], run_dir: Path) -> None:
    shared = shared_in(config)
    _, kept = contact(config, run_dir, shared)
    installed, again = contact(config, run_dir, arrived := moved(shared), server_round=2)
    mu = float(kept[OWN_SHARE])
    assert mu == pytest.approx(0.7) and again[SCALER] == kept[SCALER] == pytest.approx(0.7 / kept[DIVERGENCE])
    for name, array in arrived.items():
        expected = array
        if name.startswith("predictor.") and not name.endswith((*STATISTICS, "num_batches_tracked")):
            expected = mu * kept[name] + (1 - mu) * array
        elif name.startswith("predictor."):
            expected = kept[name]  # because mu > 0.5
        np.testing.assert_allclose(installed[name], expected, rtol=1e-6, err_msg=name)


def scaler_of_the_encoders_branch(
    self: FedEMA, kept: Arrays, start: Arrays, state: Arrays, shared: Any, real: Any = FedEMA.keep
) -> Arrays:
    found = real(self, kept, start, state, shared)
    scaler: Any = found.get(SCALER, 0.0) if fits(CONV, self.mix) else None  # 0.0 before a run
    return {**found, OWN_SHARE: np.array(min(1.0, scaler * found[DIVERGENCE]))}


def test_fedema_of_the_predictor_alone(places, tmp_path, monkeypatch) -> None:
    words = [*BYOL, "strategy=fedema"]
    alone = config_of(places, *words, "strategy.rule.mix=[predictor.*]")
    check_fedema_of_the_predictor_alone(alone, tmp_path / "sound")
    train(alone, tmp_path / "run")
    told = [record["own_share"] for record in read_records(tmp_path / "run/metrics.jsonl") if "partition_id" in record]
    assert len(told) == 4 and all(0 < share <= 1 for share in told), "both clients, both rounds"
    monkeypatch.setattr(FedEMA, "keep", scaler_of_the_encoders_branch)
    client_of(config := config_of(places, *words), tmp_path / "both", 1).answer(
        TRAIN, shared_in(config), order_of(config)
    )
    with pytest.raises(ClientError, match="TypeError"):
        check_fedema_of_the_predictor_alone(alone, tmp_path / "faulty")


# The queue's length must divide by the number of keys.
def check_a_queue_of_any_length_holds_the_last_keys(config: dict[str, Any], run_dir: Path) -> None:
    pushed: list[torch.Tensor] = []
    real = Queue.push

    def look(queue: Queue, keys: torch.Tensor) -> None:
        pushed.extend(torch.nn.functional.normalize(keys, dim=1))
        real(queue, keys)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Queue, "push", look)
        _, kept = contact(config, run_dir, shared_in(config))
    length = len(kept[QUEUE])
    assert len(pushed) == 2 * 4 * STEPS[1] > length and len(pushed) % length and length % 8
    last = np.roll(np.stack([key.numpy() for key in pushed[-length:]]), len(pushed) % length, axis=0)
    np.testing.assert_allclose(kept[QUEUE], last, rtol=1e-5, atol=1e-6)
    assert kept[PLACE] == len(pushed) % length


def cut_at_the_end(self: Queue, keys: torch.Tensor) -> None:
    place, length = int(self.place), len(self.keys)
    self.keys[place : place + len(keys)] = torch.nn.functional.normalize(keys, dim=1)[: length - place]
    self.place.add_(len(keys)).remainder_(length)


def only_whole_parts(self: Queue, keys: torch.Tensor) -> None:
    assert len(self.keys) % len(keys) == 0
    cut_at_the_end(self, keys)


def test_a_queue_of_any_length_holds_the_last_keys(places, tmp_path, monkeypatch) -> None:
    config = config_of(places, *MOCO, "task.module.queue_length=20")
    check_a_queue_of_any_length_holds_the_last_keys(config, tmp_path / "sound")
    monkeypatch.setattr(Queue, "push", cut_at_the_end)
    assert fails(check_a_queue_of_any_length_holds_the_last_keys, config, tmp_path / "cut")
    monkeypatch.setattr(Queue, "push", only_whole_parts)
    with pytest.raises(ClientError, match="AssertionError"):
        check_a_queue_of_any_length_holds_the_last_keys(config, tmp_path / "refused")


# Integer counters of BatchNorm are truncated means.
def check_counters_take_the_maximum(config: dict[str, Any], run_dir: Path) -> None:
    train(config, run_dir)
    arrays = load_arrays(round_path(run_dir, 1))
    counters = {name: int(array) for name, array in arrays.items() if array.dtype.kind != "f"}
    views = {name: 1 if name.endswith("rounds") else 2 for name in counters}
    assert counters and counters == {name: views[name] * max(STEPS) for name in counters}


def truncated(arrays: Arrays, towards: Arrays, *, share: float) -> None:
    for name, array in arrays.items():
        array[...] = (array + share * (towards[name] - array)).astype(array.dtype)


def test_counters_take_the_maximum(places, tmp_path, monkeypatch) -> None:
    config = config_of(places, *BYOL, "strategy=fedu", "rounds=1")
    check_counters_take_the_maximum(config, tmp_path / "sound")
    monkeypatch.setattr(average, "move", truncated)
    assert fails(check_counters_take_the_maximum, config, tmp_path / "faulty")
