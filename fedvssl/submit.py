"""Submit a run to Flower's SuperLink, show its log, and end with its outcome.

    fedvssl submit run-name=first experiment=small rounds=3            on the default connection
    fedvssl submit hospital run-name=first experiment=small rounds=3   on [superlink.hospital] of ~/.flwr/config.toml
    fedvssl submit local run-name=first experiment=small data_dir=data in Flower's simulation on this machine

The settings are those of fedvssl.main, without what each node's owner decides. The same run-name again continues a run.
The code of this checkout travels with the submission. Ctrl-C leaves the run alone and says how to stop it.
Exit code 0: all rounds are done; 1: the run has failed or was stopped; 2: a mistake, nothing was submitted.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fedvssl.files.ending import end_code, failed, interruptible
from fedvssl.files.environment import gpus, num_cores
from fedvssl.files.names import check_name
from fedvssl.places import conf_dir
from fedvssl.submission import read_settings, refuse_elsewhere

NAME = "run-name"
RESULTS = re.compile(r"Results in (/.+)")  # line of the server
LOCAL = ":local"  # how the address of Flower's simulation begins
PLACES = ("data_dir", "partition_dir", "init", "data.media_dir", "data.annotation_dir")  # made absolute for it
POLL_SECONDS = 3.0  # of asking for the outcome
PATIENCE = 180.0  # seconds for a SuperLink that does not answer, and may be started again
QUIET = {
    **dict.fromkeys(("FLWR_TELEMETRY_ENABLED", "RAY_USAGE_STATS_ENABLED"), "0"),
    **dict.fromkeys(("FLWR_DISABLE_UPDATE_CHECK", "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"), "1"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or {"-h", "--help"} & {*words}:
        print((__doc__ or "").strip())
        return
    try:
        connection, run_name, settings = read_words(words)
        with interruptible():
            sys.exit(submit(connection, run_name, settings))
    except ValueError as error:
        sys.exit(failed(error, code=2))
    except KeyboardInterrupt as error:
        sys.exit(end_code(error))


def read_words(words: Sequence[str]) -> tuple[str | None, str, list[str]]:
    """Connection (None: the default one), name of the run, and settings.

    Raises:
        ValueError: for a mistake.
    """
    connection, *rest = words if "=" not in words[0] and not words[0].startswith("-") else [None, *words]
    names = [word for word in rest if word.removeprefix("--").startswith(f"{NAME}=")]
    if len(names) != 1:
        raise ValueError(f"Name the run once: {NAME}=<folder of its results>; the same name again continues it.")
    run_name = check_name(names[0].partition("=")[2], where=NAME)
    return connection, run_name, [word for word in rest if word not in names]


def submit(connection: str | None, run_name: str, settings: Sequence[str]) -> int:
    """Submit a run, show its log, and return the exit code of its outcome.

    Raises:
        ValueError: for a mistake in the settings, or a connection that is unknown.
    """
    name, address = find_connection(connection)
    if address.startswith(LOCAL):
        settings = [absolute(word) for word in settings]
    else:
        refuse_elsewhere([word.removeprefix("--") for word in settings], ["partition_dir"])
    overrides = shlex.join(settings)
    config, more = read_settings(overrides), []
    if address.startswith(LOCAL):
        more = ["--federation-config", simulation(config["pool_size"], **config["client_resources"])]
    with TemporaryDirectory(prefix="fedvssl-") as folder:
        told = Path(folder, "run.toml")
        texts = {"overrides": overrides, NAME: run_name}
        told.write_text(
            "".join(f"{key} = {json.dumps(text, ensure_ascii=False)}\n" for key, text in texts.items()),
            encoding="utf-8",
        )
        started = flwr("run", str(checkout()), name, "--run-config", str(told), *more, "--format", "json")
    run_id = read_json(started).get("run-id")
    if not run_id:
        return failed(f"Nothing was submitted: {why(started)}", code=1)
    print(f"Run {run_id} on {name}", flush=True)
    try:
        results = follow(run_id, name)
        status, details = outcome(run_id, name)
    except KeyboardInterrupt:
        print(f"\nThe run goes on. To see it: flwr log {run_id} {name}    To end it: flwr stop {run_id} {name}")
        raise
    where = f" Results on the SuperLink's machine: {results}" if results else ""
    if status == "finished:completed":
        print(f"Done.{where}")
        return 0
    return failed(f"The run has ended as '{status}'. {details}{where}".replace("  ", " "), code=1)


def checkout() -> Path:
    """Folder whose code travels.

    Raises:
        ValueError: if this is an installed package.
    """
    folder = conf_dir().parent
    if not (folder / "pyproject.toml").is_file():
        raise ValueError(
            "The code that travels to the nodes is that of a checkout: clone the repository, submit there."
        )
    return folder


def find_connection(name: str | None) -> tuple[str, str]:
    """Name and address of a connection in Flower's config.toml; Flower writes it with "local" when it is missing.

    Raises:
        ValueError: if it has none of this name.
    """
    path = Path(os.environ.get("FLWR_HOME", "~/.flwr")).expanduser() / "config.toml"
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as TOML: mend it.") from error
    connections: Any = told.get("superlink", {"default": "local", "local": {"address": LOCAL}})
    if not isinstance(connections, dict):
        raise ValueError(f"{path} has no section [superlink]: mend it.")
    name = name or str(connections.get("default", "local"))
    if not isinstance(connections.get(name), dict):
        known = ", ".join(key for key, value in connections.items() if isinstance(value, dict))
        raise ValueError(f"{path} has no connection [superlink.{name}]: add it, or name one of: {known}.")
    return name, str(connections[name].get("address", ""))


def absolute(word: str) -> str:
    """A setting that names a place on this machine, with an absolute path."""
    key, equals, value = word.partition("=")
    is_place = key.removeprefix("--") in PLACES and equals and value not in ("", "null") and "${" not in value
    return f"{key}={Path(value).expanduser().absolute()}" if is_place else word


def simulation(num_clients: int, *, num_cpus: float, num_gpus: float) -> str:
    """Settings of Flower's simulation: all clients of the run, and what each takes of this machine."""
    words = {
        "num-supernodes": num_clients,
        "client-resources-num-cpus": int(min(num_cpus, num_cores())),
        "client-resources-num-gpus": float(num_gpus if gpus() else 0),
    }
    return " ".join(f"{key}={value}" for key, value in words.items())


