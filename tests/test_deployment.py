"""Real federations on loopback: SuperLink, SuperNodes and submissions as processes, with the apps that travel.

What a round computes is compared with engine=local, bit for bit. Every wait has room for a machine under load.
The first test is the short one of every day, without TLS; the slow ones prove the table of docs/deployment.md.
"""

import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.federation import TINY, overrides, run_main, tiny_config, train, write_clients
from tests.loopback import Federation, wait_until

pytestmark = pytest.mark.timeout(1500)
ELSEWHERE = ("client_resources", "training.num_workers")  # which each node decides
TOLD = [word for word in TINY if not word.startswith((*ELSEWHERE, "rounds"))]
OF_THREE = (*TOLD, "pool_size=3", "strategy.min_fit_clients=3")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_clients(folder)
    return folder


@pytest.fixture(scope="module")
def expected(data_dir, tmp_path_factory) -> Path:
    """Run of the same settings in one process, three rounds."""
    folder = tmp_path_factory.mktemp("local")
    words = overrides(data_dir, "engine=local", "rounds=3", f"hydra.run.dir={folder / 'run'}")
    done = run_main(*words, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def assert_equal(run: Path, expected: Path, *, rounds: int) -> None:
    for number in range(1, rounds + 1):
        found, wanted = (np.load(folder / f"round-{number}-weights.npz") for folder in (run, expected))
        assert found.files == wanted.files
        for name in wanted.files:
            assert found[name].dtype == wanted[name].dtype and found[name].tobytes() == wanted[name].tobytes(), name
    assert not (run / f"round-{rounds + 1}-weights.npz").exists()


def test_two_nodes_compute_what_one_process_computes(tmp_path: Path, data_dir: Path) -> None:
    of_two = ("pool_size=2", "strategy.min_fit_clients=2", "rounds=1")
    train(tiny_config(data_dir, *of_two), tmp_path / "local")
    with Federation(tmp_path, data_dir, secure=False) as federation:
        federation.start_superlink()
        for number in (1, 2):
            federation.start_node(number)
        done = federation.submit("run-name=first", *TOLD, *of_two)
    assert done.returncode == 0, done.stdout + done.stderr
    run = federation.run_dir("first")
    assert f"Done. Results on the SuperLink's machine: {run}\n" in done.stdout
    assert_equal(run, tmp_path / "local", rounds=1)
    assert not (run / "seen_videos.npz").exists() and not (run / "clients").exists(), "names and heads stay with nodes"
    clients = json.loads((run / "clients.json").read_text())
    assert [client["owner"] for client in clients.values()] == ["Owner 1", "Owner 2"]
    assert (tmp_path / "node1/state/client_1/kept-round-1.npz").is_file()


@pytest.mark.long
def test_with_tls_and_keys_strangers_are_refused_and_a_killed_server_goes_on(
    tmp_path: Path, data_dir, expected
) -> None:
    with Federation(tmp_path, data_dir, secure=True) as federation:
        federation.start_superlink()
        federation.certificates("foreign")
        for number in (1, 2):
            federation.register(number)
            federation.start_node(number)
        federation.start_node(3)
        federation.wait_for("2004", log="node3")  # not registered
        federation.end("node3")
        federation.register(3)
        federation.start_node(3, ca="foreign")
        federation.wait_for("CERTIFICATE_VERIFY_FAILED", log="node3")
        federation.end("node3")
        federation.start_node(3)
        federation.start_submission("run-name=first", *OF_THREE, "rounds=3")
        run = federation.run_dir("first")
        wait_until((run / "round-1-weights.npz").exists, what="round 1", seconds=600)
        federation.end("superlink", signal.SIGKILL)
        federation.start_superlink()
        assert federation.processes.pop("submission").wait(300) == 1, "the run is lost"
        done = federation.submit("run-name=first", *OF_THREE, "rounds=3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Continuing after round" in done.stdout and "taken over" in done.stdout
    assert_equal(run, expected, rounds=3)


@pytest.mark.long
def test_a_broken_list_a_client_that_raises_and_a_killed_node_cost_their_replies(tmp_path: Path, data_dir) -> None:
    words = (*TOLD, "pool_size=3", "strategy.fraction_fit=1", "strategy.min_fit_clients=1")
    with Federation(tmp_path, data_dir, secure=True) as federation:
        federation.start_superlink()
        for number in (1, 2, 3):
            federation.register(number)
            federation.start_node(number)
        for number in (1, 2, 3):
            federation.wait_for("SuperNode ID", log=f"node{number}")
        away = tmp_path / "node3/media/Class2/v2_0.zip"
        away.rename(tmp_path / "away.zip")
        done = federation.submit("run-name=broken", *words, "strategy.min_fit_clients=3", "rounds=1")
        sentence = f"1 of 5 samples of {tmp_path / 'node3/list.json'} are missing in {tmp_path / 'node3/media'}"
        assert done.returncode == 1 and sentence in done.stderr and sentence in federation.log("node3")
        (tmp_path / "away.zip").rename(away)

        spoilt = tmp_path / "node2/media/Class1/v1_0.zip"
        spoilt.write_bytes(b"no zip")
        done = federation.submit("run-name=raises", *words, "rounds=1")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "client 2 (client_dist2.json) failed: " in done.stdout and str(spoilt) in done.stdout
        assert "failed" in (tmp_path / "node2/state/client_2/train.log").read_text()

        federation.start_submission("run-name=killed", *words, "rounds=3", "training.local_epochs=20")
        wait_until(lambda: federation.log("node1").count("Receiving: train message") == 2, what="a round", seconds=600)
        federation.end("node1", signal.SIGKILL)
        federation.wait_for("round 1: client 1 (client_dist1.json) failed: ", log="submission", seconds=600)
        federation.start_node(1)  # its minute has passed
        assert federation.processes.pop("submission").wait(900) == 0
        assert "Done." in federation.log("submission")
    lines = [json.loads(line) for line in (federation.run_dir("killed") / "metrics.jsonl").read_text().splitlines()]
    failed = {line["server_round"]: line["failed_partition_ids"] for line in lines if "failed_partition_ids" in line}
    assert failed == {1: [0, 1], 2: [1], 3: [1]}, "client 1 is back after its minute, client 2 still has a spoilt video"


@pytest.mark.long
def test_a_node_that_wants_signed_bundles_loads_none_of_a_checkout(tmp_path: Path, data_dir) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    trusted = tmp_path / "keys.yaml"
    trusted.write_text(f"mine: {(tmp_path / 'key.pub').read_text()}")
    with Federation(tmp_path, data_dir, secure=True) as federation:
        federation.start_superlink()
        federation.register(1)
        federation.start_node(1, "--trusted_entities", str(trusted))
        federation.wait_for("SuperNode ID", log="node1")
        words = (*TOLD, "pool_size=1", "strategy.min_fit_clients=1", "rounds=1", "start_timeout=20")
        done = federation.submit("run-name=first", *words)
    assert done.returncode == 1 and "The FAB could not be verified" in done.stderr
    assert "flwr-clientapp" not in federation.log("node1") and not (tmp_path / "node1/state/flwr/apps").exists()
