"""A command killed, or left without disk space, at its k-th file operation, and its folder when it has run again.

Such a run is a fork of this process, so that loading PyTorch is paid once. It counts what its main thread does to files
below the current folder. At the chosen operation it sends itself SIGKILL: before a file is renamed or removed, after
one is created and still empty, and in the middle of a line that is appended. Or this and all later operations fail as
on a full disk, but removals.
"""

import builtins
import errno
import io
import json
import os
import shutil
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MARK = "FEDVSSL_KILLED_RUN"  # in the environment of all that a killed run has started
CHANGES = ("mkdir", "rmdir", "unlink", "remove", "rename", "replace", "link", "fsync", "open")  # of the module os
ON_A_FULL_DISK = ("mkdir", "rename", "replace", "link", "fsync", "open", "write", "append")  # these fail
SECONDS_TO_END = 5.0  # for the processes that a killed one has started
# Beginnings of the names of what differs by the clock or by the number of starts.
TIMES = ("seconds", "clips_per_second", "data_share", "started", "written", "kept")


@dataclass(frozen=True)
class Case:
    """One command that is killed.

    Args:
        run: the command in the current folder; returns its exit code.
        inputs: writes what the command reads into a folder, of which each run gets a copy.
        more: further callables to kill before, each as an object and the name of its attribute.
        finished: part of the sentence with which a repeated command may refuse if the killed one had done its work.
        kept: pattern of the files that a repeated command must not write again.
        logs: patterns of files that differ from run to run, such as a log of all starts.
    """

    run: Callable[[], int]
    inputs: Callable[[Path], object]
    more: Sequence[tuple[Any, str]] = ()
    finished: str = ""
    kept: str = "no such file"
    logs: Sequence[str] = ("**/tensorboard/*",)


