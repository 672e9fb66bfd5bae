"""What a machine cannot give is refused in a sentence; several processes end as one."""

import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fedvssl.training import processes
from fedvssl.training.loop import build_fabric


@pytest.mark.parametrize(
    ("device", "devices", "num_gpus", "sentence"),
    [
        ("auto", 3, 2, "3 GPUs are asked for and 2 are here"),
        ("cuda", 1, 0, "1 GPUs are asked for and 0 are here"),
        ("auto", 0, 0, "devices=0 is not a number of processes"),
        ("auto", "two", 0, "devices=two is not a number of processes"),
        ("tpu", 1, 0, "device=tpu is unknown"),
    ],
)
def test_refused(monkeypatch, device, devices, num_gpus, sentence) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    with pytest.raises(ValueError, match=sentence):
        processes.check_devices(device=device, devices=devices)


@pytest.mark.parametrize(("device", "devices", "num_gpus"), [("auto", 2, 2), ("auto", 4, 0), ("cpu", 4, 1)])
def test_accepted(monkeypatch, device, devices, num_gpus) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    processes.check_devices(device=device, devices=devices)


def test_says_where_it_computes(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    fabric = build_fabric(device="cpu", precision="32-true")
    assert processes.where(fabric) == "1 CPU process (no GPU here), 32-true"


def test_one_process_reduces_to_its_own_values_and_keeps_plain_batch_norm() -> None:
    fabric = build_fabric(device="cpu")
    values = torch.tensor([1.0, 2.0])
    assert torch.equal(processes.reduce(fabric, values, how="mean"), values)
    norm = torch.nn.BatchNorm3d(2)
    assert processes.synchronise_batch_norm(fabric, norm) is norm


@pytest.mark.parametrize(
    ("world_size", "device", "expected"),
    [(2, "cuda", torch.nn.SyncBatchNorm), (1, "cuda", torch.nn.BatchNorm3d), (2, "cpu", torch.nn.BatchNorm3d)],
)
def test_batch_norm_is_synchronised_between_gpus_only(world_size: int, device: str, expected: type) -> None:
    fabric: Any = SimpleNamespace(world_size=world_size, device=torch.device(device))
    module = torch.nn.Sequential(torch.nn.Conv3d(3, 2, 1), torch.nn.BatchNorm3d(2, eps=1e-3, momentum=0.2))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    converted = processes.synchronise_batch_norm(fabric, module)
    norm: Any = converted[1]  # pyright: ignore[reportIndexIssue]
    assert type(norm) is expected and (norm.eps, norm.momentum) == (1e-3, 0.2)
    assert before.keys() == converted.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in converted.state_dict().items())


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen]]:
    """The list that Fabric keeps and its observer looks at."""
    started: list[subprocess.Popen] = []
    yield started
    for child in started:
        child.kill()


def child_of(children: list[subprocess.Popen], code: str) -> subprocess.Popen:
    children.append(subprocess.Popen([sys.executable, "-c", code]))
    return children[-1]


def process(children: list[subprocess.Popen], *, rank: int = 0) -> Any:
    launcher = SimpleNamespace(procs=children) if rank == 0 else None
    return SimpleNamespace(world_size=2, global_rank=rank, strategy=SimpleNamespace(launcher=launcher))


SLEEP = "import time; time.sleep(600)"


def test_a_mistake_in_process_0_ends_the_others_at_once(children) -> None:
    child = child_of(children, SLEEP)
    with pytest.raises(ValueError, match="damaged"), processes.ending_together(process(children)):
        raise ValueError("damaged")
    assert child.returncode == -9 and not children


def test_process_0_follows_one_that_has_failed_and_ends_the_rest(children) -> None:
    told, other = child_of(children, "raise SystemExit(2)"), child_of(children, SLEEP)
    with pytest.raises(SystemExit) as caught, processes.ending_together(process(children)):
        raise RuntimeError("Connection closed by peer")
    assert caught.value.code == told.returncode == 2 and other.returncode == -9


def test_a_killed_process_is_told_by_process_0(children) -> None:
    child_of(children, SLEEP).terminate()
    with pytest.raises(ChildProcessError, match="killed by signal 15"), processes.ending_together(process(children)):
        raise RuntimeError("Connection closed by peer")


def test_an_error_of_process_0_itself_keeps_its_traceback(children, monkeypatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.1)
    child = child_of(children, SLEEP)
    with pytest.raises(RuntimeError, match="out of memory"), processes.ending_together(process(children)):
        raise RuntimeError("out of memory")
    assert child.returncode == -9


def test_another_process_lets_process_0_fail_first(monkeypatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    with pytest.raises(ValueError, match="damaged"), processes.ending_together(process([], rank=1)):
        raise ValueError("damaged")
    assert waited == [processes.PATIENCE]
