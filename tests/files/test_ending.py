"""A command that is told to end does so with a sentence, an exit code and all that it has started."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedvssl.files import ending
from fedvssl.files.ending import Terminated, end_code, interruptible, run_child, take_sigterm
from fedvssl.files.lock import started

ROOT = Path(__file__).parents[2]
COMMAND = """
import multiprocessing, sys, time
from pathlib import Path
from data_tools.command import run_command
from fedvssl.files.lock import owned

def main():
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,), daemon=True).start()
    with owned(Path(sys.argv[1])):
        print("working", flush=True)
        time.sleep(600)

run_command(main)
"""


def line_of(process: subprocess.Popen) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("whole_group", [False, True])
def test_a_command_ends_with_a_sentence_its_code_and_its_workers(number, code, whole_group, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert line_of(process) == "working\n"
    os.killpg(process.pid, number) if whole_group else process.send_signal(number)
    _, told = process.communicate(timeout=200)
    assert process.returncode == code, told
    name = {143: "Terminated", 130: "Interrupted"}[code]
    # After Ctrl-C, which reaches the fork too, its traceback may come before or behind.
    assert f"error: {name}; run the same command again to go on.\n" in told
    assert code == 130 or told.count("\n") == 1, "a fork prints no traceback"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert not list(tmp_path.iterdir()), "the lock ends too"


def test_sigterm_is_raised_once_and_its_handler_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated) as caught, interruptible():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)  # while it ends
    assert end_code(caught.value) == 143 and end_code(KeyboardInterrupt()) == 130
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_handler_that_a_library_sets_can_be_replaced():
    with pytest.raises(Terminated), interruptible():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        take_sigterm()
        signal.raise_signal(signal.SIGTERM)


def test_a_worker_that_was_told_first_ends_the_command_too():
    with pytest.raises(Terminated), interruptible():
        raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Terminated. ")
    with pytest.raises(RuntimeError, match="too little memory"), interruptible():
        raise RuntimeError("killed by signal: Killed: too little memory")


def test_a_child_command_ends_before_its_parent(tmp_path, monkeypatch):
    """It gets the time to do so; a deaf one is killed."""
    monkeypatch.setattr(ending, "CHILD_SECONDS", 0.5)
    script = "import signal, sys, time; {}; open(sys.argv[1], 'w').close(); time.sleep(60)"
    deaf = script.format("signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    polite = script.format(
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(open(sys.argv[1] + '.left', 'w').close()))"
    )
    for number, code in enumerate((deaf, polite)):
        started = tmp_path / str(number)

        def interrupt(*_: object, started: Path = started) -> None:
            if started.exists():
                raise Terminated
            signal.setitimer(signal.ITIMER_REAL, 0.1)

        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            with pytest.raises(Terminated):
                run_child([sys.executable, "-c", code, str(started)])
        finally:
            signal.signal(signal.SIGALRM, before)
    assert (tmp_path / "1.left").exists()
    assert run_child([sys.executable, "-c", "raise SystemExit(3)"]) == 3


TREE = """
import os, subprocess, time
from fedvssl.files.ending import descendants, ending_descendants
before = subprocess.Popen(["sleep", "600"])
with ending_descendants():
    subprocess.Popen(["sh", "-c", "sleep 601 & sleep 602 & exec sh -c 'exit 0'"]).wait()  # two orphans
    stopped = subprocess.Popen(["sh", "-c", "sleep 603; :"])
    while len(descendants()) < 5:
        time.sleep(0.01)
    os.kill(stopped.pid, 19)
    found = descendants()
print(len(found), len(descendants()), before.poll(), *found - {before.pid})
before.kill()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are found on Linux only")
def test_all_descendants_end_stopped_ones_and_orphans_too():
    answer = subprocess.run([sys.executable, "-c", TREE], capture_output=True, text=True, check=True, timeout=200)
    number, left, before, *found = answer.stdout.split()
    assert (number, left, before) == ("5", "1", "None")
    assert not [pid for pid in found if started(int(pid))]


def test_the_sentence_of_an_error_comes_without_the_traceback_of_a_worker() -> None:
    assert ending.sentence(ValueError("No file x.")) == "No file x."
    caught = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback:\n  ...\nValueError: No file x.\n"
    assert ending.sentence(ValueError(caught)) == "No file x."


def failing(error: Exception):
    def command() -> None:
        raise error

    return command


def test_mistakes_and_what_the_disk_refuses_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending.exit_code(lambda: None) == 0
    assert ending.exit_code(failing(ValueError("No file x."))) == 2
    assert ending.exit_code(failing(OSError(28, "No space left on device"))) == 2
    assert capsys.readouterr().err == "error: No file x.\nerror: No space left on device\n"
    with pytest.raises(KeyError):
        ending.exit_code(failing(KeyError("a mistake of ours keeps its traceback")))


def test_a_broken_pipe_of_a_worker_is_told_and_leaves_the_output_alone(capfd) -> None:
    assert ending.exit_code(failing(BrokenPipeError(32, "Broken pipe"))) == 2
    print("still read")
    assert tuple(capfd.readouterr()) == ("still read\n", "error: Broken pipe\n")


def test_a_command_without_an_output_ends_as_with_one() -> None:
    code = "from fedvssl.files.ending import exit_code; import sys; sys.exit(exit_code(lambda: print('a line')))"
    result = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_an_error_without_a_message_is_named_by_its_class() -> None:
    assert ending.sentence(ValueError()) == "ValueError, without a word"
    assert ending.sentence(OSError()).startswith("OSError")
    assert ending.sentence(FileNotFoundError(2, "No such file or directory", "x")) == "No such file or directory: x"


@pytest.mark.parametrize(
    "words",
    [
        ("-c", "from fedvssl.files.ending import exit_code; import sys; sys.exit(exit_code(lambda: print('a line')))"),
        ("-m", "fedvssl.runs"),
        ("-m", "fedvssl.retrieval", "--help"),
        ("-m", "data_tools.partition", "--help"),
    ],
    ids=" ".join,
)
def test_a_command_whose_reader_has_left_ends_without_a_word(words, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    command, environment = [sys.executable, *words], {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        result = subprocess.run(
            command, cwd=tmp_path, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(writer)
    assert result.returncode in (141, 0) and not result.stderr, "0: argparse passes over it"
