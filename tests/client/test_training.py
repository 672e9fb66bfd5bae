import hashlib
import json
from typing import Any

import numpy as np
import pytest

from fedvssl import building
from fedvssl.building import build_training
from fedvssl.client import training
from fedvssl.client.client import Client, ClientError, local_training
from fedvssl.client.order import Site
from fedvssl.client.state import client_folder
from fedvssl.client.training import load_state, never_back, summarise
from fedvssl.files.arrays import Arrays, load_arrays
from fedvssl.tasks.ctp import CtP
from fedvssl.training.loop import EpochResult
from tests.federation import initial_arrays, order_of, sent_arrays, site_of, tiny_config, write_clients


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> dict:
    data_dir = tmp_path_factory.mktemp("data")
    write_clients(data_dir)
    return tiny_config(data_dir)


@pytest.fixture
def site(config, tmp_path) -> Site:
    return site_of(config, tmp_path)


def train(config, site, *, partition_id: int = 0, prefix: str = "backbone.", **order) -> tuple[Arrays, Any]:
    """Arrays, which are copied, and facts."""
    client = Client(partition_id, site, build_training)
    arrays, facts = client.answer("train", sent_arrays(config, prefix=prefix), order_of(config, **order))
    return {name: array.copy() for name, array in arrays.items()}, facts


def trained(*args, **kwargs) -> Arrays:
    return train(*args, **kwargs)[0]


def test_a_reply_has_the_names_that_came_and_trained_values(config, site):
    reply, sent = trained(config, site), sent_arrays(config)
    assert list(reply) == list(sent) and all(name.startswith("backbone.") for name in reply)
    for name, array in reply.items():
        assert array.dtype == sent[name].dtype and array.shape == sent[name].shape
    assert not np.array_equal(reply["backbone.stem.conv.weight"], sent["backbone.stem.conv.weight"])
    assert reply["backbone.stem.bn.num_batches_tracked"] == 1


def test_a_task_hears_of_each_round_once_with_the_state_of_that_round(config, site, monkeypatch):
    seen = []
    start_round = lambda task: seen.append(task.head.fc1.weight[0, 0].item())  # noqa: E731
    monkeypatch.setattr(CtP, "start_round", start_round, raising=False)
    train(config, site, server_round=1)
    train(config, site, server_round=2, kept_round=1)
    own = load_arrays(client_folder(site, 0) / "kept-round-1.npz")["head.fc1.weight"]
    assert seen == [initial_arrays(config)["head.fc1.weight"][0, 0], own[0, 0]]


def test_the_facts_of_a_reply(config, site):
    facts = train(config, site, partition_id=2)[1]
    assert facts["num-examples"] == 5 and facts["num-clips"] == 5
    assert facts["loss"] == pytest.approx(facts["loss_ctr"] + facts["loss_size"]) and facts["loss"] > 0
    assert facts["seconds-compute"] > 0 and facts["seconds-data"] > 0 and facts["clips-per-second"] > 0
    assert facts["seconds-on-client"] > facts["seconds-compute"] + facts["seconds-data"]


def test_the_head_stays_in_a_file_and_comes_back(config, site, monkeypatch):
    assert not any("head" in name for name in trained(config, site))
    head = load_arrays(client_folder(site, 0) / "kept-round-1.npz")
    fresh = {name: array for name, array in initial_arrays(config).items() if not name.startswith("backbone.")}
    assert head.keys() == fresh.keys()
    assert not np.array_equal(head["head.fc1.weight"], fresh["head.fc1.weight"]), "the head was trained"
    started_from = {}
    real = training.load_arrays_into
    monkeypatch.setattr(training, "load_arrays_into", lambda task, a: started_from.update(a) or real(task, a))
    train(config, site, server_round=2, kept_round=1)
    for name, array in head.items():
        np.testing.assert_array_equal(started_from[name], array)


def test_the_head_is_that_of_the_client_and_the_round_that_the_order_names(config, site, monkeypatch):
    """Never another client's, never one of a later round in which this client was given up."""
    for partition_id in (0, 1):
        for server_round in (1, 2):
            train(config, site, server_round=server_round, kept_round=server_round - 1, partition_id=partition_id)
    expected = load_arrays(client_folder(site, 1) / "kept-round-1.npz")
    started_from = {}
    real = training.load_arrays_into
    monkeypatch.setattr(training, "load_arrays_into", lambda task, a: started_from.update(a) or real(task, a))
    train(config, site, server_round=3, kept_round=1, partition_id=1)
    for name, array in expected.items():
        np.testing.assert_array_equal(started_from[name], array)
    started_from.clear()
    train(config, site, server_round=3, kept_round=0, partition_id=1)
    for name in expected:
        np.testing.assert_array_equal(started_from[name], initial_arrays(config)[name], "the head of the initial model")


