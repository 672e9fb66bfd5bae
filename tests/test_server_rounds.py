import logging

import numpy as np
import pytest
import torch

from fedvssl.client import client, training
from fedvssl.client_app import build_client_app
from fedvssl.files.arrays import load_arrays, save_arrays
from fedvssl.files.round_records import RoundReport, to_records
from fedvssl.files.rounds import accepted_rounds, forget_rounds, last_round, round_path, saved_rounds
from fedvssl.files.run_log import read_records
from fedvssl.server_run import build_run
from fedvssl.strategy.fedavg import FedAvg
from fedvssl.strategy.fedvssl import FedVSSL
from fedvssl.strategy.intake import Intake
from fedvssl.wire.wire import FederationError
from tests.federation import initial_arrays, site_of, tiny_config, train
from tests.test_server_app import context_of


def told(caplog) -> list[str]:
    """What the server says; the clients have files of their own."""
    return [record.message for record in caplog.records if not record.name.startswith("fedvssl.client.")]


def test_a_run_leaves_weights_metrics_and_a_picture(data_dir, tmp_path, caplog, drawn):
    config = tiny_config(data_dir)
    with caplog.at_level(logging.INFO, logger="fedvssl"):
        grid = train(config, tmp_path)
    assert saved_rounds(tmp_path) == [1, 2]
    weights = load_arrays(round_path(tmp_path, 2))
    assert weights.keys() == {name for name in initial_arrays(config) if name.startswith("backbone.")}
    records = read_records(tmp_path / "metrics.jsonl")
    rounds = [record for record in records if "partition_id" not in record]
    clients = [record for record in records if "partition_id" in record]
    assert [record["server_round"] for record in rounds] == [1, 2] and len(clients) == 6
    assert (tmp_path / "loss.png").is_file() and any((tmp_path / "tensorboard").iterdir())
    for record in rounds:
        for name in ("loss", "loss_ctr", "loss_size", "clips_per_second", "lr", "seconds", "seconds_communication"):
            assert record[name] > 0, name
        assert {"seconds_data", "seconds_compute", "seconds_on_client", "seconds_aggregate"} <= record.keys()
        assert record["seconds_clients"] > 0
        assert record["num_examples"] == record["num_clips"] == 12 and record["bytes_up"] == record["bytes_down"] > 0
    for record in clients:
        assert {"loss_weight", "video_weight", "weight", "seconds_data", "seconds_compute", "bytes_up"} <= record.keys()
    assert [record["video_weight"] for record in clients[:3]] == pytest.approx([3 / 12, 4 / 12, 5 / 12])
    assert [line.split("  ")[0] for line in told(caplog)] == ["round 1/2", "round 2/2"]
    assert "3 clients" in told(caplog)[0] and "left 0:00" in told(caplog)[1]
    assert len(grid.sent) == 6


def test_heads_never_leave_the_clients(data_dir, tmp_path):
    names: set[str] = set()
    grid = train(tiny_config(data_dir), tmp_path, on_train=lambda _, message: names.update(message.content["arrays"]))
    assert names and all(name.startswith("backbone.") for name in names)
    assert all(name.startswith("backbone.") for name in load_arrays(round_path(tmp_path, 2))) and grid.sent
    heads = [load_arrays(tmp_path / f"clients/client_{n + 1}/kept-round-2.npz")["head.fc1.weight"] for n in range(3)]
    assert not np.array_equal(heads[0], heads[1]) and not np.array_equal(heads[1], heads[2])


def test_fedavg_shares_and_saves_the_whole_model(data_dir, tmp_path):
    config = tiny_config(data_dir, "strategy.fedavg=true", "rounds=1")
    grid = train(config, tmp_path)
    assert set(grid.sent[0][1].content["arrays"]) == set(initial_arrays(config))
    assert set(load_arrays(round_path(tmp_path, 1))) == set(initial_arrays(config))
    assert not list(tmp_path.glob("clients/*/head*"))


def test_a_run_that_does_not_learn_is_warned_of_once(data_dir, tmp_path, caplog):
    config = tiny_config(data_dir, "rounds=3", "training.warn_after=2", "training.lr=1e-30")
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        train(config, tmp_path)
    (warning,) = [line for line in told(caplog) if "is not 5 % below" in line]
    assert warning.startswith("round 2: the loss ")


