"""`run=` on the command line of each command that asks for a checkpoint or for the folder of a run."""

from pathlib import Path

import pytest

from fedvssl import config, evaluate, export, finetune, finetune_preprocess, report, test
from fedvssl.chosen_run import PLACES, with_run
from fedvssl.completion import complete
from fedvssl.files.runs import ROUND
from fedvssl.help import show_help
from fedvssl.overrides import parse_overrides
from tests.files.test_runs import write_run

RUN = Path("outputs/a b=1/12-00-00/mine")
ROUND_5 = str(RUN / "round-5-weights.npz")


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(RUN, minutes_ago=30, rounds=(5,))
    write_run(Path("tuned"), minutes_ago=5, tuned=True)


@pytest.mark.parametrize("word", ["run=last", "--run=last", "run=mine", f"run={RUN}", "run=12-00-00"])
def test_the_word_becomes_the_setting_of_the_command(word):
    assert with_run("knn", [word, "seed=3"]) == ["seed=3", f"--checkpoint={ROUND_5}"]
    assert with_run("knn", ["seed=3"]) == ["seed=3"]


@pytest.mark.parametrize(
    ("command", "key"),
    [
        *((name, "checkpoint") for name in ("retrieval", "knn", "linear_probe", "motion_probe", "semi", "export")),
        ("finetune", "pretrained"),
    ],
)
def test_a_configuration_names_the_file(command, key):
    words = parse_overrides(with_run(command, ["run=mine"]))
    assert config.compose(command, words)[key] == ROUND_5


def test_a_test_writes_into_the_folder_of_its_run():
    found = config.read_command_line("test", ["test", "run=tuned"])
    assert (found["checkpoint"], found["work_dir"]) == ("tuned/last.pth", "tuned")
    found = config.read_command_line("test", ["test", "run=last", "work_dir=elsewhere"])
    assert (found["checkpoint"], found["work_dir"]) == ("tuned/last.pth", "elsewhere")


def test_pre_training_continues_the_run():
    assert config.for_hydra(["run=last", "rounds=9"]) == ["rounds=9", f"hydra.run.dir='{RUN}'"]


def test_a_setting_beside_the_run_must_be_the_same():
    assert with_run("export", ["run=last", f"checkpoint={RUN.resolve()}/round-5-weights.npz"])[-1].startswith("check")
    with pytest.raises(ValueError, match=r"run=mine is .*round-5-weights\.npz, and checkpoint=x is another"):
        with_run("export", ["checkpoint=x", "run=mine"])


@pytest.mark.parametrize(
    "run",
    [
        lambda: evaluate.main("knn", ["run=none"]),
        lambda: export.main(["run=none"]),
        lambda: finetune.main(["finetune", "run=none"]),
        lambda: test.main(["test", "run=none"]),
        lambda: finetune_preprocess.main(["run=none"]),
        lambda: report.main(["run=none"]),
        lambda: report.main([str(RUN), "--include", "none"]),
    ],
)
def test_every_door_takes_the_word(run, capsys):
    assert run() == 2
    assert capsys.readouterr().err.startswith("error: run=none: no run of this name in outputs or this folder has a")


def test_help_shows_what_the_run_stands_for(capsys):
    assert show_help("finetune", ["finetune", "run=mine", "--help"])
    assert f"pretrained: {ROUND_5}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        show_help("finetune", ["finetune", "run=none", "--help"])


def test_preprocessing_reads_the_round(monkeypatch):
    seen = []
    monkeypatch.setattr("fedvssl.files.given.first_bytes", lambda _: b"")
    monkeypatch.setattr("fedvssl.conversion.convert", lambda *paths, words: seen.append((*paths, *words)))
    assert finetune_preprocess.main(["run=last", "--output_path", "out.pth"]) == 0
    assert seen == [(Path(ROUND_5), Path("out.pth"))]


def test_completion_offers_the_runs():
    commands = {"knn": "fedvssl.knn"}
    assert complete(["knn", "run=t"], commands, ()) == ["run=tuned"]
    assert complete(["knn", "run="], commands, ()) == ["run=last", f"run={RUN}", "run=tuned"]


def test_commands_without_a_checkpoint_leave_the_word_to_hydra():
    assert with_run("sweep", ["run=last"]) == ["run=last"]
    assert PLACES["show_task"] == ("checkpoint", ROUND)