def test_a_lost_head_is_named(config, site):
    with pytest.raises(ClientError, match=r"No file .*client_2/kept-round-4\.npz"):
        train(config, site, server_round=5, kept_round=4, partition_id=1)


def test_a_repeated_round_starts_from_the_round_before(config, site):
    """What a crash after some heads of round 2 leaves: the resumed round 2 must give the same numbers."""
    train(config, site)
    first, again = (trained(config, site, server_round=2, kept_round=1) for _ in range(2))
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
    from_the_later_head = trained(config, site, server_round=3, kept_round=2)
    assert not np.array_equal(from_the_later_head["backbone.stem.conv.weight"], first["backbone.stem.conv.weight"])


def test_when_the_whole_model_is_shared_nothing_is_kept(config, site):
    assert trained(config, site, prefix="", server_round=2, kept_round=1).keys() == initial_arrays(config).keys()
    assert not list(client_folder(site, 0).glob("kept*"))


def test_training_is_reproducible_and_differs_between_rounds_and_seeds(config, site, tmp_path):
    def weights(config=config, folder="a", **where):
        elsewhere = Site(site.media_dir, site.partition_dir, str(tmp_path / folder), device="cpu")
        return trained(config, elsewhere, **where)["backbone.stem.conv.weight"]

    np.testing.assert_array_equal(weights(folder="a"), weights(folder="b"))
    assert not np.array_equal(weights(folder="c"), weights(folder="d", server_round=5))
    assert not np.array_equal(weights(folder="e"), weights({**config, "seed": 8}, folder="f"))


@pytest.mark.parametrize(
    "sending",
    [{"kept_round": 1}, {"kept_round": 0}, {"kept_round": 0, "prefix": ""}],
    ids=["head", "no head", "FedAvg"],
)
def test_what_a_process_trained_before_leaves_no_trace(sending, config, site):
    order = {"server_round": 2, "partition_id": 1, **sending}
    train(config, site, partition_id=1)
    local_training.cache_clear()
    fresh = trained(config, site, **order)
    prefix = {"prefix": sending["prefix"]} if "prefix" in sending else {}
    train(config, site, server_round=5, partition_id=0, **prefix)
    used = trained(config, site, **order)
    assert local_training.cache_info().misses == 1, "it is the same task"
    for name, array in fresh.items():
        np.testing.assert_array_equal(array, used[name])


def test_a_task_is_built_once_for_a_configuration(config, site, monkeypatch):
    built = []
    real = building.build_task
    monkeypatch.setattr(building, "build_task", lambda c: built.append(c) or real(c))
    local_training.cache_clear()
    for server_round, partition_id in [(1, 0), (1, 1), (2, 0)]:
        train(config, site, server_round=server_round, partition_id=partition_id)
    assert len(built) == 1
    train({**config, "seed": 8}, site)
    train(config, site)
    assert len(built) == 3, "only the last one is kept"


def test_a_kept_task_holds_no_gradients_and_no_hooks(config, site):
    train(config, site)
    built = local_training(build_training, order_of(config)["config"], frozenset(sent_arrays(config)))
    task, own = built.task, built.initial
    assert local_training.cache_info().hits, "the one that was trained"
    assert all(parameter.grad is None for parameter in task.parameters())
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    assert not any(getattr(module, kind) for module in task.modules() for kind in kinds)
    for name, array in own.items():
        np.testing.assert_array_equal(array, initial_arrays(config)[name])


def test_a_task_with_something_of_another_client_is_not_trained(config):
    built = local_training(build_training, order_of(config)["config"], frozenset(sent_arrays(config)))
    with pytest.raises(AssertionError, match="what another client has learned"):
        load_state(built.task, sent_arrays(config))


def test_after_a_failure_the_task_is_built_anew(config, site, monkeypatch):
    train(config, site)
    monkeypatch.setattr(training, "train_epoch", lambda *a, **k: 1 / 0)
    with pytest.raises(ClientError, match="ZeroDivisionError"):
        train(config, site, partition_id=1)
    assert local_training.cache_info().currsize == 0


