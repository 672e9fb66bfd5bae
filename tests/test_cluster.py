"""engine=cluster: its sentences, what it asks of machines, and two machines that give the bits of one."""

import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedvssl import cluster, engines
from fedvssl.cluster import Machine, check_address, check_machines, join, look, machine_of, memory_sentence
from fedvssl.engines import Limits, device_of
from fedvssl.files.arrays import load_arrays
from fedvssl.main import check_engine
from fedvssl.preflight import fit_precision, settle
from fedvssl.training.footprint import client_bytes, saved_for_backward
from tests.federation import ROOT, family, overrides, run_main, tiny_config

GPU = Machine("node-2", num_cpus=16, num_gpus=2, memory_bytes=64 * 10**9, gpu_bytes=80 * 10**9)
CPU = Machine("node-1", num_cpus=4, num_gpus=0, memory_bytes=8 * 10**9)
FOLDERS = {"data.media_dir": "/data/zips", "partition_dir": "/data/lists", "hydra.run.dir": "/runs/1/clients"}


@pytest.mark.parametrize(
    ("engine", "address", "sentence"),
    [
        ("cluster", None, r"engine=cluster needs ray\.address=<host>:<port>"),
        ("simulation", "auto", r"ray\.address=auto has no effect on engine=simulation: set engine=cluster\."),
        ("local", "node:6379", r"ray\.address=node:6379 has no effect on engine=local"),
    ],
)
def test_engine_and_address_go_together(engine: str, address: str | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_engine(engine, address=address)
    check_engine("cluster", address="auto")


@pytest.mark.parametrize(
    "address", ["node", "ray://node:10001", "node:port", ":6379", "node:6379/x", "[::1]", "node:123456"]
)
def test_what_is_no_address_is_told(address: str) -> None:
    with pytest.raises(ValueError, match=r"is no address: give <host>:<port>, or auto"):
        check_address(address)


def test_an_address_at_which_nobody_listens_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check_address(f"127.0.0.1:{port}")
    for address in (f"127.0.0.1:{port}", "127.0.0.1:99999", "no.such.host.invalid:6379"):
        with pytest.raises(ValueError, match=rf"Nobody answers at ray\.address={address}: start the cluster"):
            check_address(address)
    check_address("auto")


def test_no_word_of_ray_is_passed_on() -> None:
    def start() -> None:
        raise RuntimeError("Version mismatch: The cluster was started with ...")

    with pytest.raises(
        ValueError, match=r"The Ray cluster at ray.address=auto cannot be joined.*Python 3.*Ray \d"
    ) as told:
        join(start, "auto")
    assert "mismatch" not in str(told.value)


@pytest.mark.parametrize(
    ("machine", "num_cpus", "num_gpus", "expected"),
    [
        (GPU, 2, 0.25, 8),
        (GPU, 4, 0.25, 4),
        (GPU, 2, 1, 2),
        (GPU, 2, 4, 0),
        (CPU, 2, 0, 2),
        (CPU, 2, 0.25, 0),
        (CPU, 8, 0, 0),
    ],
)
def test_as_many_clients_fit_as_flower_places(
    machine: Machine, num_cpus: float, num_gpus: float, expected: int
) -> None:
    assert machine.clients_at_a_time(num_cpus=num_cpus, num_gpus=num_gpus) == expected


@pytest.mark.parametrize(
    ("num_gpus", "sentence"), [(0.4, r"2 clients fit on each .* 2 GPUs of node-2, .* start 5.*set 1/2"), (1.5, "whole")]
)
def test_a_share_of_a_gpu_by_which_a_client_would_wait_for_ever_is_refused(num_gpus: float, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_machines([CPU, GPU], FOLDERS, num_cpus=2, num_gpus=num_gpus)
    for fits in (0.25, 0.333, 0.1, 0.5, 1, 2):
        check_machines([CPU, GPU], FOLDERS, num_cpus=1, num_gpus=fits)
    check_machines([Machine(**{**vars(GPU), "num_gpus": 1})], FOLDERS, num_cpus=2, num_gpus=0.4)


def test_machines_must_have_room_for_a_client_and_its_folders() -> None:
    with pytest.raises(
        ValueError, match=r"the 2 cores and 4 GPUs of a client \(node-1: 4 and 0; node-2: 16 and 2\): lower"
    ):
        check_machines([CPU, GPU], FOLDERS, num_cpus=2, num_gpus=4)
    blind = Machine(**{**vars(CPU), "lacks": ("data.media_dir",)})
    check_machines([blind, GPU], FOLDERS, num_cpus=2, num_gpus=1)  # no client gets there
    with pytest.raises(
        ValueError, match=r"node-1 does not see /data/zips \(data\.media_dir\): put it on a file system"
    ):
        check_machines([blind, GPU], FOLDERS, num_cpus=2, num_gpus=0)


@pytest.mark.parametrize(
    ("gigabytes", "num_gpus", "fits", "sentence"),
    [
        (10, 0.25, True, "4 at a time need 40.0 of the 80.0 GB of a GPU of node-2."),
        (30, 0.25, False, "4 at a time need 120.0 of the 80.0 GB of a GPU of node-2: lower training.batch_size, or"),
        (30, 1, True, "1 at a time need 30.0 of the 80.0 GB of a GPU of node-2."),
        (30, 2, True, "1 at a time need 30.0 of the 80.0 GB of a GPU of node-2."),
    ],
)
def test_packed_clients_are_compared_with_their_gpu(gigabytes: int, num_gpus: float, fits: bool, sentence: str) -> None:
    needs = {"memory": 10**9, "gpu": gigabytes * 10**9}
    told, enough = memory_sentence([CPU, GPU], client_bytes=needs, num_cpus=2, num_gpus=num_gpus)
    assert sentence in told and enough is fits and told.startswith(f"A client needs about {gigabytes}.0 GB, by an")


def test_a_machine_that_tells_no_memory_is_not_compared() -> None:
    machine = Machine(**{**vars(CPU), "memory_bytes": 0})
    sentence = memory_sentence([machine], client_bytes={"memory": 10**9, "gpu": 0}, num_cpus=2, num_gpus=0)
    assert sentence == ("No machine tells how much memory clients may take.", True)


def test_without_gpus_the_fullest_machine_counts() -> None:
    needs = {"memory": 5 * 10**9, "gpu": 0}
    told, enough = memory_sentence([GPU, CPU], client_bytes=needs, num_cpus=2, num_gpus=0)
    assert not enough and "2 at a time need 10.0 of the 8.0 GB of node-1: lower" in told


def test_the_estimate_grows_with_the_batch_and_halves_in_half_precision() -> None:
    net = nn.Conv2d(3, 8, 3)
    with saved_for_backward() as saved:
        net(torch.ones(2, 3, 100, 100)).relu().sum().backward()
    weights = 4 * sum(weight.numel() for weight in net.parameters())
    assert saved.num_bytes == pytest.approx(4 * 2 * (3 * 100 * 100 + 8 * 98 * 98), rel=0.01), "input and output"

    def step(precision: str, batch_size: int, *, on_gpu: bool = True) -> int:
        training = {"precision": precision, "batch_size": batch_size}
        return client_bytes(saved, net, training, samples=2, on_gpu=on_gpu)["gpu" if on_gpu else "memory"]

    hundred, thousand = (step("32-true", size) for size in (100, 1000))
    assert thousand - hundred == pytest.approx(1.8 * 450 * (saved.num_bytes - weights), rel=0.01)
    assert step("bf16-mixed", 1000) - step("bf16-mixed", 100) == pytest.approx((thousand - hundred) / 2, rel=0.01)
    assert step("32-true", 100, on_gpu=False) > 1.2e9, "the process itself"
    training = {"precision": "32-true", "batch_size": 4}
    assert client_bytes(saved, net, training, samples=2, on_gpu=False)["gpu"] == 0


def test_the_client_decides_its_device_and_resources_are_not_those_of_this_machine(data_dir: Path) -> None:
    assert [device_of("cluster", num_gpus=n) for n in (0, 0.25)] == ["cpu", "auto"]
    assert [device_of("simulation", num_gpus=n) for n in (0, 1)] == ["cpu", "cuda"]
    words = ("engine=cluster", "ray.address=auto", "client_resources={num_gpus: 0.25, num_cpus: 500}")
    assert settle(tiny_config(data_dir, *words))["client_resources"] == {"num_gpus": 0.25, "num_cpus": 500}


def test_a_precision_that_this_machine_cannot_settle_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedvssl.preflight.gpus_here", lambda: 0)
    trial: Any = SimpleNamespace(task=nn.Linear(2, 2), dataset=None)
    with pytest.raises(ValueError, match=r"No GPU is here to try training\.precision=auto"):
        fit_precision({"precision": "auto"}, trial, device="auto")


def test_each_machine_is_asked_for_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "gpu_bytes", lambda: 7)
    found = look({"here": str(tmp_path), "there": str(tmp_path / "no")})
    assert found == {"lacks": ("there",), "gpu_bytes": 7}
    node = {"NodeManagerHostname": "a", "NodeManagerAddress": "10.0.0.1", "Resources": {"CPU": 4.0, "memory": 5e9}}
    assert machine_of(node, **found) == Machine("a (10.0.0.1)", 4.0, 0, 5 * 10**9, 7, ("there",))


def test_a_simulation_that_packs_too_many_clients_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="fedvssl")
    needs = {"memory": 6 * 10**9, "gpu": 0}
    limits = Limits(num_clients=3, num_cpus=2, num_gpus=0, timeout=60, client_bytes=needs)
    engines.tell_memory([CPU], limits, tell_all=False)
    engines.tell_memory([GPU], limits, tell_all=False)
    engines.tell_memory([GPU], limits, tell_all=True)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def may_make_namespaces() -> bool:
    words = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "ip", "link", "set", "lo", "up"]
    try:
        return subprocess.run(words, capture_output=True, timeout=200).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


