"""A run whose clients are nodes with data of their own, in this process: the server has no data at all."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedvssl.apps import client_app
from fedvssl.client.node import write_precisions
from fedvssl.config import compose
from fedvssl.identity import decisive_settings
from fedvssl.preflight import settle
from fedvssl.served_run import serve_run
from fedvssl.wire.wire import FederationError
from tests.federation import TINY, LocalGrid, tiny_config, train, write_clients
from tests.picture_set import PRETRAINING, write_picture_set

ELSEWHERE = ("client_resources", "training.num_workers", "rounds")
TOLD = [word for word in TINY if not word.startswith(ELSEWHERE)]


class Nodes:
    """Three nodes, each with its own folder; submissions go to a server in another one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.away = folder, set[int]()
        write_clients(folder / "data")
        for number in (1, 2, 3):
            source, own = folder / "data/ucf101", folder / f"node{number}"
            shutil.copytree(source / f"zips/Class{number - 1}", own / f"media/Class{number - 1}")
            shutil.copy(source / f"annotations/client_distribution/client_dist{number}.json", own / "list.json")
        (folder / "server").mkdir()

    def told(self, partition_id: int) -> dict[str, Any]:
        own = self.folder / f"node{partition_id + 1}"
        places = {name: str(own / place) for name, place in (("media-dir", "media"), ("list", "list.json"))}
        own_places = {**places, "state-dir": str(own / "state"), "device": "cpu", "num-workers": 0}
        return {"partition-id": partition_id, "owner": f"Owner {partition_id + 1}", **own_places}

    def submit(self, *words: str, name: str = "run", least: int = 3, on_train: Any = lambda *_: None) -> Path:
        """Run a submission to its end; returns its folder."""
        grid = LocalGrid(client_app, 3, on_train, told=self.told)
        grid.partition_of = {node: who for node, who in grid.partition_of.items() if who not in self.away}
        more = ["pool_size=3", f"strategy.min_fit_clients={least}", "start_timeout=1", "round_timeout=60", *words]
        serve_run(grid, " ".join([*TOLD, *more]), name)
        return self.folder / "server/outputs" / name

    def lengthen(self, number: int, by: str) -> None:
        """Add a copy of a video to a node's media and list."""
        own = self.folder / f"node{number}"
        entries = json.loads((own / "list.json").read_text())
        first = own / f"media/{entries[0]['name']}.zip"
        shutil.copy(first, first.with_name(f"{by}.zip"))
        entries.append({"name": f"Class{number - 1}/{by}", "label": 1})
        (own / "list.json").write_text(json.dumps(entries))


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch, caplog) -> Nodes:
    caplog.set_level(logging.INFO)
    nodes = Nodes(tmp_path)
    monkeypatch.chdir(tmp_path / "server")
    return nodes


def clients_of(run: Path) -> Any:
    return json.loads((run / "clients.json").read_text())


def test_the_numbers_are_those_of_one_process_before_and_after_a_second_submission(nodes, caplog):
    local = nodes.folder / "local"
    config = tiny_config(nodes.folder / "data", "rounds=2")
    train(config, local)
    decisive = decisive_settings(settle(config))
    shutil.rmtree(nodes.folder / "data")  # nobody but the nodes has videos
    run = nodes.submit("rounds=1")
    assert nodes.submit("rounds=2") == run and "Continuing after round 1" in caplog.text
    for number in (1, 2):
        found, wanted = (np.load(folder / f"round-{number}-weights.npz") for folder in (run, local))
        assert found.files == wanted.files
        assert all(found[name].tobytes() == wanted[name].tobytes() for name in wanted.files)
    found, wanted = ([json.loads(line) for line in (folder / "metrics.jsonl").open()] for folder in (run, local))
    assert [line.keys() for line in found] == [line.keys() for line in wanted], "the task's metrics are known"
    now = json.loads((run / "settings.json").read_text())
    assert {name: value for name, value in decisive.items() if not name.startswith("contents of client")} == now
    with pytest.raises(FederationError, match=r"is of another run, seed was .*: name another run-name"):
        nodes.submit("rounds=2", "seed=99")
    nodes.submit("rounds=2")
    assert f"All 2 rounds are already in {run}." in caplog.text
    assert "client 2 (Owner 2): 4 samples, list " in (run / "server.log").read_text()


