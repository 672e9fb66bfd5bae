"""scripts/deploy: certificates that TLS accepts, mistakes in one sentence, services and images of names that exist."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fedvssl.submission import read_settings
from scripts.deploy.walk import blocks, walk
from tests.federation import ROOT

DEPLOY = ROOT / "scripts/deploy"
STARTED = [DEPLOY / f"{name}.sh" for name in ("certificates", "superlink", "supernode")]
SERVICES = sorted(DEPLOY.glob("*.service"))


def run(script: str, *words: str, cwd: Path, python: object = sys.executable) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": str(python), "PYTHONPATH": str(ROOT)}
    command = ["bash", str(DEPLOY / script), *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def write_programs(folder: Path) -> None:
    """A `python` which runs scripts and has all packages, and beside it a `flower-superlink` that tells its words."""
    python = f'[ "$1" = -c ] || exec {sys.executable} "$@"'
    for name, line in {"python": python, "flower-superlink": 'echo "$@"'}.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o700)


def is_valid(own: Path, *name: str) -> bool:
    """True if TLS would take the server's certificate for this name or address."""
    files = ["-CAfile", str(own / "ca.crt"), str(own / "server.pem")]
    return subprocess.run(["openssl", "verify", "-x509_strict", *name, *files], capture_output=True).returncode == 0


def test_the_certificate_is_for_all_names_and_signed_by_its_authority(tmp_path: Path) -> None:
    words = ("--out_dir", "own", "--host", "server.example.org,10.0.0.5")
    assert run("certificates.sh", *words, cwd=tmp_path).returncode == 0
    own = tmp_path / "own"
    assert is_valid(own, "-verify_hostname", "server.example.org") and is_valid(own, "-verify_ip", "10.0.0.5")
    assert is_valid(own, "-verify_hostname", "localhost") and is_valid(own, "-verify_ip", "127.0.0.1"), (
        "to submit there"
    )
    assert not is_valid(own, "-verify_hostname", "other.org") and not is_valid(own, "-verify_ip", "10.0.0.6")
    assert all(path.stat().st_mode & 0o077 == 0 for path in own.glob("*.key"))
    before = (own / "ca.crt").read_bytes()
    again = run("certificates.sh", *words, cwd=tmp_path)
    assert again.returncode == 2 and "has an authority already" in again.stderr
    assert (own / "ca.crt").read_bytes() == before