# A network of its own, since Ray listens at the machine's address, and processes of their own, which end with it.
ISOLATED = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c"]
SCRIPT = """
set -e
ip link set lo up
export PATH=$BIN:$PATH
start="ray start $RESOURCES --object-store-memory 100000000 --block"
$start --head --include-dashboard false --port 6411 --node-ip-address 127.0.0.1 > "$LOGS/head" 2>&1 &
for attempt in $(seq 60); do if (: < /dev/tcp/127.0.0.1/6411) 2> /dev/null; then break; fi; sleep 1; done
$start --address 127.0.0.1:6411 --node-ip-address 127.0.0.2 > "$LOGS/second" 2>&1 &
for attempt in $(seq 60); do if grep -q "Ray runtime started" "$LOGS/second"; then break; fi; sleep 1; done
"$@"
"""


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """A short one, for Ray's sockets."""
    path = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def start_on_cluster(words: list[str], folder: Path, ray_folder: Path, *, resources: str) -> subprocess.Popen[bytes]:
    """Start `fedvssl.main` beside two Ray nodes that have these resources each, in a network of their own."""
    environment = {
        **os.environ,
        **{"BIN": str(Path(sys.executable).parent), "LOGS": str(folder), "RAY_TMPDIR": str(ray_folder)},
        **{"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RESOURCES": resources},
    }
    own = ["engine=cluster", "ray.address=127.0.0.1:6411", f"hydra.run.dir={folder / 'cluster'}"]
    command = [*ISOLATED, SCRIPT, "bash", sys.executable, "-m", "fedvssl.main", *words, *own]
    with (folder / "printed").open("w", encoding="utf-8") as printed:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=printed, stderr=subprocess.STDOUT)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.skipif(not may_make_namespaces(), reason="needs root and unshare, for a network of its own")
