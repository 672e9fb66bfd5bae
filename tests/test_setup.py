"""What an installation is made of: versions, the script that makes .venv, the container; nothing is downloaded."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LINES = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
NEEDED = [need for need in map(Requirement, LINES) if need.name != PROJECT["name"]]
SCRIPTS = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci" / "run"]
# Beyond bash 3.2, which is that of macOS: arrays of names, lower and upper case, reading of lines into an array ...
NEW_BASH = re.compile(r"\b(mapfile|readarray|coproc)\b|\b(declare|local) -\w*[An]|\$\{\w+(,|\^)|&>>|\|&|;;&|\bwait -n")
PYTHON = """#!/usr/bin/env bash
[ "$*" != "-m pip --version" ] && [ "$2" = pip ] || exit 0
echo "$*" >> pip.log
exit "$(cat code)"
"""


def versions(name: str) -> dict[str, str]:
    """Package -> its version, of a list that has nothing but names and versions."""
    lines = [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in lines)
    found = {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in lines}
    assert len(found) == len(lines)
    return found


@pytest.mark.parametrize("need", NEEDED, ids=str)
def test_every_requirement_has_a_version_that_fits_and_its_lower_bound_is_one_that_was_tried(need: Requirement) -> None:
    name, (bound,) = canonicalize_name(need.name), [part.version for part in need.specifier if part.operator == ">="]
    assert need.specifier.contains(versions("constraints.txt")[name])
    assert bound == versions("constraints-oldest.txt")[name]


def test_what_was_tried_is_what_is_required() -> None:
    assert versions("constraints-oldest.txt").keys() == {canonicalize_name(need.name) for need in NEEDED}
    assert not [name for name in versions("constraints.txt") if name.startswith(("nvidia", "cuda", "triton"))]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the two lists and an environment whose pip only writes down what it is asked for."""
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("one\n")
    (tmp_path / "code").write_text("0")
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def set_up(folder: Path, extra: str) -> subprocess.CompletedProcess:
    words = ["bash", "-euc", f'source "{ROOT}/scripts/setup_environment.sh" "{extra}"; echo "made $PYTHON"']
    environment = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_environment_gets_known_versions_once_for_each_list(clone: Path) -> None:
    first, second = set_up(clone, "dev"), set_up(clone, "dev")
    assert first.stdout.endswith(f"made {clone}/.venv/bin/python\n") and "Setting up" in first.stdout
    assert second.stdout == f"made {clone}/.venv/bin/python\n", "at once"
    (asked,) = (clone / "pip.log").read_text().splitlines()
    assert " -c constraints.txt -e .[dev]" in asked
    (clone / "constraints.txt").write_text("two\n")
    assert "Setting up" in set_up(clone, "dev").stdout and "Setting up" in set_up(clone, "").stdout
    assert (clone / "pip.log").read_text().splitlines()[2].endswith("-e .[ray]")


def test_a_failed_installation_is_told_and_made_again(clone: Path) -> None:
    (clone / "code").write_text("1")
    for _ in range(2):
        failed = set_up(clone, "")
        assert failed.returncode == 2 and "made" not in failed.stdout
        assert failed.stderr.startswith("error: pip could not install the packages")
    (clone / "code").write_text("0")
    assert set_up(clone, "").returncode == 0


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_keep_to_the_bash_of_macos(script: Path) -> None:
    assert not NEW_BASH.search(script.read_text(encoding="utf-8"))
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    assert (
        NEW_BASH.search('mapfile -t lines < "$file"') and NEW_BASH.search("${name,,}") and not NEW_BASH.search("${a-b}")
    )


def test_the_container_names_what_there_is() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    known = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "ENTRYPOINT", "CMD"}
    assert {word for word, _ in lines} <= known and lines[0][0] == "FROM"
    stages = {rest.partition(" AS ")[2] for word, rest in lines if word == "FROM"}
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    build = container["build"]
    assert (ROOT / ".devcontainer" / build["dockerfile"]).samefile(ROOT / "Dockerfile") and build["target"] in stages
    for script in re.findall(r"scripts/\w+\.sh", text + container["postCreateCommand"]):
        assert (ROOT / script).is_file()
    (entry,) = [json.loads(rest) for word, rest in lines if word == "ENTRYPOINT"]
    assert entry[0] in PROJECT["scripts"]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".venv", "data", "outputs"} <= {*ignored}, "gigabytes, and videos that are nobody else's"
