"""Clients that are broken or hostile, in whole runs: their words reach neither the records nor the other clients."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import Message

from fedvssl.client_app import build_client_app
from fedvssl.data.annotations import read_annotations, write_annotations
from fedvssl.data.video import zip_path
from fedvssl.files.rounds import accepted_rounds
from fedvssl.files.run_log import read_records
from fedvssl.wire.introductions import read_clients
from fedvssl.wire.wire import FederationError
from tests.federation import site_of, tiny_config, train, write_clients
from tests.test_server_app import context_of

LISTS = "ucf101/annotations/client_distribution"


@pytest.fixture
def data_dir(tmp_path):
    write_clients(tmp_path, (1, 2, 3))
    return tmp_path


def strict(line: str) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(line, parse_constant=refuse)


def test_no_name_of_a_client_takes_a_column_of_the_server(data_dir, tmp_path):
    """Client 0 says that it is another one; once its word replaced the column of all."""
    config = tiny_config(data_dir, "strategy.min_fit_clients=2", "rounds=2")

    def lie(partition_id: int, message: Message) -> Message | None:
        if partition_id != 0 or message.content["config"]["server-round"] == 1:
            return None
        reply = build_client_app(site_of(config, tmp_path / "run"))(message, context_of(0))
        reply.content["metrics"]["partition-id"] = 3
        return reply

    train(config, tmp_path / "run", on_train=lie)
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert [strict(line).get("partition_id") for line in lines] == [None, 0, 1, 2, None, 1, 2]
    assert accepted_rounds(tmp_path / "run", done=2) == {0: 1, 1: 2, 2: 2}


def test_a_broken_list_fails_its_client_only(data_dir, tmp_path, caplog):
    (data_dir / LISTS / "client_dist2.json").write_text("[")
    config = tiny_config(data_dir, "strategy.min_fit_clients=2", "rounds=2")
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        train(config, tmp_path / "run")
    (line,) = [line for line in caplog.messages if "cannot take part" in line]
    assert "client_dist2.json cannot be read as JSON" in line
    records = read_records(tmp_path / "run/metrics.jsonl")
    assert [record["partition_id"] for record in records if "partition_id" in record] == [0, 2, 0, 2]


def grow_list(data_dir: Path, *, to: int) -> None:
    """Give client 0, who has one video, copies of it."""
    path = data_dir / LISTS / "client_dist1.json"
    (video,) = read_annotations(path)
    copies = [replace(video, name=f"{video.name}_{number}") for number in range(1, to)]
    for copy in copies:
        shutil.copy(*(zip_path(data_dir / "ucf101/zips", name) for name in (video.name, copy.name)))
    write_annotations(path, [video, *copies])


def test_a_list_that_has_grown_leaves_its_client_out_of_a_continued_run(data_dir, tmp_path, caplog):
    config, run_dir = tiny_config(data_dir, "strategy.min_fit_clients=2", "rounds=1"), tmp_path / "run"
    train(config, run_dir)
    assert {who: client.num_examples for who, client in read_clients(run_dir / "clients.json").items()} == {
        0: 1,
        1: 2,
        2: 3,
    }
    grow_list(data_dir, to=400)
    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        train({**config, "rounds": 2}, run_dir)
    assert "client 1 introduces 400 samples, and 1 when this run began" in caplog.text
    last = read_records(run_dir / "metrics.jsonl")[-3:]
    assert [record.get("partition_id") for record in last] == [None, 1, 2]


def test_a_list_that_grows_during_a_run_costs_its_rounds(data_dir, tmp_path, caplog):
    config = tiny_config(data_dir, "strategy.min_fit_clients=2", "rounds=1")

    def grow(partition_id: int, message: Message) -> None:
        if partition_id == 0:
            grow_list(data_dir, to=2)

    with caplog.at_level(logging.WARNING, logger="fedvssl"):
        train(config, tmp_path / "run", on_train=grow)
    assert "client 1 (client_dist1.json) failed: it trained on 2 samples and introduced 1" in caplog.text


def test_all_lists_broken_end_the_run_in_one_sentence(data_dir, tmp_path):
    config = tiny_config(data_dir, "rounds=1")
    for path in (data_dir / LISTS).glob("client_dist[23].json"):
        path.write_text("[]")
    with pytest.raises(FederationError) as caught:
        train(config, tmp_path / "run")
    sentence = str(caught.value)
    assert sentence.startswith("1 clients can be reached, strategy.min_fit_clients asks for 3: lower it to go on")
    assert "2 are left out, the first because ValueError: " in sentence and "holds no list of videos" in sentence