def test_local_epochs_see_different_samples(config, site, monkeypatch):
    keys = []
    real = training.SampleDataset
    monkeypatch.setattr(
        training, "SampleDataset", lambda *a, seed_key: keys.append(seed_key) or real(*a, seed_key=seed_key)
    )
    longer = {**config, "training": {**config["training"], "local_epochs": 2}}
    facts = train(longer, site, server_round=3, partition_id=1)[1]
    assert keys == [(7, 3, 1, 0), (7, 3, 1, 1)]
    assert facts["num-clips"] == 8 and facts["num-examples"] == 4


def test_summary_weighs_epochs_by_clips():
    results = [
        EpochResult({"loss": 1.0, "grad_norm": 2.0, "grad_norm_max": 9.0}, 1, 0.5, 2.0),
        EpochResult({"loss": 4.0, "grad_norm": 5.0, "grad_norm_max": 8.0}, 2, 0.5, 1.0),
    ]
    facts = summarise(results)
    assert facts["loss"] == 3.0 and facts["num-clips"] == 3 and facts["clips-per-second"] == 0.75
    assert facts["data-share"] == 0.25, "1 s of waiting beside 3 s of computing"
    assert (facts["grad_norm"], facts["grad_norm_max"]) == (4.0, 9.0)


def test_the_order_decides_what_is_trained(config, site):
    """No setting of the training comes from the client's site."""
    other = {**config, "training": {**config["training"], "optimizer": {**config["training"]["optimizer"], "lr": 0.0}}}
    kept = trained(other, site)["backbone.stem.conv.weight"]
    np.testing.assert_array_equal(kept, initial_arrays(config)["backbone.stem.conv.weight"])
    assert set(json.loads(order_of(config)["config"])) == {"model", "task", "training", "rule", "seed"}


@pytest.mark.parametrize("fault", ["no list", "no video", "raises"])
def test_a_failure_becomes_one_line_and_a_traceback_in_the_log(fault, config, tmp_path, monkeypatch):
    good = site_of(config, tmp_path)
    broken = {
        "no list": Site(good.media_dir, str(tmp_path), good.state_dir),
        "no video": Site(str(tmp_path), good.partition_dir, good.state_dir),
        "raises": good,
    }[fault]
    if fault == "raises":
        monkeypatch.setattr(training, "train_epoch", lambda *a, **k: 1 / 0)
    with pytest.raises(ClientError) as caught:
        train(config, broken, partition_id=1)
    reason = str(caught.value)
    assert "\n" not in reason and "train.log" in reason
    assert {"no list": "client_dist2.json", "no video": "v1_", "raises": "ZeroDivisionError"}[fault] in reason
    assert "Traceback" in (tmp_path / "clients" / "client_2" / "train.log").read_text()


def test_a_client_writes_its_progress(config, site):
    train(config, site)
    batch, count, epoch = (client_folder(site, 0) / "train.log").read_text().splitlines()
    assert "round 1  epoch 1/1  batch 1/1  loss " in batch and batch.endswith("left 0:00")
    assert count.endswith("3 of 3 samples")
    assert "samples/s" in epoch and epoch.endswith("% of the time waiting for data")


def test_a_client_introduces_itself_with_its_list(config, site):
    digest = hashlib.sha256(site.list_path(2).read_bytes()).hexdigest()
    told = {"partition-id": 2, "num-examples": 5, "list": digest, "owner": "", "precisions": []}
    assert Client(2, site, build_training).introduce() == told
    with pytest.raises(ClientError, match=r"client_dist10\.json") as caught:
        Client(9, site, build_training).introduce()
    assert "\n" not in str(caught.value)


def test_an_action_that_a_client_cannot_do_is_named(config, site):
    with pytest.raises(ClientError, match="a client cannot 'forget'"):
        Client(0, site, build_training).answer("forget", {}, {})


def test_only_counters_of_batchnorm_never_go_back():
    reply = {name: np.array(2) for name in ("bn.num_batches_tracked", "queue.place")} | {"weight": np.array(2.0)}
    counted = never_back(reply, {name: np.full_like(array, 5) for name, array in reply.items()})
    assert counted == {"bn.num_batches_tracked": 5, "queue.place": 2, "weight": 2.0}
    assert all(isinstance(array, np.ndarray) for array in counted.values())