def test_two_machines_give_the_arrays_of_one_process(data_dir: Path, tmp_path: Path, ray_folder: Path) -> None:
    """Also: what a machine of the cluster lacks is told, and the heads are where the next round finds them."""
    words = overrides(data_dir, "rounds=1", "client_resources.num_cpus=1")
    alone = run_main(*words, "engine=local", f"hydra.run.dir={tmp_path / 'local'}", folder=tmp_path)
    assert alone.returncode == 0, alone.stderr
    with start_on_cluster(words, tmp_path, ray_folder, resources="--num-cpus 1 --num-gpus 0") as process:
        process.wait(timeout=500)
    printed = (tmp_path / "printed").read_text(encoding="utf-8")
    assert process.returncode == 0, printed
    (told,) = [line for line in printed.splitlines() if "The Ray cluster at 127.0.0.1:6411 has" in line]
    assert "(127.0.0.1)" in told and "(127.0.0.2)" in told and "1 at a time need" in printed
    expected, found = (load_arrays(tmp_path / name / "round-1-weights.npz") for name in ("local", "cluster"))
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(array, found[name])
    heads = sorted(path.parent.name for path in (tmp_path / "cluster/clients").glob("*/kept-round-1.npz"))
    assert heads == ["client_1", "client_2", "client_3"] and not list((tmp_path / "cluster/clients").glob(".shared*"))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.skipif(not may_make_namespaces(), reason="needs root and unshare, for a network of its own")
@pytest.mark.parametrize(("share", "at_once"), [(0.5, 4), (1, 2)])
def test_clients_are_packed_by_their_shares_of_the_gpus(
    share: float, at_once: int, data_dir: Path, tmp_path: Path, ray_folder: Path
) -> None:
    """Ray is told of a GPU in each of two machines, so none is needed: the clients find none and train on the CPU."""
    resources = [f"client_resources={{num_gpus: {share}, num_cpus: 1}}", "training.precision=32-true"]
    words = overrides(data_dir, "rounds=1", *resources)
    most, until = 0, time.monotonic() + 500
    with start_on_cluster(words, tmp_path, ray_folder, resources="--num-cpus 3 --num-gpus 1") as process:
        while process.poll() is None and time.monotonic() < until:
            most = max(most, sum("ClientAppA" in name for name in family(process.pid).values()))
            time.sleep(0.2)
        process.kill()  # of one that hangs; --kill-child ends what it has started
    assert process.returncode == 0, (tmp_path / "printed").read_text(encoding="utf-8")
    assert most == at_once
    assert (tmp_path / "cluster/round-1-weights.npz").is_file()