def test_a_dead_head_of_one_client_is_named(data_dir, tmp_path, caplog, monkeypatch):
    def kill(task, arrays, load=training.load_state):
        load(task, arrays)
        if "client_2" in str(active.pop()):
            torch.nn.init.constant_(task.head.fc1.bias, -1e4)

    active = []
    folder = client.client_folder
    monkeypatch.setattr(client, "client_folder", lambda *args: active.append(folder(*args)) or active[-1])
    monkeypatch.setattr(training, "load_state", kill)
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        train(tiny_config(data_dir, "rounds=1"), tmp_path)
    (warning,) = [line for line in told(caplog) if "is dead" in line]
    assert warning.startswith("round 1: the head of client 2 is dead, 0.0 % of its hidden units are active")


def test_records_name_the_rate_of_the_round(data_dir, tmp_path):
    train(tiny_config(data_dir, "training.steps=[1]"), tmp_path)
    records = read_records(tmp_path / "metrics.jsonl")
    assert [record["lr"] for record in records if "lr" in record] == pytest.approx([0.01, 0.001])


KEPT = ("training.keep_optimizer=true", "optimizer=adamw", "training.lr=0.0005", "training.warmup_steps=3")


@pytest.mark.parametrize("recipe", [(), KEPT, (*KEPT, "strategy.fedavg=true")])
def test_a_resumed_run_gives_the_same_numbers(recipe, data_dir, tmp_path):
    """Cut off after the clients of round 3 had written their heads and before the server had saved anything."""
    config = tiny_config(data_dir, "rounds=3", "strategy.fraction_fit=0.7", "strategy.min_fit_clients=2", *recipe)
    train(config, tmp_path / "whole")
    train({**config, "rounds": 2}, tmp_path / "cut")
    stopped = tmp_path / "cut"
    with pytest.raises(ZeroDivisionError), pytest.MonkeyPatch.context() as patch:
        patch.setattr(FedAvg, "aggregate", lambda *_: 1 / 0)
        patch.setattr(FedVSSL, "aggregate", lambda *_: 1 / 0)
        train(config, stopped)
    assert list(stopped.glob("clients/*/kept-round-3.npz"))
    for folder in stopped.glob("clients/*"):
        assert len(list(folder.glob("kept-round-*.npz"))) <= 2
    train(config, stopped)
    whole, resumed = (load_arrays(round_path(folder, 3)) for folder in (tmp_path / "whole", stopped))
    assert whole.keys() == resumed.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(array, resumed[name])
    for one, other in zip(*(read_records(f / "metrics.jsonl") for f in (tmp_path / "whole", stopped)), strict=True):
        for name in ("server_round", "loss", "lr", "weight", "partition_id", "num_examples"):
            assert one.get(name) == other.get(name)


def test_a_failing_client_is_named_and_the_round_goes_on(data_dir, tmp_path, caplog):
    config = tiny_config(data_dir, "strategy.min_fit_clients=2", "rounds=1")

    def lose_videos(partition_id, message):
        return broken_app(message, context_of(partition_id)) if partition_id == 1 else None

    broken_app = build_client_app(site_of({**config, "data": {"media_dir": str(tmp_path)}}, tmp_path))
    with caplog.at_level(logging.INFO, logger="fedvssl"):
        train(config, tmp_path, on_train=lose_videos)
    assert told(caplog)[0].startswith("round 1: client 2 (client_dist2.json) failed: ValueError")
    assert read_records(tmp_path / "metrics.jsonl")[0]["failed_partition_ids"] == [1]
    assert "2 clients" in told(caplog)[1]


def test_too_few_clients_end_the_run_and_keep_what_is_saved(data_dir, tmp_path, drawn):
    def fall_silent(partition_id, message):
        return "silence" if message.content["config"]["server-round"] == 2 else None

    config = tiny_config(data_dir, "rounds=3", "round_timeout=1")
    with pytest.raises(FederationError, match="All 3 clients of round 2 have failed"):
        train(config, tmp_path, on_train=fall_silent)
    assert saved_rounds(tmp_path) == [1] and (tmp_path / "loss.png").is_file()
    assert {record["server_round"] for record in read_records(tmp_path / "metrics.jsonl")} == {1}


