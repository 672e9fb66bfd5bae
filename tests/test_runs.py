"""The list of runs: a line for each, whatever is in their folders."""

import json
import os
from pathlib import Path

import pytest
import yaml

from fedvssl import runs
from tests.run_folders import write_finetuning, write_pretraining


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_pretraining(Path("outputs/2026-01-31"))
    os.utime("outputs/2026-01-31/pretraining/metrics.jsonl", (0, 0))
    run = write_finetuning(Path("tuned"))
    config = {"from_scratch": True, "training": {"epochs": 2}, "data": {"name": "hmdb51"}}
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "task": {"module": {"_target_": "a.Recognition"}}}))
    return tmp_path


def test_runs_of_all_commands_have_a_line_each(folder, capsys):
    assert runs.main([]) == 0
    heading, tuned, pretrained = capsys.readouterr().out.splitlines()
    assert tuple(heading.split()) == runs.COLUMNS
    assert tuned.split()[:5] == ["tuned", "tuned", "from", "scratch", "Recognition"]
    assert "2/2 epochs  1.000  finished " in tuned
    assert pretrained.startswith("outputs/2026-01-31/pretraining  fedvssl_results  FedVSSL ")
    assert "0/4 rounds  2.250  interrupted  " in pretrained and pretrained.endswith(" d")


def test_a_broken_folder_has_a_line_of_its_own(folder, capsys):
    for number, content in enumerate((b"\xff\xfe[", b"[" * 5000, b"rounds: 3")):
        (path := Path(f"outputs/broken{number}")).mkdir()
        (path / "config.yaml").write_bytes(content)
    assert runs.main(["outputs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 3 and all(line.startswith(f"outputs/broken{n}: ") for n, line in enumerate(lines[2:]))


def test_json_has_all_that_is_known(folder, capsys):
    Path("outputs/broken").mkdir()
    Path("outputs/broken/config.yaml").write_text("a: 1")
    assert runs.main(["--json"]) == 0
    tuned, pretrained, broken = json.loads(capsys.readouterr().out)
    assert (tuned["kind"], tuned["done"], tuned["state"]) == ("fine-tuning", 2, "finished")
    assert (pretrained["method"], pretrained["changed"], pretrained["asked"]) == ("FedVSSL", 0, 4)
    assert broken.keys() == {"folder", "error"} and broken["folder"] == "outputs/broken"


def test_no_runs_and_no_folder_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert runs.main([]) == 0 and "No run in outputs or this folder" in capsys.readouterr().out
    assert runs.main([".", "--json"]) == 0 and capsys.readouterr().out == "[]\n"
    assert runs.main(["none"]) == 2 and "there is no folder none" in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "text"), [(-5, "0 s"), (59, "59 s"), (90, "1 min"), (7200, "2 h"), (2e5, "2 d")])
def test_ages_are_whole_numbers_of_the_largest_unit(seconds, text):
    assert runs.age(seconds) == text
