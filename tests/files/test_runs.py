"""Runs by name: the one that is meant, or a sentence with the candidates."""

import os
from pathlib import Path

import pytest
import yaml

from fedvssl.files.lock import owned
from fedvssl.files.runs import BACKBONE, PRETRAINING, RECOGNIZER, ROUND, choose, run_facts, run_folders
from tests.run_folders import write_finetuning, write_lines, write_pretraining

TODAY = Path("outputs/2026-01-31")


def write_run(folder: Path, *, minutes_ago: float, rounds: tuple[int, ...] = (), tuned: bool = False, **config) -> Path:
    """A run's folder with its round files, or the last epoch of a fine-tuning."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"exp_name": folder.name, **config}))
    if not tuned:
        (folder / "settings.json").write_text("{}")
    for name in [f"round-{number}-weights.npz" for number in rounds] + ["last.pth"] * tuned:
        (folder / name).touch()
    write_lines(folder / "metrics.jsonl", [])
    time = (folder / "config.yaml").stat().st_mtime - 60 * minutes_ago
    os.utime(folder / "metrics.jsonl", (time, time))
    return folder


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs of pre-training, the newest without a round, and a fine-tuning that is newer."""
    monkeypatch.chdir(tmp_path)
    write_run(TODAY / "11-00-00/fedvssl_results", minutes_ago=60, rounds=(1, 2, 10))
    write_run(TODAY / "12-00-00/fedvssl_results", minutes_ago=30, rounds=(5,))
    write_run(TODAY / "13-00-00/mine", minutes_ago=10)
    write_run(Path("tuned"), minutes_ago=5, tuned=True)
    (TODAY / "11-00-00/fedvssl_results/report.html").touch()  # newer than any record


def test_the_last_is_the_newest_that_has_what_is_asked_for(runs):
    assert choose("last", ROUND) == TODAY / "12-00-00/fedvssl_results/round-5-weights.npz"
    assert choose("last", BACKBONE) == choose("last", ROUND), "not the fine-tuned one"
    assert choose("last", PRETRAINING) == TODAY / "13-00-00/mine"
    assert choose("last", RECOGNIZER) == Path("tuned/last.pth")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("11-00-00", TODAY / "11-00-00/fedvssl_results/round-10-weights.npz"),
        ("2026-01-31/12-00-00", TODAY / "12-00-00/fedvssl_results/round-5-weights.npz"),
        ("12-00-00/fedvssl_results", TODAY / "12-00-00/fedvssl_results/round-5-weights.npz"),
        (str(TODAY / "11-00-00"), TODAY / "11-00-00/fedvssl_results/round-10-weights.npz"),
        (str(TODAY / "11-00-00/fedvssl_results"), TODAY / "11-00-00/fedvssl_results/round-10-weights.npz"),
        ("tuned", Path("tuned/last.pth")),
    ],
)
def test_a_name_is_a_folder_or_a_part_of_its_path(name, path, runs):
    assert choose(name, BACKBONE) == path


def test_a_name_may_be_the_exp_name_of_a_folder_that_is_called_otherwise(runs):
    write_run(Path("outputs/elsewhere"), minutes_ago=99, rounds=(3,), exp_name="ablation")
    assert choose("ablation", ROUND) == Path("outputs/elsewhere/round-3-weights.npz")


@pytest.mark.parametrize(
    ("name", "asked", "sentence"),
    [
        ("fedvssl_results", ROUND, "may be {0}/12-00-00/fedvssl_results, {0}/11-00-00/fedvssl_results: write more"),
        (str(TODAY), ROUND, "may be {0}/12-00-00/fedvssl_results, {0}/11-00-00/fedvssl_results: write more"),
        ("mine", ROUND, "no run of this name in outputs or this folder has a round of pre-training; others are {0}/12"),
        (str(TODAY / "13-00-00/mine"), ROUND, "no run of this name in {0}/13-00-00/mine has a round of pre-training."),
        ("1-00-00", ROUND, "run=1-00-00: no run of this name"),
        ("", ROUND, "run=: no run of this name"),
        ("12-00-00", RECOGNIZER, "has a fine-tuned model (last.pth); others are tuned."),
    ],
)
def test_other_names_get_a_sentence_with_the_candidates(name, asked, sentence, runs):
    with pytest.raises(ValueError) as raised:
        choose(name, asked)
    assert sentence.format(TODAY) in str(raised.value)


def test_without_runs_the_last_is_told_to_be_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="run=last: no run in outputs or this folder has a round of pre-training"):
        choose("last", ROUND)


def test_long_lists_of_candidates_are_cut(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        write_run(Path(f"outputs/a/{number}"), minutes_ago=number, rounds=(1,))
    with pytest.raises(ValueError, match=r"may be outputs/a/0, .*outputs/a/4 and 3 more: write"):
        choose("a", ROUND)


def test_nothing_inside_a_run_or_a_hidden_folder_is_a_run(runs):
    write_run(TODAY / "13-00-00/mine/before-3", minutes_ago=0, rounds=(4,))
    write_run(TODAY / ".hidden", minutes_ago=0, rounds=(4,))
    assert [place.parent.name for place in run_folders(Path("outputs"))] == ["11-00-00", "12-00-00", "13-00-00"]


def test_facts_of_a_run_are_read_from_its_folder(tmp_path):
    run = write_pretraining(tmp_path)
    for number in (1, 2, 3):
        (run / f"round-{number}-weights.npz").touch()
    facts = run_facts(run)
    assert (facts.kind, facts.method, facts.task, facts.data) == ("pre-training", "FedVSSL", "CtP", "ucf101")
    assert (facts.done, facts.asked, facts.state, facts.loss) == (3, 4, "interrupted", 9 / 4)
    with owned(run):
        assert run_facts(run).state == "running"
    (run / "round-4-weights.npz").touch()
    assert run_facts(run).state == "finished" and facts.name == "fedvssl_results"


def test_a_lock_of_a_dead_process_is_no_running_one(tmp_path):
    run = write_pretraining(tmp_path)
    (run / ".lock").write_text('{"pid": 1, "host": "another", "started": "x"}')
    assert run_facts(run).state == "running", "nobody here can know"
    (run / ".lock").write_text("{")
    assert run_facts(run).state == "interrupted"


def test_facts_of_a_fine_tuning_are_read_from_its_folder(tmp_path):
    run = write_finetuning(tmp_path / "tuned")
    config = {"from_scratch": False, "pretrained": "a/round-3-weights.npz", "training": {"epochs": 3}}
    config |= {"data": {"name": "hmdb51"}, "task": {"module": {"_target_": "a.Recognition"}}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    facts = run_facts(run)
    assert (facts.kind, facts.method, facts.data) == ("fine-tuning", "from round-3-weights.npz", "hmdb51")
    assert (facts.name, facts.done, facts.asked, facts.loss, facts.state) == ("tuned", 2, 3, 1.0, "interrupted")


@pytest.mark.parametrize("config", ["[", "a: 1", "- 1", "rounds: x\nstrategy: {_target_: 3}", "from_scratch: true", ""])
def test_a_damaged_configuration_is_told(config, tmp_path):
    (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(ValueError, match=r"config\.yaml is "):
        run_facts(tmp_path)
