"""What a run records of its machine: the facts, one entry for each machine, nothing that could end a run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import fedvssl
from fedvssl.files import environment as module
from fedvssl.files.environment import (
    environment,
    free_bytes,
    gpus,
    machine,
    num_cores,
    read_environment,
    record_environment,
    revision,
)


def entries(folder: Path) -> list[dict]:
    return json.loads((folder / "environment.json").read_text())


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


def fake_nvidia_smi(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_describes_the_machine_and_the_versions() -> None:
    facts = environment()
    assert facts["processor"] and facts["cores"] >= 1 and facts["memory_bytes"] > 1e8
    assert facts["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert facts["versions"]["fedvssl"] == fedvssl.__version__ and {"torch", "flwr", "ray"} <= facts["versions"].keys()
    json.dumps(facts)


def test_a_run_that_goes_on_elsewhere_has_an_entry_for_each_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_environment(tmp_path)
    record_environment(tmp_path, done=3)  # the same machine
    assert [entry["done"] for entry in entries(tmp_path)] == [0]
    monkeypatch.setattr(module, "processor", lambda: "another")
    record_environment(tmp_path, done=5)
    assert [(entry["done"], entry["processor"] == "another") for entry in entries(tmp_path)] == [(0, False), (5, True)]


def test_a_start_that_has_finished_nothing_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_environment(tmp_path)
    monkeypatch.setattr(module, "processor", lambda: "another")
    record_environment(tmp_path)
    assert [entry["processor"] for entry in entries(tmp_path)] == ["another"]


@pytest.mark.parametrize("content", ["{", "[1]", '{"done": 0}', '[{"done": "x"}]', "null"])
def test_an_unreadable_file_is_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "environment.json").write_text(content)
    assert read_environment(tmp_path / "environment.json") == []
    record_environment(tmp_path, done=2)
    assert [entry["done"] for entry in entries(tmp_path)] == [2]


def test_gpus_are_those_that_the_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = "printf 'NVIDIA H200, 143771 MiB, 570.86\\nNVIDIA T4, 15360 MiB, 570.86\\n'"
    fake_nvidia_smi(
        tmp_path, f'case "$*" in *--id=1*) {both} | tail -n 1;; *--id=*) exit 6;; *) {both};; esac', monkeypatch
    )
    h200, t4 = "NVIDIA H200, 143771 MiB, driver 570.86", "NVIDIA T4, 15360 MiB, driver 570.86"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus() == [h200, t4]
    for visible, expected in {"1": [t4], "": [], "-1": [], "MIG-6a3f": [h200, t4]}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert gpus() == expected


def test_no_gpus_without_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    fake_nvidia_smi(tmp_path, "echo 'NVIDIA-SMI has failed'; exit 9", monkeypatch)
    assert gpus() == []
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert gpus() == []


def test_revision_is_that_of_a_checkout_only(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert revision(package) is None
    git(tmp_path, "init")
    assert revision(package) is None  # not a file of this checkout, as in a .venv
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    clean = revision(package)
    assert clean and len(clean) == 12
    (package / "__init__.py").write_text("changed = True\n")
    assert revision(package) == f"{clean}-dirty"


def test_one_line_about_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "processor", lambda: "Zen")
    monkeypatch.setattr(module, "num_cores", lambda: 2)
    monkeypatch.setattr(module, "gpus", lambda: [])
    assert machine("32-true") == f"Zen, 2 cores, no GPU, 32-true, torch {environment()['versions']['torch']}"
    monkeypatch.setattr(module, "gpus", lambda: ["A, driver 1", "B, driver 1"])
    assert "A, driver 1; B, driver 1" in machine("32-true")


def test_cores_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda pid: {1, 5, 6}, raising=False)
    assert num_cores() == 3 and environment()["cores"] == 3


def test_the_space_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") == pytest.approx(free_bytes(tmp_path), rel=0.1)
