"""What a process has started ends with it, also where it was killed."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from fedvssl.files.atomic import read_json
from fedvssl.files.lock import started
from fedvssl.files.parent import STARTER

ROOT, PYTHON = Path(__file__).parents[2], sys.executable

POOL = """
import os, sys, time
from data_tools.workers import in_processes
if __name__ == "__main__":
    print("working", flush=True)
    list(in_processes(time.sleep, [600, 600, 600], num_workers=2))
"""
LOADER = """
import os, time
import torch
from torch.utils.data import DataLoader
from fedvssl.data.dataset import _workers

class Slow(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, index):
        os.write(1, b"working\\n")  # in one piece, so that two workers cannot mix their lines
        time.sleep(600)

list(DataLoader(Slow(), **_workers(num_workers=2)))
"""
COMMAND = """
import sys, time
from pathlib import Path
from data_tools.command import run_command
from fedvssl.files.lock import owned

def main():
    with owned(Path(sys.argv[1])):
        print("working", flush=True)
        time.sleep(600)

run_command(main)
"""
STARTER_OF_A_COMMAND = """
import sys
from fedvssl.files.ending import run_child
run_child([sys.executable, *sys.argv[1:]])
"""


def start(command: list[str]) -> subprocess.Popen:
    pipe, environment = subprocess.PIPE, {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)


def children(pid: int) -> set[int]:
    """Processes that a process has started and that live."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.add(int(path.parent.name))
        except OSError:  # it has ended
            continue
    return found


def semaphores(pid: int) -> set[Path]:
    """Named semaphores that a process has open; glibc has renamed them since, so their inodes tell."""
    inodes = set(re.findall(r" (\d+) +/dev/shm/sem", Path(f"/proc/{pid}/maps").read_text()))
    return {path for path in Path("/dev/shm").glob("sem.mp-*") if str(path.stat().st_ino) in inodes}


def ended(pids: set[int], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(started(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(started(pid) for pid in pids)


def kill(parent: subprocess.Popen, processes: set[int], *, seconds: float) -> bool:
    """Kill a process; true if those that it has started end too, in so many seconds."""
    parent.kill()
    parent.wait()
    all_ended = ended(processes, seconds=seconds)
    for pid in processes:  # or a failing test would leave them for ever
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return all_ended


def wait_for(number: int, parent: subprocess.Popen) -> set[int]:
    """Children of a process as soon as it has so many."""
    deadline = time.monotonic() + 100
    while len(found := children(parent.pid)) < number and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(found) == number
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_and_the_tracker_of_a_killed_command_end_and_leave_no_semaphore(tmp_path: Path) -> None:
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    parent = start([PYTHON, str(script)])
    processes = wait_for(3, parent)  # two workers, and the resource tracker
    named = semaphores(parent.pid)
    assert kill(parent, processes, seconds=100)
    assert named and not any(path.exists() for path in named)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_of_a_loader_end_in_the_middle_of_a_video() -> None:
    parent = start([PYTHON, "-c", LOADER])
    assert parent.stdout is not None and parent.stdout.readline() == parent.stdout.readline() == "working\n"
    assert kill(parent, wait_for(2, parent), seconds=100)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("by", ["command", "quickstart.sh", "prepare_dataset.sh"])
def test_a_command_ends_in_order_with_the_killed_one_that_has_started_it(by: str, tmp_path: Path) -> None:
    first = [PYTHON, "-c", STARTER_OF_A_COMMAND]
    if by != "command":
        (export,) = [line for line in (ROOT / "scripts" / by).read_text().splitlines() if STARTER in line]
        first = ["bash", "-c", f'{export}\n(:; "$@"; exit 1) & wait', "-", PYTHON]  # one beside another
    starter = start([*first, "-c", COMMAND, str(tmp_path / "work")])
    assert starter.stdout is not None and starter.stdout.readline() == "working\n"
    (lock,) = (tmp_path / "work").iterdir()
    assert kill(starter, {read_json(lock)["pid"]}, seconds=25)  # less than the grace after which it would be ended
    assert starter.stderr is not None and "error: Terminated" in starter.stderr.read()
    assert not lock.exists(), "it has given its folder back"
