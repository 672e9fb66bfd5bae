"""Commands of README and pages run as printed, one after another, at small size (`long`); checks of what runs them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import readme, walkthrough
from benchmarks.readme import ADDED, NOT_RUN, ROOT, WRITES, commands, entry, make_small, read_pages, small
from data_tools.synthetic import SyntheticSet, write_dataset

COMMANDS = commands(read_pages())


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with raw videos and their lists."""
    folder = tmp_path_factory.mktemp("clips")
    write_dataset(folder, SyntheticSet(train_videos=6, test_videos=3, num_frames=24))
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_of_every_command_it_is_known_what_it_writes(command: str) -> None:
    assert entry(WRITES, command) is not None, f"name in benchmarks/readme.py what '{command}' writes"


@pytest.mark.parametrize("table", [WRITES, ADDED, NOT_RUN], ids=["writes", "added", "not run"])
def test_no_entry_is_of_a_command_that_the_pages_no_longer_have(table: dict) -> None:
    assert [start for start in table if not any(command.startswith(start) for command in COMMANDS)] == []


def test_words_are_added_before_those_of_another_tool() -> None:
    assert small("bash scripts/prepare_cifar10.sh --num_clients 5 -- --labelled_share 0.01") == (
        "bash scripts/prepare_cifar10.sh --num_clients 5 --raw_dir <pictures> -- --labelled_share 0.5"
    )
    assert small("python -m fedvssl.sweep data_dir=data") == "python -m fedvssl.sweep data_dir=data --dry_run"
    assert small("python -m fedvssl.runs") == "python -m fedvssl.runs"


def test_a_value_that_is_no_longer_there_is_told_instead_of_running_at_the_published_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    make_small(tmp_path / "conf")
    assert "rounds: 3 " in (tmp_path / "conf/base.yaml").read_text()
    monkeypatch.setattr(readme, "SMALL", {"base": {"rounds: 20 ": "rounds: 3 "}})
    with pytest.raises(ValueError, match=r"base\.yaml has no 'rounds: 20 ': mend SMALL"):
        make_small(tmp_path / "conf")


def test_the_log_has_the_exit_code_the_longest_silence_and_the_line_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walkthrough, "WRITES", {"echo": "made.txt", "true": "made.txt"})
    command = "echo one; touch made.txt; sleep 0.6; echo <word>; exit 3"
    ran = walkthrough.run(command, tmp_path, {"<word>": "two  'words' # here"})
    assert (ran.code, ran.before, ran.guessed, ran.wrote) == (3, "one", ["<word>"], True)
    assert 0.5 < ran.silence <= ran.seconds and ran.last == "one\ntwo  'words' # here"
    assert "exit 3" in ran.line() and ran.line().endswith(ran.last)
    (tmp_path / "made.txt").unlink()
    silent = walkthrough.run("true", tmp_path, {})
    assert silent.code == 0 and not silent.wrote, "a command that writes nothing has failed"


def test_a_failed_command_gives_the_walk_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    good = walkthrough.Ran("a <videos>", 1.0, 0, 20.0, "begun", ["<videos>"], wrote=True, last="")
    bad = walkthrough.Ran("b", 1.0, 2, 0.0, "", [], wrote=True, last="error: no b")
    there, new = str(tmp_path), str(tmp_path / "new")
    words = ["walkthrough", "--raw_dir", there, "--ann_dir", there, "--folder", new, "--json", f"{there}/log.json"]
    monkeypatch.setattr(sys, "argv", words)
    for log, code in (([good], 0), ([good, bad], 1)):
        monkeypatch.setattr(walkthrough, "walk", lambda *_, log=log, **__: iter(log))
        assert walkthrough.main() == code
    told = capsys.readouterr().out
    assert "a <videos>   (after: begun)" in told and "error: no b" in told
    assert "to be put in: <videos> in 1 commands" in told and "2 commands, 2 s, 1 failed" in told


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"--raw_dir": "nowhere"}, "there is no folder nowhere"),
        ({"--folder": "."}, "is not empty: give another one"),
        ({"--only": "no such words"}, "no command of README and pages has no such words in it"),
    ],
)
def test_a_walk_that_cannot_begin_is_one_sentence(change, sentence, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    told = {"--raw_dir": "docs", "--ann_dir": "docs", "--folder": str(tmp_path / "new"), **change}
    monkeypatch.setattr(sys, "argv", ["walkthrough", *(word for pair in told.items() for word in pair)])
    monkeypatch.setattr(walkthrough, "walk", lambda *_, **__: iter([]))
    with pytest.raises(SystemExit) as ended:
        walkthrough.main()
    assert ended.value.code == 2 and sentence in capsys.readouterr().err


def in_git() -> bool:
    """True in a checkout, which alone can be cloned."""
    return subprocess.run(["git", "-C", str(ROOT), "rev-parse"], capture_output=True).returncode == 0


@pytest.mark.long  # most commands load PyTorch
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not in_git(), reason="no checkout to clone")
def test_every_command_ends_well_and_writes_what_it_is_to_write(clips: Path, tmp_path: Path) -> None:
    log = list(walkthrough.walk(tmp_path, raw_dir=clips / "raw", ann_dir=clips / "lists"))
    assert len(log) == len(COMMANDS)
    assert [ran.line() for ran in log if ran.code or not ran.wrote] == []