@pytest.mark.parametrize(
    ("script", "words", "sentence"),
    [
        ("certificates.sh", "--host a", "give --out_dir"),
        ("certificates.sh", "--out_dir a --host a;b", "a;b is no name"),
        ("certificates.sh", "--out_dir a --host a --days x", "--days x must be a whole number"),
        ("certificates.sh", "--name a", "unknown option --name"),
        ("certificates.sh", "--out_dir a --host *", "* is no name"),
        ("superlink.sh", "--work_dir a", "give --work_dir"),
        ("superlink.sh", "--work_dir a --certificates b", "no ca.crt in "),
        ("superlink.sh", "--work_dir a --certificates b --port x", "--port x must be a number"),
        ("supernode.sh", "--client 1", "give --state_dir"),
        ("supernode.sh", "--state_dir", "--state_dir needs a value"),
        ("supernode.sh", "--state_dir a --key_only true", "--key_only true must be yes or no"),
        ("supernode.sh", "--trust all", "unknown option --trust"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(script: str, words: str, sentence: str, tmp_path: Path) -> None:
    done = run(script, *words.split(), cwd=tmp_path)
    assert done.returncode == 2 and sentence in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_openssl_refuses_is_told_and_can_be_mended(tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()  # which a pattern would find
    done = run("certificates.sh", "--out_dir", "own", "--host", "999.0.0.1", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: openssl makes no certificate for 999.0.0.1: ")
    assert done.stderr.count("\n") == 1 and not list((tmp_path / "own").iterdir())
    long = f"{'a' * 60}.example.org"
    assert run("certificates.sh", "--out_dir", "own", "--host", long, cwd=tmp_path).returncode == 0
    assert is_valid(tmp_path / "own", "-verify_hostname", long)
    (tmp_path / "own/ca.key").unlink()  # kept elsewhere
    assert "has an authority already" in run("certificates.sh", "--out_dir", "own", "--host", "a", cwd=tmp_path).stderr


@pytest.mark.parametrize(("host", "near"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("fe80::1", "[fe80::1]")])
def test_the_superlink_writes_where_it_is_found_whatever_its_folder_is_called(host, near, tmp_path: Path) -> None:
    own = tmp_path / 'my "own" \\ certificates'
    own.mkdir()
    for name in ("ca.crt", "server.pem", "server.key"):
        (own / name).touch()
    write_programs(tmp_path)
    words = ("--work_dir", "work", "--certificates", str(own), "--host", host)
    done = run("superlink.sh", *words, cwd=tmp_path, python=tmp_path / "python")
    assert done.returncode == 0 and f"--ssl-keyfile {own}/server.key" in done.stdout
    told = tomllib.loads((tmp_path / "work/flwr/config.toml").read_text())["superlink"]
    assert told == {"default": "here", "here": {"address": f"{near}:8000", "root-certificates": f"{own}/ca.crt"}}


def test_a_start_leaves_what_somebody_wrote_into_the_configuration(tmp_path: Path) -> None:
    """The same place changes nothing, another port its own line; what cannot be changed stops the start."""
    write_programs(tmp_path)
    for name in ("ca.crt", "server.pem", "server.key"):
        (tmp_path / name).touch()
    words = ("superlink.sh", "--work_dir", ".", "--certificates", ".")
    file = tmp_path / "flwr/config.toml"

    def start(*others: str) -> subprocess.CompletedProcess[str]:
        return run(*words, *others, cwd=tmp_path, python=tmp_path / "python")

    assert "config.toml" not in start().stdout
    own = file.read_text().replace('"here"', '"far"')
    own += 'federation = "@me/f"\n[superlink.far]\naddress = "far:1" # mine\n'
    file.write_text(own)
    assert "config.toml" not in start().stdout and file.read_text() == own
    assert "address of [superlink.here] was 127.0.0.1:8000, is now 127.0.0.1:9000." in start("--port", "9000").stdout
    assert file.read_text() == own.replace("127.0.0.1:8000", "127.0.0.1:9000")
    own = '[superlink]\ndefault = "local"\n'
    file.rename(tmp_path / "linked.toml")
    file.symlink_to(tmp_path / "linked.toml")
    file.write_text(own)
    file.chmod(0o640)
    told = start().stdout
    assert "[superlink.here] was added" in told and "`fedvssl submit` take local unless they are told `here`" in told
    assert file.is_symlink() and file.stat().st_mode & 0o777 == 0o640
    assert file.read_text().startswith(own + '\n[superlink.here]\naddress = "127.0.0.1:8000"\n')
    unusual = '[superlink]\ndefault = "here"\n  [superlink.here]\n  address = "a"\n\n  [superlink.b]'
    file.write_text(unusual)
    assert start().returncode == 0 and tomllib.loads(file.read_text())["superlink"]["here"]["address"].endswith(":8000")
    file.write_text("[superlink.here]")
    assert start().returncode == 0 and "127.0.0.1:8000" in file.read_text()
    refused = {"a = ": "cannot be read as TOML", "superlink.here = {}\n": "only you can change"}
    refused |= {"[superlink]\nhere = 1\n": "none of Flower", "\xff": "no text in UTF-8"}
    for text, sentence in refused.items():
        file.write_text(text, encoding="latin-1")
        done = start()
        assert done.returncode == 2 and sentence in done.stderr and done.stderr.count("\n") == 1 and not done.stdout
        assert file.read_text(encoding="latin-1") == text


def test_a_node_makes_its_key_once(tmp_path: Path) -> None:
    words = ("--state_dir", "state", "--key_only", "yes")
    assert run("supernode.sh", *words, cwd=tmp_path).stdout == f"{tmp_path}/state/node.key.pub\n"
    key = (tmp_path / "state/node.key").read_bytes()
    assert run("supernode.sh", *words, cwd=tmp_path).returncode == 0
    assert (tmp_path / "state/node.key").read_bytes() == key
    assert (tmp_path / "state/node.key").stat().st_mode & 0o077 == 0
    done = run("supernode.sh", "--state_dir", "state", "--superlink", "a:1", cwd=tmp_path)
    assert done.returncode == 2 and "give --ca" in done.stderr


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.stem)
def test_a_service_starts_again_for_ever_and_later_than_the_server_forgets_it(service: Path) -> None:
    text = service.read_text(encoding="utf-8")
    told = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    assert told["Restart"] == "always" and int(told["RestartSec"]) >= 15 and told["StartLimitIntervalSec"] == "0"
    assert int(told["TasksMax"]) <= 1000 and told["User"] != "root"
    (place,) = re.findall(r"--(?:work|state)_dir (\S+)", told["ExecStart"])
    assert told["ProtectSystem"] == "strict" and place == f"/var/lib/{told['StateDirectory']}"
    (script,) = re.findall(r"/opt/fedvssl/(scripts/\S+)", told["ExecStart"])
    known = (ROOT / script).read_text(encoding="utf-8")
    assert all(f"{option}|" in known or f"{option})" in known for option in re.findall(r" (--\w+)", told["ExecStart"]))
    variables = {*re.findall(r"\$\{(\w+)\}", told["ExecStart"])}
    assert variables == {*re.findall(r"^#   (\w+)=", text, re.MULTILINE)}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    paths = [shutil.copy(path, tmp_path) for path in SERVICES]
    done = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_the_images_start_the_scripts_without_ray() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert {*re.findall(r"^FROM .* AS (\w+)$", text, re.MULTILINE)} == {"base", "superlink", "supernode"}
    for script in re.findall(r"scripts/deploy/\w+\.sh", text):
        assert (ROOT / script).is_file()
    assert "USER 1000" in text and '-e ".${EXTRAS}"' in text and "[ray]" not in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extras in re.findall(r"EXTRAS=\[(.+?)\]", text):  # of the commands in its comments
        assert {*extras.split(",")} <= {*project["optional-dependencies"]}
    assert re.search(r'^ARG EXTRAS=""$', text, re.MULTILINE), "an image has no extra unless it is asked for"


def test_a_walk_runs_blocks_in_one_shell_and_stops_at_the_first_fault(tmp_path: Path, capfd) -> None:
    page = "```bash\na=3\nsleep 1000 &\n```\ntext\n```bash\necho $a > $HOME/b; pwd\n```\n```\nno bash\n```\n"
    assert blocks(page) == ["a=3\nsleep 1000 &\n", "echo $a > $HOME/b; pwd\n"]
    assert walk(blocks(page), tmp_path) == 0 and (tmp_path / "b").read_text() == "3\n"
    assert f"{ROOT}\n== block 2: " in capfd.readouterr().out
    assert walk(["true\n", "false\ntouch $HOME/c\n", "touch $HOME/c\n"], tmp_path) == 1
    assert not (tmp_path / "c").exists()
    assert "== block 2: " in capfd.readouterr().out


def test_the_page_names_options_and_settings_that_exist() -> None:
    page = "\n".join(blocks((ROOT / "docs/deployment.md").read_text(encoding="utf-8")))
    scripts = re.findall(r"(scripts/deploy/\w+\.sh)((?:[^\n]|\\\n)*)", page)
    assert {script for script, _ in scripts} == {f"scripts/deploy/{path.name}" for path in STARTED}
    for script, words in scripts:
        known = (ROOT / script).read_text(encoding="utf-8")
        assert all(f"{option}|" in known or f"{option})" in known for option in re.findall(r" (--\w+)", words)), words
    submitted = re.findall(r"fedvssl\.submit (run-name=\w+) (.*)", page)
    assert len(submitted) == 2 and {name for name, _ in submitted} == {"run-name=first"}
    assert [read_settings(words)["rounds"] for _, words in submitted] == [1, 2]
