"""One process owns a folder, also while others start, die or live on another machine."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fedvssl.files import lock
from fedvssl.files.atomic import read_json
from fedvssl.files.lock import LOCK_FILE, owned, started

OWN = """
import sys, time
from pathlib import Path
from fedvssl.files.lock import owned
try:
    with owned(Path(sys.argv[1])):
        print("mine", flush=True)
        time.sleep(float(sys.argv[2]))
except ValueError as error:
    print("refused", error, flush=True)
"""


def starter(folder: Path, *, seconds: float = 600) -> subprocess.Popen:
    """Process that owns the folder for some seconds, and says so."""
    command = [sys.executable, "-c", OWN, str(folder), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def write_lock(folder: Path, **facts: object) -> Path:
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "started": "another boot/1"}
    path = folder / LOCK_FILE
    path.write_text(json.dumps({**owner, "since": "2026-01-31", "command": "python train", **facts}))
    return path


def first_line(process: subprocess.Popen) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_the_folder_of_a_living_process_is_refused_with_its_id_until_it_dies(tmp_path, capsys):
    process = starter(tmp_path)
    try:
        assert first_line(process) == "mine"
        sentence = rf"belongs to process {process.pid} on .* since 20.*: wait for its end, or name another folder"
        with pytest.raises(ValueError, match=sentence), owned(tmp_path):
            raise AssertionError("not reached")
        os.kill(process.pid, signal.SIGSTOP)  # a process that is stopped still lives
        with pytest.raises(ValueError, match="belongs to process"), owned(tmp_path):
            raise AssertionError("not reached")
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not collected by its parent
        with owned(tmp_path):
            assert read_json(tmp_path / LOCK_FILE)["pid"] == os.getpid()
        assert f"process {process.pid}, at work since " in capsys.readouterr().out
    finally:
        process.kill()
        process.wait()
    assert not list(tmp_path.iterdir())


def test_of_several_starters_at_a_stale_lock_one_gets_it(tmp_path):
    write_lock(tmp_path, pid=2**22 + 1)
    processes = [starter(tmp_path) for _ in range(4)]
    told = [first_line(process) for process in processes]
    for process in processes:
        process.kill()
        process.wait()
    assert sum("is gone; taken over" in line for line in told) == 1
    assert sum(line.startswith("refused") for line in told) == 3


def test_an_id_that_another_process_has_now_is_no_owner(tmp_path, capsys):
    write_lock(tmp_path)
    with owned(tmp_path):
        pass
    assert f"process {os.getpid()}, at work since 2026-01-31, is gone; taken over" in capsys.readouterr().out
    write_lock(tmp_path, started=started(os.getpid()))
    with pytest.raises(ValueError, match=f"belongs to process {os.getpid()}"), owned(tmp_path):
        raise AssertionError("not reached")


def test_another_machine_keeps_its_folder(tmp_path):
    path = write_lock(tmp_path, host="elsewhere", pid=1)
    sentence = rf"process 1 on elsewhere since .* or remove {path} if it is not running there"
    with pytest.raises(ValueError, match=sentence), owned(tmp_path):
        raise AssertionError("not reached")
    assert path.is_file()


@pytest.mark.parametrize("content", ["{half", "[]", '{"pid": "x"}', "\0\0"])
def test_a_damaged_lock_is_named_and_an_empty_one_is_nobodys(content, tmp_path):
    path = tmp_path / LOCK_FILE
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"{path} does not say which process"), owned(tmp_path):
        raise AssertionError("not reached")
    path.write_text("")
    with owned(tmp_path):
        assert read_json(path)["pid"] == os.getpid()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_the_lock_ends_with_its_block(error, tmp_path):
    with pytest.raises(error), owned(tmp_path / "made/deep"):
        raise error
    assert not list(tmp_path.iterdir()), "a folder that was made in vain goes too"
    with pytest.raises(error), owned(tmp_path / "made/deep"):
        (tmp_path / "made/file").touch()
        raise error
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["file"]


def test_somebody_elses_lock_is_left_alone(tmp_path):
    with owned(tmp_path):
        (tmp_path / LOCK_FILE).unlink()
        other = write_lock(tmp_path, host="elsewhere")
    assert other.is_file()


def test_a_folder_within_is_another_and_a_process_owns_a_folder_once(tmp_path):
    with owned(tmp_path), owned(tmp_path / "inner"), owned(tmp_path, name=".inner.lock"):
        with pytest.raises(ValueError, match="This process already works in"), owned(tmp_path):
            raise AssertionError("not reached")
        process = starter(tmp_path, seconds=0)
        assert first_line(process).startswith("refused") and process.wait() == 0


def test_other_ranks_of_a_run_work_in_the_folder_of_the_first(tmp_path, monkeypatch):
    with owned(tmp_path):
        monkeypatch.setenv("LOCAL_RANK", "1")
        with owned(tmp_path):
            pass
        assert (tmp_path / LOCK_FILE).is_file()
        monkeypatch.setenv("LOCAL_RANK", "0")


def test_a_fork_neither_has_nor_ends_the_lock_of_its_parent(tmp_path):
    with owned(tmp_path):
        child = os.fork()
        if child == 0:
            lock.release_all()
            os._exit(0)
        os.waitpid(child, 0)
        process = starter(tmp_path, seconds=0)
        assert first_line(process).startswith("refused") and process.wait() == 0
        lock.release_all()
        assert not list(tmp_path.iterdir())


def test_leftovers_of_the_names_that_the_owner_writes_are_removed(tmp_path):
    left = [".round-2-weights.4711.npz", "clients/client_1/.kept-round-3.12.npz", ".out.33/half"]
    kept = [
        ".notes.2024.txt",
        ".round-2-weights.npz",
        ".env.1",
        "round-2-weights.4711.npz",
        "deep/er/.a.1.npz",
        ".a.x.npz",
    ]
    for name in left + kept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("half")
    with owned(tmp_path, writes=("*.npz", "clients/*/*.npz", "out")):
        assert not any((tmp_path / name).exists() for name in left)
    assert all((tmp_path / name).is_file() for name in kept)
    assert not (tmp_path / ".out.33").exists()
