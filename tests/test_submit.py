"""`fedvssl submit` with a stand-in for Flower's command line: what that is told, and the exit code of each outcome."""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fedvssl import submit

STAND_IN = r"""
import json, os, sys
told = json.loads(os.environ["STAND_IN"])
word, *words = sys.argv[1:]
with open(told["seen"], "a") as seen:
    keep = open(words[words.index("--run-config") + 1]).read() if "--run-config" in words else ""
    print(json.dumps([word, words, keep, os.environ.get("FLWR_TELEMETRY_ENABLED")]), file=seen)
if word == "log":
    print(told.get("log", ""))
elif told.get(word) is not None:
    print("Starting ...", json.dumps(told[word]))
else:
    sys.exit("\u256d\u2500 Error \u2500\u256e\n\u2502 no server there \u2502")
"""


class Told:
    """Words that the stand-in was called with."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def of(self, word: str) -> list[Any]:
        calls = [json.loads(line) for line in self.path.read_text().splitlines()]
        return next(call for call in calls if call[0] == word)


@pytest.fixture
def flower(tmp_path: Path, monkeypatch):
    """Returns a function that runs the command; it gives the exit code, and what the stand-in was told."""
    script = tmp_path / "flwr.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(submit, "command", lambda words: [sys.executable, str(script), *words])
    monkeypatch.setattr(submit, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(submit, "PATIENCE", 0.5)
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    monkeypatch.delenv("FLWR_TELEMETRY_ENABLED", raising=False)

    def run(*words: str, **answers: Any) -> tuple[Any, Told]:
        monkeypatch.setenv("STAND_IN", json.dumps({"seen": str(tmp_path / "seen"), **answers}))
        with pytest.raises(SystemExit) as ended:
            submit.main(words)
        return ended.value.code, Told(tmp_path / "seen")

    return run


def ended(status: str, details: str = "") -> dict[str, Any]:
    return {"runs": [{"run-id": "7", "status": status, "status-details": details}]}


STARTED = {"success": True, "run-id": "7"}


def test_a_run_that_is_done_ends_with_0_and_names_its_results(flower, capsys, monkeypatch):
    log = "10:00:00  Results in /srv/outputs/first\nround 1/1"
    words = ("run-name=first", "experiment=small", 'exp_name=it\'s "mine"')
    code, told = flower(*words, run=STARTED, log=log, ls=ended("finished:completed"))
    shown = capsys.readouterr().out
    assert code == 0 and "round 1/1" in shown
    assert shown.endswith("Done. Results on the SuperLink's machine: /srv/outputs/first\n")
    _, run, config, telemetry = told.of("run")
    assert telemetry == "0" and "local" in run and (Path(run[0]) / "pyproject.toml").is_file()
    sent = tomllib.loads(config)
    assert sent["run-name"] == "first"
    from fedvssl.submission import read_settings

    assert read_settings(sent["overrides"])["exp_name"] == 'it\'s "mine"', "quotes survive the way"


def test_a_run_that_failed_ends_with_1_and_its_reason(flower, capsys):
    code, _ = flower("run-name=a", run=STARTED, ls=ended("finished:failed", "ServerApp failed: too few\nclients"))
    assert code == 1
    assert (
        capsys.readouterr().err == "error: The run has ended as 'finished:failed'. ServerApp failed: too few clients\n"
    )
    assert flower("run-name=a", run=STARTED, ls=ended("finished:stopped"))[0] == 1


def test_a_server_that_is_gone_is_no_success(flower, capsys):
    assert flower("run-name=a", run=STARTED)[0] == 1
    assert "The SuperLink does not answer any more" in capsys.readouterr().err
    assert flower("run-name=a")[0] == 1
    assert capsys.readouterr().err == "error: Nothing was submitted: Error no server there\n"


def test_the_simulation_gets_its_nodes_and_absolute_places(flower, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, told = flower("run-name=a", "data_dir=here", "pool_size=4", run=STARTED, ls=ended("finished:completed"))
    _, words, config, _ = told.of("run")
    assert code == 0 and "num-supernodes=4 " in words[words.index("--federation-config") + 1]
    assert f"data_dir={tmp_path}/here" in tomllib.loads(config)["overrides"]


def test_a_connection_keeps_its_places_and_sets_no_nodes(flower, tmp_path):
    (tmp_path / "config.toml").write_text('[superlink.far]\naddress = "far:8000"\n')
    _, told = flower("far", "run-name=a", "data_dir=there", run=STARTED, ls=ended("finished:completed"))
    _, words, config, _ = told.of("run")
    assert "--federation-config" not in words and "data_dir=there" in tomllib.loads(config)["overrides"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("experiment=small",), "Name the run once"),
        (("run-name=a", "run-name=b"), "Name the run once"),
        (("run-name=a/../..",), "leads outside the folder"),
        (("run-name=a", "rounds=x"), "rounds=x"),
        (("run-name=a", "engine=local"), "has no effect on a submission"),
        (("run-name=a", "hydra/job_logging=none"), "has no effect on a submission"),
        (("far", "run-name=a"), "has no connection [superlink.far]: add it, or name one of: local."),
    ],
)
def test_mistakes_are_told_and_nothing_is_submitted(flower, words, sentence, capsys, tmp_path):
    code, _ = flower(*words, run=STARTED, ls=ended("finished:completed"))
    error = capsys.readouterr().err
    assert code == 2 and sentence in error and error.count("\n") == 1 and not (tmp_path / "seen").exists()


def test_places_of_the_nodes_have_no_effect_and_are_refused(flower, tmp_path, capsys):
    (tmp_path / "config.toml").write_text('[superlink.far]\naddress = "far:8000"\n')
    assert flower("far", "run-name=a", "--partition_dir=/lists", run=STARTED)[0] == 2
    assert "'partition_dir=/lists' has no effect on a submission" in capsys.readouterr().err


def test_any_letter_and_a_reference_survive_the_way(flower):
    words = ("run-name=\U0001f3a5", "exp_name=\U0001f3a5", "data.media_dir=${data_dir}/zips")
    _, told = flower(*words, run=STARTED, ls=ended("finished:completed"))
    sent = tomllib.loads(told.of("run")[2])
    assert sent["run-name"] == "\U0001f3a5" and "exp_name=\U0001f3a5" in sent["overrides"]
    assert "data.media_dir=${data_dir}/zips" in sent["overrides"]


@pytest.mark.parametrize(
    ("text", "sentence"), [("[", "cannot be read as TOML: mend it."), ("superlink = 3", "has no section [superlink]")]
)
def test_a_damaged_file_of_connections_is_named(text, sentence, flower, tmp_path, capsys):
    (tmp_path / "config.toml").write_text(text)
    assert flower("run-name=a")[0] == 2
    assert f"config.toml {sentence}" in capsys.readouterr().err


def test_an_installed_package_has_no_code_to_send(flower, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(submit, "conf_dir", lambda: tmp_path / "conf")
    assert flower("run-name=a")[0] == 2
    assert "clone the repository, submit there" in capsys.readouterr().err


def test_help_is_the_docstring(capsys):
    submit.main(["--help"])
    assert "fedvssl submit hospital run-name=first" in capsys.readouterr().out