def test_a_client_that_was_given_up_goes_on_with_its_last_accepted_head(data_dir, tmp_path):
    """In round 2 it writes its head, but its reply never comes; the same after a resume."""
    config = tiny_config(data_dir, "rounds=2", "strategy.min_fit_clients=2", "round_timeout=3")

    def reply_late(partition_id, message):
        if (partition_id, message.content["config"]["server-round"]) == (1, 2):
            build_client_app(site_of(config, tmp_path))(message, context_of(partition_id))
            return "silence"

    train(config, tmp_path, on_train=reply_late)
    assert (tmp_path / "clients/client_2/kept-round-2.npz").is_file()
    assert accepted_rounds(tmp_path, done=2) == {0: 2, 1: 1, 2: 2} and accepted_rounds(tmp_path, done=0) == {}
    grid = train({**config, "rounds": 3}, tmp_path)
    named = {partition_id: message.content["config"]["kept-round"] for partition_id, message in grid.sent}
    assert named == {0: 2, 1: 1, 2: 2}
    assert build_run(config, run_dir=tmp_path).strategy.rounds.kept_rounds == {0: 3, 1: 3, 2: 3}


def test_communication_is_the_round_trip_without_the_clients_own_work(data_dir, tmp_path, pass_time):
    config = tiny_config(data_dir, "rounds=1")

    def travel(partition_id, message):
        reply = build_client_app(site_of(config, tmp_path))(message, context_of(partition_id))
        pass_time(0.5 if partition_id == 0 else 0)
        return reply

    train(config, tmp_path, on_train=travel)
    whole, *clients = read_records(tmp_path / "metrics.jsonl")
    for record in clients:  # the grid of this test answers one client after the other while it sends
        assert record["seconds_on_client"] > record["seconds_compute"]
        assert record["seconds_communication"] > 0.5
        assert whole["seconds_clients"] == pytest.approx(
            record["seconds_communication"] + record["seconds_on_client"], abs=0.4
        )


def test_averaging_is_timed_apart_from_waiting(data_dir, tmp_path, monkeypatch, pass_time):
    real = Intake.add
    monkeypatch.setattr(Intake, "add", lambda intake, update: pass_time(0.3) or real(intake, update))
    train(tiny_config(data_dir, "rounds=1"), tmp_path)
    whole, *clients = read_records(tmp_path / "metrics.jsonl")
    assert 0.9 < whole["seconds_aggregate"] < whole["seconds"] - sum(c["seconds_on_client"] for c in clients)
    assert whole["seconds"] == pytest.approx(whole["seconds_clients"] + whole["seconds_aggregate"], abs=0.3)


def test_only_the_last_rounds_are_kept(tmp_path):
    for number in (1, 2, 9, 10, 11):
        save_arrays(round_path(tmp_path, number), {"w": np.zeros(1)})
    forget_rounds(tmp_path, keep_last=None)
    assert saved_rounds(tmp_path) == [1, 2, 9, 10, 11]
    forget_rounds(tmp_path, keep_last=2)
    assert saved_rounds(tmp_path) == [10, 11] and last_round(tmp_path) == 11


def test_records_of_a_round():
    metrics = {"grad_norm": 3.0, "grad_norm_max": 9.0, "seconds-data": 1.0, "bytes-up": 5.0, "clips-per-second": 2.0}
    clients = {
        0: {"loss": 1.0, "num-examples": 1.0, "num-clips": 1.0, **metrics, "weight": 0.5},
        2: {
            **{"loss": 4.0, "num-examples": 2.0, "num-clips": 2.0, "iou": 0.25},
            **{"grad_norm": 6.0, "grad_norm_max": 7.0, "seconds-data": 2.0, "bytes-up": 5.0, "clips-per-second": 3.0},
            "weight": 0.5,
        },
    }
    report = RoundReport(clients, {1: "silent"}, [2.0, 1.0, 1.0], {"seconds_clients": 6.0})
    total, *lines = to_records(report, server_round=3, lr=0.1)
    assert total["loss"] == 3.0, "weighted by videos"
    assert total["bytes_up"] == 10 and total["seconds_data"] == 1.5 and total["clips_per_second"] == 0.5
    assert (total["grad_norm"], total["grad_norm_max"]) == (5.0, 9.0), "the largest of all clients"
    assert total["failed_partition_ids"] == [1] and "weight" not in total and total["typical_update"] == [2, 1, 1]
    assert [line["partition_id"] for line in lines] == [0, 2] and lines[1]["loss"] == 4.0
    assert total["iou"] == 0.25 and "iou" not in lines[0], "of those who report it"