@dataclass
class Killer:
    """Counts the file operations of the main thread; the process dies, or its disk is full, from number `at` on."""

    at: int | None = None
    full: bool = False
    seen: list[str] = field(default_factory=list)

    def __call__(self, kind: str) -> bool:
        """Count an operation; true if it is one to fail at."""
        if threading.current_thread() is not threading.main_thread():
            return False
        self.seen.append(kind)
        if self.full:
            return self.at is not None and len(self.seen) >= self.at and kind in ON_A_FULL_DISK
        return len(self.seen) == self.at

    def fail(self, *path: Any) -> None:
        """Die, or raise what a full disk raises: writing names no file, making one does."""
        if not self.full:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *path)

    def before(self, kind: str, function: Callable) -> Callable:
        """The function, preceded by death if its turn has come."""

        def wrapped(*args: Any, **options: Any) -> Any:
            if (kind == "fsync" or below(args[0])) and self(kind):
                self.fail(*(args[:1] if kind != "fsync" else ()))
            return function(*args, **options)

        return wrapped

    def opened(self, function: Callable) -> Callable:
        """The function `open`, followed by the fault or by a file that meets it in the middle of what it writes."""

        def wrapped(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            file = function(path, mode, *args, **options)
            if not below(path):
                return file
            if self("read" if mode in ("r", "rb", "rt") else "append" if "a" in mode else "write"):
                if "a" in mode:
                    return HalfWriter(file, self.fail)
                file.close()
                self.fail()
            return file

        return wrapped


class HalfWriter:
    """A file that takes half of the first line."""

    def __init__(self, file: Any, fail: Callable[[], object]) -> None:
        self.file, self.fail = file, fail

    def __enter__(self) -> "HalfWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, text: str) -> None:
        self.file.write(text[: len(text) // 2])
        self.file.flush()
        self.fail()


def below(path: Any) -> bool:
    """True for a path in the current folder."""
    return isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(os.getcwd() + os.sep)


def start(
    case: Case, folder: Path, *, at: int | None = None, full: bool = False, mark: str = ""
) -> tuple[int, list[str], str]:
    """Run the case in a fork, killed at operation `at`, or with a full disk from there on.

    Returns:
        exit code, negative for a signal; the kinds of its operations, if it was not killed; what it printed.
    """
    seen, printed = folder.with_suffix(".seen"), folder.with_suffix(".log")
    sys.stdout.flush()
    if child := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return code, json.loads(seen.read_text()) if at is None else [], printed.read_text()
    code = 70
    try:
        with printed.open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        os.chdir(folder)
        os.environ[MARK] = mark
        killer = Killer(at, full)
        with counted(killer, case.more):
            code = case.run()
        seen.write_text(json.dumps(killer.seen))
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 71
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise AssertionError


@contextmanager
def counted(killer: Killer, more: Sequence[tuple[Any, str]]) -> Iterator[None]:
    """Put the killer between the program and its files."""
    places = [*((os, name) for name in CHANGES), *more]
    own = [(place, name, getattr(place, name)) for place, name in places]
    for place, name, function in own:
        if place is os:
            setattr(place, name, killer.before(name, function))
        else:
            setattr(place, name, dying_before(killer, name, function))
    opened = io.open
    builtins.open = io.open = killer.opened(opened)
    try:
        yield
    finally:
        builtins.open = io.open = opened
        for place, name, function in own:
            setattr(place, name, function)


def dying_before(killer: Killer, kind: str, function: Callable) -> Callable:
    def wrapped(*args: Any, **options: Any) -> Any:
        if killer(kind):
            killer.fail()
        return function(*args, **options)

    return wrapped


def chosen(seen: Sequence[str], points: int) -> list[int]:
    """Numbers of the operations to die at, spread evenly: those that write, and reading ones if they are too few."""
    writes = [number for number, kind in enumerate(seen, start=1) if kind != "read"]
    reads = [number for number, kind in enumerate(seen, start=1) if kind == "read"]
    if len(writes) < points:
        return sorted([*writes, *spread(reads, points - len(writes))])
    return spread(writes, points)


def spread(numbers: Sequence[int], count: int) -> list[int]:
    """About `count` of the numbers in even steps, the first and the last among them."""
    if count >= len(numbers):
        return list(numbers)
    if count == 1:
        return [numbers[len(numbers) // 2]]
    return sorted({numbers[round(index * (len(numbers) - 1) / (count - 1))] for index in range(count)})


def content(folder: Path, case: Case) -> dict[str, Any]:
    """All files of a folder, hidden ones too, without what the clock decides."""
    skipped = {path for pattern in case.logs for path in folder.glob(pattern)}
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path not in skipped]
    return {path.relative_to(folder).as_posix(): read(path) for path in paths}


def read(path: Path) -> Any:
    if path.suffix == ".jsonl":
        return [timeless(json.loads(line)) for line in path.read_text().splitlines()]
    return timeless(json.loads(path.read_text())) if path.suffix == ".json" else path.read_bytes()


def timeless(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: timeless(value) for name, value in content.items() if not name.startswith(TIMES)}
    return [timeless(value) for value in content] if isinstance(content, list) else content


def survivors(mark: str) -> list[str]:
    """Command lines of the processes that a killed run has left, after a moment to end."""
    deadline = time.monotonic() + SECONDS_TO_END
    while (found := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def marked(mark: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended, or is another user's
            continue
    return found


def fault_of(code: int, printed: str, folder: Path, *, full: bool) -> str | None:
    """What is wrong with the end of a disturbed run; None if all is well."""
    if not full:
        return None if code == -signal.SIGKILL else f"it was not killed: exit code {code}, {printed[-300:]}"
    lines = [line for line in printed.splitlines() if "error" in line.lower() or "Traceback" in line]
    if len(lines) != 1 or not lines[0].startswith("error: ") or code not in (1, 2):
        return f"exit code {code} and not one sentence: {printed[-800:]}"
    return None if str(folder) in lines[0] or "'" in lines[0] else f"no folder is named: {lines[0]}"


def disturb_and_repeat(case: Case, folder: Path, *, at: int, full: bool, expected: dict[str, Any]) -> str | None:
    """Disturb the case at one operation, run it again, and compare. Returns what is wrong, None if all is well."""
    mark = uuid.uuid4().hex
    code, _, printed = start(case, folder, at=at, full=full, mark=mark)
    if fault := fault_of(code, printed, folder, full=full):
        return fault
    if left := survivors(mark):
        return f"processes stay: {left}"
    before = {path: path.stat().st_ino for path in folder.glob(case.kept)}
    code, _, printed = start(case, folder)
    if code != 0 and not (case.finished and case.finished in printed):
        return f"the repeated command ends with {code}: {printed[-600:]}"
    found = content(folder, case)
    if wrong := sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name)):
        return f"other files than undisturbed: {wrong}"
    if again := [path for path, inode in before.items() if path.stat().st_ino != inode]:
        return f"written again: {again}"
    return None


def trial(case: Case, folder: Path, *, points: int, full: bool = False) -> dict[str, str | None]:
    """Disturb the case at several operations. Returns, by "<number> <kind>", what is wrong or None."""
    inputs, outcomes = folder / "inputs", {}
    inputs.mkdir(parents=True)
    case.inputs(inputs)
    undisturbed = shutil.copytree(inputs, folder / "undisturbed")
    code, seen, printed = start(case, undisturbed)
    assert code == 0, printed
    expected = content(undisturbed, case)
    if full:
        seen = [kind if kind in ON_A_FULL_DISK else "read" for kind in seen]
    for at in chosen(seen, points):
        folder_at = shutil.copytree(inputs, folder / f"at{at}")
        outcomes[f"{at} {seen[at - 1]}"] = disturb_and_repeat(case, folder_at, at=at, full=full, expected=expected)
    return outcomes