def test_pictures_are_served_by_the_same_apps(tmp_path: Path, monkeypatch):
    data = write_picture_set(tmp_path / "data") / "cifar10"
    lists = data / "annotations/client_distribution"
    decided_elsewhere = ("engine", "client_resources", "training.num_workers")
    words = [*(word for word in PRETRAINING if not word.startswith(decided_elsewhere)), "model.width=8"]
    train(compose("base", [*words, f"data_dir={tmp_path / 'data'}"]), tmp_path / "local")

    def told(partition_id: int) -> dict[str, Any]:
        places = {"media-dir": str(data / "pictures"), "list": str(lists / f"client_dist{partition_id + 1}.json")}
        return {"partition-id": partition_id, **places, "state-dir": str(tmp_path / f"node{partition_id}")}

    (tmp_path / "server").mkdir()
    monkeypatch.chdir(tmp_path / "server")
    serve_run(LocalGrid(client_app, 2, told=told), " ".join([*words, "start_timeout=1"]), "pictures")
    found, wanted = (
        np.load(folder / "round-1-weights.npz") for folder in (Path("outputs/pictures"), tmp_path / "local")
    )
    assert found.files == wanted.files and all(found[name].tobytes() == wanted[name].tobytes() for name in found.files)


def test_a_list_that_has_grown_is_refused_by_name_or_recorded(nodes, caplog):
    run = nodes.submit("rounds=1")
    first = clients_of(run)["0"]
    nodes.lengthen(1, "new")
    with pytest.raises(FederationError, match="client 1 \\(Owner 1\\) introduces 4 samples, and 3 when this run began"):
        nodes.submit("rounds=2")
    assert not (run / "round-2-weights.npz").exists()
    nodes.submit("rounds=2", "allow_changes=true")
    assert "client 1 (Owner 1) has another list now, 3 samples before and 4 from round 2 on" in caplog.text
    now = clients_of(run)["0"]
    assert (now["since"], now["num_examples"]) == (2, 4) and now["list"] != first["list"]
    assert now["earlier"] == [{"since": 1, "num_examples": 3, "list": first["list"]}]
    nodes.submit("rounds=3")
    assert clients_of(run)["0"] == now, "the new list is that of the run now"


def test_another_list_of_the_same_length_is_noticed(nodes):
    nodes.submit("rounds=1")
    path = nodes.folder / "node2/list.json"
    path.write_text(json.dumps(json.loads(path.read_text())[::-1]))
    with pytest.raises(FederationError, match="4 samples as when this run began, but in another list"):
        nodes.submit("rounds=2")


def test_a_node_that_joins_later_is_refused_by_name_or_taken_in(nodes, caplog):
    nodes.away = {2}
    run = nodes.submit("rounds=1", least=2)
    assert list(clients_of(run)) == ["0", "1"]
    nodes.away = set()
    nodes.submit("rounds=2", least=2)
    assert "client 3 (Owner 3) joins in round 2, and was not there when this run began" in caplog.text
    assert list(clients_of(run)) == ["0", "1"]
    nodes.submit("rounds=3", "allow_changes=true", least=2)
    assert clients_of(run)["2"]["since"] == 3 and "joins in round 3 with 5 samples" in caplog.text


def test_one_precision_serves_all(nodes, caplog):
    auto = ("training.precision=auto", "rounds=1")
    for number in (1, 2, 3):
        write_precisions(nodes.folder / f"node{number}/state", ["32-true", "bf16-mixed"])
    seen = []

    def look(_: int, message: Any) -> str:
        seen.append(json.loads(message.content["config"]["config"])["training"]["precision"])
        raise RuntimeError("enough is seen")

    with pytest.raises(RuntimeError, match="enough"):
        nodes.submit(*auto, name="both", on_train=look)
    write_precisions(nodes.folder / "node2/state", ["32-true"])
    with pytest.raises(RuntimeError, match="enough"):
        nodes.submit(*auto, name="one", on_train=look)
    assert seen == ["bf16-mixed", "32-true"]
    with pytest.raises(FederationError, match="client 2 \\(Owner 2\\) computes in 32-true, and this run in bf16-mixed"):
        nodes.submit(*auto, name="both")


def test_mistakes_end_before_anybody_is_waited_for(nodes, caplog):
    nodes.away = {0, 1, 2}
    for words, sentence in (
        (("strategy.share=[no.*]",), "no array of the task is called 'no.*'"),
        (("rounds=0",), "rounds"),
        (("task.module.no_such=1",), "no_such"),
    ):
        with pytest.raises(FederationError) as caught:
            nodes.submit(*words)
        assert sentence in str(caught.value) and "\n" not in str(caught.value)
    assert "Waiting for" not in caplog.text
    with pytest.raises(FederationError, match=r"0 clients can be reached, strategy.min_fit_clients asks for 3"):
        nodes.submit("rounds=1")