def flwr(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run Flower's command line, which finds its programs beside this Python, and sends nothing home."""
    return subprocess.run(command(words), env=environment(), capture_output=True, text=True, **options)


def command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "flwr.cli.app", *words]


def environment() -> dict[str, str]:
    """This environment, without telemetry and update check unless it asks for them."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**QUIET, **os.environ, "PATH": path}


def follow(run_id: str, connection: str) -> str:
    """Show the log of a run to its end; return the folder of the results, "" if the log does not name it."""
    results = ""
    words = command(["log", run_id, connection, "--stream"])
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True) as log:
        assert log.stdout is not None, "a pipe"
        try:
            for line in log.stdout:
                print(line, end="", flush=True)
                results = found[1].strip() if (found := RESULTS.search(line)) else results
        except BaseException:
            log.kill()
            raise
    return results


def outcome(run_id: str, connection: str) -> tuple[str, str]:
    """Status and its details when the run has finished, however the log ended."""
    answered = time.monotonic()
    while time.monotonic() < answered + PATIENCE:
        asked = flwr("ls", connection, "--run-id", run_id, "--format", "json")
        runs = read_json(asked).get("runs") or [{}]
        status, details = str(runs[0].get("status", "")), " ".join(str(runs[0].get("status-details") or "").split())
        if status.startswith("finished"):
            return status, details
        answered = time.monotonic() if status else answered
        time.sleep(POLL_SECONDS)
    return "unknown", "The SuperLink does not answer any more."


def read_json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The object that Flower has printed; {} if there is none."""
    try:
        told = json.loads(done.stdout[done.stdout.index("{") :])
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def why(done: subprocess.CompletedProcess[str]) -> str:
    """Flower's reason in one line."""
    told = read_json(done).get("error-message") or done.stderr or done.stdout
    return " ".join(re.sub(r"[\u2500-\u257f]", " ", str(told)).split())


if __name__ == "__main__":
    main()
