"""A command killed at its k-th file operation, and what is in its folder when it has run again.

A killed run is a fork of this process, so that loading PyTorch is paid once. It counts what its main thread does to
files below the current folder and sends itself SIGKILL at the chosen operation: before a file is renamed or removed,
after one is created and still empty, and in the middle of a line that is appended.
"""

import builtins
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
    """Counts the file operations of the main thread and kills the process at number `at`, counted from 1."""

    at: int | None = None
    seen: list[str] = field(default_factory=list)

    def __call__(self, kind: str) -> bool:
        """Count an operation; true if it is the one to die at."""
        if threading.current_thread() is not threading.main_thread():
            return False
        self.seen.append(kind)
        return len(self.seen) == self.at

    def before(self, kind: str, function: Callable) -> Callable:
        """The function, preceded by death if its turn has come."""

        def wrapped(*args: Any, **options: Any) -> Any:
            if (kind == "fsync" or below(args[0])) and self(kind):
                die()
            return function(*args, **options)

        return wrapped

    def opened(self, function: Callable) -> Callable:
        """The function `open`, followed by death or by a file that dies in the middle of what it writes."""

        def wrapped(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            file = function(path, mode, *args, **options)
            if not below(path):
                return file
            if self("read" if mode in ("r", "rb", "rt") else "append" if "a" in mode else "write"):
                if "a" in mode:
                    return Dying(file)
                die()
            return file

        return wrapped


class Dying:
    """A file that takes half of the first line and the process with it."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> "Dying":
        return self

    def __exit__(self, *_: object) -> None: ...

    def write(self, text: str) -> None:
        self.file.write(text[: len(text) // 2])
        self.file.flush()
        die()


def below(path: Any) -> bool:
    """True for a path in the current folder."""
    return isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(os.getcwd() + os.sep)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def start(case: Case, folder: Path, *, at: int | None = None, mark: str = "") -> tuple[int, list[str], str]:
    """Run the case in a fork, killed at operation `at`.

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
        killer = Killer(at)
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
            die()
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


def kill_and_repeat(case: Case, folder: Path, *, at: int, expected: dict[str, Any]) -> str | None:
    """Kill the case at one operation, run it again, and compare. Returns what is wrong, None if all is well."""
    mark = uuid.uuid4().hex
    code, _, printed = start(case, folder, at=at, mark=mark)
    if code != -signal.SIGKILL:
        return f"it was not killed: exit code {code}, {printed[-300:]}"
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


def trial(case: Case, folder: Path, *, points: int) -> dict[str, str | None]:
    """Kill the case at several operations. Returns, by "<number> <kind>", what is wrong or None."""
    inputs, outcomes = folder / "inputs", {}
    inputs.mkdir(parents=True)
    case.inputs(inputs)
    undisturbed = shutil.copytree(inputs, folder / "undisturbed")
    code, seen, printed = start(case, undisturbed)
    assert code == 0, printed
    expected = content(undisturbed, case)
    for at in chosen(seen, points):
        killed = shutil.copytree(inputs, folder / f"at{at}")
        outcomes[f"{at} {seen[at - 1]}"] = kill_and_repeat(case, killed, at=at, expected=expected)
    return outcomes
