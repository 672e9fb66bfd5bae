"""The faults of the published code: each check passes here and fails when its fault is put back."""

import ast
from pathlib import Path

import numpy as np
import pytest

import fedvssl
from fedvssl import server_rounds
from fedvssl.client import client, training
from fedvssl.client.state import client_folder, kept_path
from fedvssl.client_app import answer
from fedvssl.data import partition
from fedvssl.files.arrays import load_arrays
from fedvssl.files.rounds import round_path
from fedvssl.server_run import build_run
from fedvssl.strategy.average import mix
from fedvssl.strategy.fedavg import FedAvg
from fedvssl.strategy.fedvssl import FedVSSL
from fedvssl.training.schedule import Steps
from fedvssl.wire.wire import TRAIN
from tests.federation import client_of, order_of, sent_arrays, site_of, tiny_config, train
from tests.strategy.test_fedvssl import CLIENTS, ROUNDS, aggregate, weigh


def fails(check, *arguments) -> bool:
    try:
        check(*arguments)
    except (AssertionError, KeyError, ValueError):
        return True
    return False


# Two lists are concatenated where two averages should be added: 126 arrays become 252, the first half alpha * FedAvg.
def check_the_result_has_the_clients_arrays() -> None:
    strategy = FedVSSL(mix_coeff=0.9, swbeta=0, **ROUNDS)
    result = aggregate(strategy, CLIENTS)
    assert result.keys() == CLIENTS[0].arrays.keys()
    low = min(client.arrays["backbone.w"].min() for client in CLIENTS)
    high = max(client.arrays["backbone.w"].max() for client in CLIENTS)
    same = [type(client)(client.partition_id, CLIENTS[0].arrays, client.metrics) for client in CLIENTS]
    unchanged = aggregate(strategy, same)
    np.testing.assert_array_equal(unchanged["backbone.w"], CLIENTS[0].arrays["backbone.w"])
    assert low <= result["backbone.w"].min() and result["backbone.w"].max() <= high


def concatenated(self, server_round, means, previous):
    halves = [[0.9 * array for array in mix(means, self.averages()).values()]] * 2
    return {f"arr_{position}": array for position, array in enumerate(halves[0] + halves[1])}


def shrunk(self, server_round, means, previous):
    return {name: (0.9 * array).astype(array.dtype) for name, array in mix(means, self.averages()).items()}


@pytest.mark.parametrize("fault", [concatenated, shrunk])
def test_averages_are_added_and_not_concatenated(fault, monkeypatch):
    check_the_result_has_the_clients_arrays()
    monkeypatch.setattr(FedVSSL, "aggregate", fault)
    assert fails(check_the_result_has_the_clients_arrays)


# alpha multiplies the average by videos.
def check_alpha_is_the_share_of_the_loss() -> None:
    strategy = FedVSSL(mix_coeff=0.9, swbeta=0, **ROUNDS)
    weights = weigh(strategy, CLIENTS)
    np.testing.assert_allclose(weights["weight"], 0.9 * weights["loss-weight"] + 0.1 * weights["video-weight"])
    arrays = [client.arrays["backbone.w"].astype(np.float64) for client in CLIENTS]
    expected = np.average(arrays, axis=0, weights=weights["weight"])
    np.testing.assert_allclose(aggregate(strategy, CLIENTS)["backbone.w"], expected, rtol=1e-5, atol=1e-6)


def other_way_round(self):
    return {"loss": 1 - self.mix_coeff, "video": self.mix_coeff}


def test_alpha_is_on_the_right_term(monkeypatch):
    check_alpha_is_the_share_of_the_loss()
    monkeypatch.setattr(FedVSSL, "averages", other_way_round)
    assert fails(check_alpha_is_the_share_of_the_loss)


# fedavg=true shares the backbone only.
def check_fedavg_shares_the_head(data_dir, run_dir) -> None:
    config = tiny_config(data_dir, "strategy.fedavg=true", "rounds=1")
    grid = train(config, run_dir)
    assert any(name.startswith("head.") for name in grid.sent[0][1].content["arrays"])
    assert any(name.startswith("head.") for name in load_arrays(round_path(run_dir, 1)))


def test_fedavg_shares_the_whole_model(data_dir, tmp_path, monkeypatch):
    check_fedavg_shares_the_head(data_dir, tmp_path / "sound")
    monkeypatch.setattr(FedAvg, "is_shared", lambda self, name: name.startswith("backbone."))
    assert fails(check_fedavg_shares_the_head, data_dir, tmp_path / "faulty")


# Every client seeds with 7 in every round, so that each round replays the same batches and augmentations.
def batches_of(config, run_dir, *, server_round: int, partition_id: int) -> list[dict]:
    batches: list[dict] = []
    real = training.train_loader

    def record(*arguments, **options):
        loader = real(*arguments, **options)
        batches.extend(loader)
        return loader

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train_loader", record)
        client_of(config, run_dir, partition_id).answer(TRAIN, sent_arrays(config), order_of(config, server_round))
    return batches


def check_rounds_differ(data_dir, run_dir) -> None:
    config = tiny_config(data_dir)
    first, second = (batches_of(config, run_dir, server_round=n, partition_id=1) for n in (1, 2))
    again = batches_of(config, run_dir, server_round=1, partition_id=1)
    assert len(first) == len(second) and first[0].keys() == second[0].keys()
    by_video = [dict(zip(b["index"].tolist(), b["boxes"], strict=True)) for b in (first[0], second[0], again[0])]
    for index in set(by_video[0]) & set(by_video[1]):
        assert not by_video[0][index].equal(by_video[1][index]), "the same patches again"
        assert by_video[0][index].equal(by_video[2][index])


