"""The end of a command: its exit code, and one sentence for a mistake.

SIGTERM is taken like Ctrl-C, and all processes that the command started end with it:

try:
    with interruptible():
        ...
except KeyboardInterrupt as error:
    sys.exit(end_code(error))       # 143 after SIGTERM (Slurm, docker stop), 130 after Ctrl-C
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fedvssl.files.parent import STARTER, end_with_starter

PR_SET_CHILD_SUBREAPER = 36  # of Linux
COLLECT_SECONDS = 5.0  # for killed processes to be collected, so that they do not stay as zombies
READER_LEFT = 128 + signal.SIGPIPE  # exit code
CHILD_SECONDS = 30.0  # that a command which was told to end gets


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where Ctrl-C would be."""


class ReaderLeftError(Exception):
    """Nobody reads the output any more."""


def exit_code(command: Callable[[], object]) -> int:
    """Run a command and return its exit code.

    It is 0, 2 after a user's mistake or what the machine refuses, in one sentence on stderr, 130 or 143 if the command
    is interrupted, 141 without a word if the reader of its output, such as `head`, has left.
    """
    try:
        with interruptible(), to_a_reader():
            command()
    except ReaderLeftError:
        return READER_LEFT
    except (ValueError, OSError) as error:
        return failed(sentence(error), code=2)
    except KeyboardInterrupt as error:
        return failed(f"{end_word(error)}; run the same command again to go on.", code=end_code(error))
    return 0


@contextmanager
def to_a_reader() -> Iterator[None]:
    """Write all output by the end of the block; if nobody reads it any more, let the rest go nowhere.

    Raises:
        ReaderLeftError: if nobody does.
        BrokenPipeError: if it is of another pipe, such as that of a worker.
    """
    try:
        try:
            yield
        finally:
            print(end="", flush=True)  # does nothing where stdout is closed
    except BrokenPipeError as error:
        if not _reader_has_left():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes the rest there at its end
        raise ReaderLeftError from error


def _reader_has_left() -> bool:
    """True if stdout is a pipe or a socket that nobody reads."""
    with suppress(AttributeError, ValueError, OSError):  # it is closed, or is no file
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    return False


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Terminated` in the main thread on SIGTERM, also where only a decoding worker has got it so far.

    The end of the process that has started this one, and asked it to end with it, counts as SIGTERM.
    """
    end_with_starter()
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set a handler
        return
    before = signal.getsignal(signal.SIGTERM)
    take_sigterm()
    try:
        yield
    except RuntimeError as error:
        if "killed by signal: Terminated" in str(error):  # Slurm tells all processes of a job
            raise Terminated from error
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)  # None: of a library in C


def take_sigterm() -> None:
    """Take SIGTERM, once more where a library has taken it meanwhile. A fork ends at once, as without this."""
    owner = os.getpid()

    def handle(number: int, _frame: Any) -> None:
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        signal.signal(number, signal.SIG_IGN)  # a second one would disturb the end that the first one brings
        raise Terminated

    signal.signal(signal.SIGTERM, handle)


def end_code(error: KeyboardInterrupt) -> int:
    """Exit code by the shell's rule: 128 + the number of the signal."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def end_word(error: KeyboardInterrupt) -> str:
    """ "Terminated" or "Interrupted" """
    return "Terminated" if isinstance(error, Terminated) else "Interrupted"


def run_child(command: Sequence[str], **options: Any) -> int:
    """Run a command to its end and return its exit code; if this process is interrupted, the command ends first.

    A command of ours also ends if this process is killed.

    Args:
        options: of `subprocess.Popen`, but `env`.
    """
    options["env"] = {**os.environ, STARTER: str(os.getpid())}
    with subprocess.Popen(command, **options) as child:
        try:
            return child.wait()
        except BaseException:
            child.terminate()
            try:
                child.wait(CHILD_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
            raise


@contextmanager
def ending_descendants() -> Iterator[set[int]]:
    """End all processes that are started within the block, at its end. Gives the ids of those that were there before.

    On Linux, orphans among them become this process's children, so that they are found.
    """
    before = descendants()
    _adopt_orphans(True)
    try:
        yield before
    finally:
        end_descendants(but=before)
        _adopt_orphans(False)


def _adopt_orphans(adopt: bool) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)


def descendants() -> set[int]:
    """Ids of all processes that this one has started, and those have started."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found, waiting = set(), [os.getpid()]
    while waiting:
        new = set(children.get(waiting.pop(), ())) - found
        found |= new
        waiting += new
    return found


def end_descendants(*, but: set[int] | None = None) -> None:
    """Kill all descendants but these, also stopped ones. They are stopped first, so that none starts another."""
    kept = but or set()
    stopped: set[int] = set()
    while new := descendants() - kept - stopped:
        for pid in new:
            _send(pid, signal.SIGSTOP)
        stopped |= new
    for pid in stopped:
        _send(pid, signal.SIGKILL)
    deadline = time.monotonic() + COLLECT_SECONDS
    while (left := stopped & descendants()) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ChildProcessError):  # not adopted yet
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _parents() -> Iterator[tuple[int, int]]:
    """Pairs (process, parent) of all processes."""
    if not Path("/proc/self/stat").is_file():  # macOS
        shown = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True).stdout
        yield from ((int(pid), int(parent)) for pid, parent in map(str.split, shown.splitlines()))
        return
    for entry in Path("/proc").iterdir():
        with suppress(OSError):  # it has ended since
            if entry.name.isdigit():
                yield int(entry.name), int((entry / "stat").read_text().rpartition(")")[2].split()[1])


def one_line(error: object) -> str:
    """Error as one line; its class is named if the message alone may say nothing, as with KeyError."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    text = " ".join(str(error).split())
    return text if isinstance(error, str | ValueError | RuntimeError) else f"{type(error).__name__}: {text}"


def sentence(error: Exception) -> str:
    """The message of an error, or its class, without the traceback that a decoding worker puts before it."""
    name = type(error).__qualname__
    module = type(error).__module__
    lines = (one_line(error) if isinstance(error, OSError) else str(error)).strip().splitlines()
    return (
        lines[-1].removeprefix(f"{module}.{name}: ").removeprefix(f"{name}: ") if lines else f"{name}, without a word"
    )


def failed(error: object, *, code: int) -> int:
    """Print why a command fails; returns its exit code."""
    sys.stderr.write(f"error: {error}\n")  # in one piece: after Ctrl-C a fork may print a traceback at the same time
    sys.stderr.flush()
    return code
