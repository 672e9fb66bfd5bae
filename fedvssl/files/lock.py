"""One process owns a folder: nobody else writes there meanwhile, and what killed writers left is removed.

    with owned(run_dir):
        ...

The folder's `.lock` names its owner: {"pid": 4711, "host": "node3", "started": "<boot>/<clock ticks>", "since":
"2026-01-31T12:00:00+00:00", "command": "python -m fedvssl.main ..."}. "started" is the start of the process as the
kernel knows it, so that a process with a re-used id is not taken for the owner. The owner also holds the kernel's lock
on this file, which ends with the process: of two starters that find a stale file only one gets it, and an owner in
another container of this machine, whose process id says nothing here, is seen.
"""

import fcntl
import glob
import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedvssl.files.atomic import naming, remove_leftovers

LOCK_FILE = ".lock"
_held: dict[Path, tuple[int, int]] = {}  # lock files of this process: its id, which a fork does not share; descriptor


@contextmanager
def owned(
    folder: Path, *, writes: Sequence[str] = (), name: str = LOCK_FILE, tell: Callable[[str], object] = print
) -> Iterator[None]:
    """Own a folder until the block ends, however it ends.

    Further processes of one run (`LOCAL_RANK` above 0, set by their launcher) work in the folder of its first process:
    they neither lock nor clean it. Folders inside are folders of their own.

    Args:
        folder: made if it is missing, and removed again if nothing was written into it.
        writes: patterns of files below the folder that only its owner writes, such as "clients/*/*.npz". Temporary
            files of these names, which killed writers have left, are removed.
        name: of the lock file. A folder that must be empty is owned by ".<its name>.lock" in its parent.
        tell: receives a line if the lock of a dead process is taken over.

    Raises:
        ValueError: if another process owns the folder, or may own it on another machine.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        yield
        return
    path = folder.resolve() / name
    missing = [parent for parent in path.parents if not parent.exists()]
    _acquire(path, tell)
    try:
        for pattern in writes:
            remove_leftovers(path.parent, pattern)
        yield
    finally:
        _release(path)
        with suppress(OSError):  # something is in it
            for parent in missing:
                parent.rmdir()


def owned_output(path: Path, *, tell: Callable[[str], object] = print) -> AbstractContextManager[None]:
    """Own one file, or one folder that must be new, until the block ends; other outputs beside it are free."""
    return owned(path.parent, writes=[glob.escape(path.name)], name=f".{path.name}.lock", tell=tell)


def living_owner(folder: Path) -> bool:
    """True if a process of this machine owns a folder, or one of another machine may own it; nothing is changed."""
    try:
        owner = json.loads((folder / LOCK_FILE).read_bytes())
        return owner["host"] != socket.gethostname() or started(owner["pid"]) == owner["started"]
    except (OSError, ValueError, TypeError, KeyError):
        return False


def release_all() -> None:
    """Remove all locks of this process, before it leaves by `os._exit`."""
    for path in list(_held):
        _release(path)


def _release(path: Path) -> None:
    """Remove this process's lock file, and nobody else's."""
    pid, descriptor = _held.get(path, (0, -1))
    if pid != os.getpid():
        return
    del _held[path]
    if _is_same(path, descriptor):
        path.unlink()
    os.close(descriptor)


def _acquire(path: Path, tell: Callable[[str], object]) -> None:
    if _held.get(path, (0, -1))[0] == os.getpid():  # closing the file a second time would end the kernel's lock
        raise ValueError(f"This process already works in {path.parent}: name another folder.")
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # its last owner has just removed the empty folder
            continue
        try:
            alone = _lock(descriptor)
            if not _is_same(path, descriptor):  # removed by its owner since it was opened
                os.close(descriptor)
                continue
            if owner := _read(path, descriptor):
                _refuse_living(path, owner, alone=alone)
                tell(f"{path.parent}: process {owner['pid']}, at work since {owner['since']}, is gone; taken over.")
            elif not alone:
                raise ValueError(f"Another process has just begun to work in {path.parent}: name another folder.")
            with naming(path):
                _write(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        _held[path] = os.getpid(), descriptor
        return


def _lock(descriptor: int) -> bool:
    """Take the kernel's lock on a file, which no fork inherits. Returns False if another process has it."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a file system without locks: the process id alone decides
        return True
    return True


def _refuse_living(path: Path, owner: dict[str, Any], *, alone: bool) -> None:
    """Refuse a folder whose owner lives.

    Raises:
        ValueError: with process, time and file.
    """
    pid, host = owner["pid"], owner["host"]
    who = f"{path.parent} belongs to process {pid} on {host} since {owner['since']}"
    if host != socket.gethostname():
        raise ValueError(f"{who}: wait for its end, name another folder, or remove {path} if it is not running there.")
    if not alone or started(pid) == owner["started"]:
        raise ValueError(f"{who}: wait for its end, or name another folder; {path} goes with it.")


def _read(path: Path, descriptor: int) -> dict[str, Any]:
    """Owner that a lock file names; {} if it is empty, because its writer was killed before it could write.

    Raises:
        ValueError: if it is damaged.
    """
    content = os.pread(descriptor, 65536, 0)
    if not content:
        return {}
    try:
        owner = json.loads(content)
        if not isinstance(owner["pid"], int):
            raise TypeError("no process")
        return {name: owner[name] for name in ("pid", "host", "started", "since", "command")}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} does not say which process owns the folder: remove it if no command works there."
        ) from error


def _write(descriptor: int) -> None:
    owner = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": started(os.getpid()),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(shlex.join(sys.orig_argv).split())[:500],
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, (json.dumps(owner, indent=2) + "\n").encode(), 0)
    os.fsync(descriptor)


def _is_same(path: Path, descriptor: int) -> bool:
    """True if the path still leads to the open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def started(pid: int) -> str | None:
    """Start of a process as the kernel knows it; None if there is no such process, or it only waits to be collected."""
    if not Path("/proc/self/stat").is_file():  # macOS
        shown = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True)
        state, _, since = shown.stdout.strip().partition(" ")
        return since.strip() if state and not state.startswith("Z") else None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None if state in "ZX" else f"{boot}/{fields[18]}"