def test_each_round_draws_anew(data_dir, tmp_path, monkeypatch):
    check_rounds_differ(data_dir, tmp_path / "sound")
    real = training.SampleDataset
    monkeypatch.setattr(training, "SampleDataset", lambda *a, seed_key: real(*a, seed_key=(7,)))
    assert fails(check_rounds_differ, data_dir, tmp_path / "faulty")


# The steps of the learning rate count the epochs of a client, of which a round has one.
def check_the_rate_decays(data_dir, run_dir) -> None:
    config = tiny_config(data_dir, "training.steps=[1]", "rounds=2")
    grid = train(config, run_dir)
    factors = [message.content["config"]["lr-factor"] for _, message in grid.sent]
    assert factors == pytest.approx([1.0] * 3 + [0.1] * 3)


def test_the_learning_rate_decays_by_rounds(data_dir, tmp_path, monkeypatch):
    check_the_rate_decays(data_dir, tmp_path / "sound")
    real = Steps.__call__
    monkeypatch.setattr(Steps, "__call__", lambda schedule, position: real(schedule, 0))
    assert fails(check_the_rate_decays, data_dir, tmp_path / "faulty")
    assert build_run(tiny_config(data_dir), run_dir=tmp_path / "first").order(1)["lr-factor"] == 1


# Checkpoints are pickles.
def check_checkpoints_need_no_pickle(data_dir, run_dir) -> None:
    config = tiny_config(data_dir, "rounds=1")
    train(config, run_dir)
    with np.load(round_path(run_dir, 1), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    assert {name: (a.dtype, a.shape) for name, a in arrays.items()} == {
        name: (a.dtype, a.shape) for name, a in sent_arrays(config).items()
    }


def save_pickled(path: Path, arrays: dict) -> None:
    np.savez(path, np.array([*arrays.values(), None], dtype=object)[:-1])


@pytest.mark.parametrize("fault", [save_pickled, lambda path, arrays: np.savez(path, *arrays.values())])
def test_checkpoints_are_named_arrays_without_pickle(fault, data_dir, tmp_path, monkeypatch):
    check_checkpoints_need_no_pickle(data_dir, tmp_path / "sound")
    monkeypatch.setattr(server_rounds, "save_arrays", fault)
    assert fails(check_checkpoints_need_no_pickle, data_dir, tmp_path / "faulty")


# Client state is found by listing files.
def check_each_client_goes_on_with_its_own_accepted_head(data_dir, run_dir) -> None:
    """Round 2 loses client 1 after it has written its head; every head of round 3 must be one that was accepted."""
    config = tiny_config(data_dir, "rounds=3", "strategy.min_fit_clients=2", "round_timeout=3")
    started_from: dict[tuple[int, int], np.ndarray] = {}
    accepted: dict[int, np.ndarray] = {}

    def on_train(partition_id, message):
        server_round = message.content["config"]["server-round"]
        state: dict[str, np.ndarray] = {}
        real = training.load_arrays_into
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "load_arrays_into", lambda task, a: state.update(a) or real(task, a))
            reply = answer(message, client=client_of(config, run_dir, partition_id))
        if server_round > 1:
            started_from[server_round, partition_id] = state[HEAD]
            np.testing.assert_array_equal(state[HEAD], accepted[partition_id])
        if (server_round, partition_id) == (2, 1):
            return "silence"
        folder = client_folder(site_of(config, run_dir), partition_id)
        accepted[partition_id] = load_arrays(kept_path(folder, server_round))[HEAD]
        return reply

    train(config, run_dir, on_train=on_train)
    assert len(started_from) == 6


HEAD = "head.fc1.weight"


def load_the_newest(folder: Path, server_round: int) -> dict[str, np.ndarray]:
    return load_arrays(max(folder.glob("kept-round-*.npz")))


def one_folder_for_all(site, partition_id: int) -> Path:
    return Path(site.state_dir) / "client"


@pytest.mark.parametrize(("name", "fault"), [("load_kept", load_the_newest), ("client_folder", one_folder_for_all)])
def test_heads_are_not_found_by_listing_files(name, fault, data_dir, tmp_path, monkeypatch):
    check_each_client_goes_on_with_its_own_accepted_head(data_dir, tmp_path / "sound")
    monkeypatch.setattr(client, name, fault)
    assert fails(check_each_client_goes_on_with_its_own_accepted_head, data_dir, tmp_path / "faulty")


# The window of classes of the Kinetics-400 partition slides by 1 instead of by its width.
def check_every_video_has_one_client() -> None:
    labels = np.repeat(np.arange(12), 4)
    parts = partition.class_shard(labels, 6, classes_per_client=4)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert all(len(set(labels[part])) == 4 for part in parts)


def test_the_window_of_classes_does_not_overlap(monkeypatch):
    check_every_video_has_one_client()
    real = partition._deal

    def slide_by_one(labels, groups, *rest):
        classes = np.concatenate(groups)
        return real(labels, [classes[first : first + len(group)] for first, group in enumerate(groups)], *rest)

    monkeypatch.setattr(partition, "_deal", slide_by_one)
    assert fails(check_every_video_has_one_client)


# The loss is recovered by eval of log lines.
def check_source_is_safe(source: str) -> None:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "pickle.load", "pickle.loads"), called
            for option in node.keywords:
                text = ast.unparse(option)
                assert text not in ("allow_pickle=True", "weights_only=False"), text


FAULTY_SOURCES = ["loss = eval(line)", "pickle.load(file)", "np.load(path, allow_pickle=True)"]
FAULTY_SOURCES += ["torch.load(path, weights_only=False)"]


def test_nothing_is_evaluated_or_unpickled():
    for path in Path(fedvssl.__file__).parent.rglob("*.py"):
        check_source_is_safe(path.read_text())
    assert all(fails(check_source_is_safe, source) for source in FAULTY_SOURCES)
