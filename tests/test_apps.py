"""The two apps by themselves: what a node answers, what a submission may say, and what travels."""

import io
import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict

import fedvssl
from fedvssl.apps import client_app
from fedvssl.client.node import write_precisions
from fedvssl.submission import folder_of, read_run_config, read_settings
from tests.federation import ROOT, LocalGrid, write_clients

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def node_config(data_dir: Path, folder: Path, **others: Any) -> dict[str, Any]:
    lists = data_dir / "ucf101/annotations/client_distribution/client_dist1.json"
    places = {"media-dir": str(data_dir / "ucf101/zips"), "list": str(lists), "state-dir": str(folder / "state")}
    return {"partition-id": 0, "owner": "St Mary", "device": "cpu", **places, **others}


def answered(told: dict[str, Any], action: str = "query", run_config: Any = None) -> Message:
    LocalGrid(client_app, 0)  # Flower's identity
    message = Message(RecordDict({"arrays": ArrayRecord(), "config": ConfigRecord()}), 1, action)
    return client_app(message, Context(1, 1, told, RecordDict(), run_config or {}))


def test_the_version_is_written_twice_and_the_same():
    assert PROJECT["project"]["version"] == fedvssl.__version__


def test_a_node_introduces_itself(tmp_path: Path):
    write_clients(tmp_path, (3,))
    write_precisions(tmp_path / "state", ["32-true", "bf16-mixed"])
    content = answered(node_config(tmp_path, tmp_path)).content
    assert dict(content["client"]) == {"partition-id": 0, "num-examples": 3}
    texts = dict(content["owner"])
    assert texts["owner"] == "St Mary" and texts["precisions"] == ["32-true", "bf16-mixed"] and len(texts["list"]) == 64


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ({"media-dir": "/nowhere"}, "There is no folder /nowhere: set media-dir"),
        ({"list": "/nowhere.json"}, "No annotation file /nowhere.json"),
        ({"partition-id": "0"}, "partition-id='0': it must be of type int"),
        ({"videos": "/v"}, "has 'videos', which is none of"),
        ({"num-workers": True}, "num-workers=True: it must be of type int"),
    ],
)
def test_a_fault_of_a_node_is_a_sentence_on_both_sides(others, sentence, tmp_path: Path, capsys):
    write_clients(tmp_path, (1,))
    reply = answered(node_config(tmp_path, tmp_path, **others))
    assert sentence in reply.error.reason and sentence in capsys.readouterr().out


def test_missing_videos_are_counted(tmp_path: Path):
    write_clients(tmp_path, (3,))
    (tmp_path / "ucf101/zips/Class0/v0_1.zip").unlink()
    reason = answered(node_config(tmp_path, tmp_path)).error.reason
    assert reason.startswith("1 of 3 samples of ") and "the first is Class0/v0_1: copy them there" in reason
    told = node_config(tmp_path, tmp_path)
    del told["state-dir"]
    assert answered(told).error.reason.startswith("The node's configuration lacks state-dir")


def test_a_training_that_fails_is_one_line(tmp_path: Path):
    write_clients(tmp_path, (1,))
    reason = answered(node_config(tmp_path, tmp_path), "train").error.reason
    assert "config" in reason and "\n" not in reason


def test_an_introduction_loads_neither_torch_nor_hydra(tmp_path: Path):
    """Each message to a node starts a process, which pays for every import."""
    write_clients(tmp_path, (1,))
    code = f"""
import sys
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from fedvssl.apps import client_app
TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
told = {node_config(tmp_path, tmp_path)!r}
reply = client_app(Message(RecordDict(), 1, "query"), Context(1, 1, told, RecordDict(), {{}}))
assert reply.has_content()
print(sorted({{"torch", "lightning", "hydra", "ray"}} & {{name.split(".")[0] for name in sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stdout + done.stderr


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"run-name": "a", "mode": "x"}, "The run has no 'mode': settings belong into overrides"),
        ({"run-name": 3}, "run-name=3 must be text"),
        ({"run-name": "a", "overrides": 0.5}, "overrides=0.5 must be text"),
        ({"overrides": "rounds=3"}, "The run has no name: give run-name"),
        ({"run-name": "../a"}, "run-name: the name '../a' leads outside the folder"),
    ],
)
def test_a_submission_is_refused_with_a_sentence(told, sentence):
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")):
        read_run_config(told)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("rounds=x", "rounds=x"),
        ("no_key=1", "no_key"),
        ("rounds", "is not an override"),
        ("exp_name='a", "quotation mark"),
        ("engine=local", "'engine=local' has no effect on a submission: each node's owner decides it"),
        ("client_resources.num_gpus=1", "each node's owner decides it"),
        ("hydra.run.dir=/tmp/x", "run-name names the run's folder"),
    ],
)
def test_settings_of_a_submission_are_checked(overrides, sentence):
    with pytest.raises(ValueError) as caught:
        read_settings(overrides)
    assert sentence in str(caught.value)


def test_a_submission_waits_less_long_unless_it_says_so(tmp_path: Path, monkeypatch):
    assert read_settings("")["round_timeout"] == 1800 and read_settings("round_timeout=60")["round_timeout"] == 60
    assert read_settings("data_dir='/a b'")["data_dir"] == "/a b"
    monkeypatch.chdir(tmp_path)
    assert folder_of("first") == tmp_path / "outputs/first"


def test_the_bundle_is_complete_and_holds_nothing_else():
    from flwr.cli.build import build_fab_from_disk

    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(ROOT))) as bundle:
        names = {name for name in bundle.namelist() if not name.startswith(".info/")}
    listed = subprocess.run(["git", "ls-files", "fedvssl", "conf"], cwd=ROOT, capture_output=True, text=True).stdout
    there = {name for name in listed.split() if (ROOT / name).is_file() and name != "fedvssl/py.typed"}  # for editors
    assert there <= names, "a file that the package reads would be missing on the nodes"
    assert {name.split("/")[0] for name in names} == {"fedvssl", "conf", "LICENSE", "pyproject.toml"}
    assert {"fedvssl/references.md", "fedvssl/reporting/style.py", "conf/base.yaml"} <= names


def test_the_apps_are_where_the_project_says():
    from fedvssl import apps

    for kind, place in PROJECT["tool"]["flwr"]["app"]["components"].items():
        module, _, name = place.partition(":")
        assert module == "fedvssl.apps" and type(getattr(apps, name)).__name__.lower() == kind
    assert json.dumps([*PROJECT["tool"]["flwr"]["app"]["config"]]) == '["overrides", "run-name"]'
