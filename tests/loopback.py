"""A real federation on this machine: SuperLink and SuperNodes as processes of their own, on free ports of loopback."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.federation import ROOT

BIN = Path(sys.executable).parent
PATIENCE = 240.0  # seconds for what takes a few on an idle machine


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_until(true: Callable[[], object], *, what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.5)


class Federation:
    """SuperLink, nodes, and submissions. All that was started ends with the block.

    Args:
        folder: for all that is written; the runs are in outputs/ below it.
        data_dir: as `tests.federation.write_clients` makes it; every node gets its own list and videos out of it.
    """

    def __init__(self, folder: Path, data_dir: Path) -> None:
        self.folder, self.data_dir, self.port = folder, data_dir, free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.secure: list[str] = ["--insecure"]  # of the SuperLink
        self.trust: list[str] = ["--insecure"]  # of the nodes
        self.connection = "insecure = true"
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("FLWR_", "FEDVSSL_"))},
            **{"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "OMP_NUM_THREADS": "1"},
            **{"FLWR_HOME": str(folder / "flwr"), "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        }

    def __enter__(self) -> "Federation":
        return self

    def __exit__(self, *_: object) -> None:
        for name in [*self.processes]:
            self.end(name)

    def start_superlink(self) -> None:
        home = self.folder / "flwr"
        home.mkdir(exist_ok=True)
        lines = ["[superlink]", 'default = "here"', "[superlink.here]", f'address = "127.0.0.1:{self.port}"']
        (home / "config.toml").write_text("\n".join([*lines, self.connection, ""]))
        words = ["--host", "127.0.0.1", "--port", str(self.port), "--database", str(self.folder / "state.db")]
        self.start("superlink", ["flower-superlink", *words, *self.secure, "--disable-runtime-dependency-installation"])
        wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", self.port)) == 0, what="the SuperLink answers")

    def own_folder(self, number: int) -> Path:
        """Folder of a client with its own list and its own videos only."""
        own, source = self.folder / f"node{number}", self.data_dir / "ucf101"
        if not own.is_dir():
            shutil.copytree(source / f"zips/Class{number - 1}", own / f"media/Class{number - 1}")
            shutil.copy(source / f"annotations/client_distribution/client_dist{number}.json", own / "list.json")
        return own

    def start_node(self, number: int, *more: str, name: str = "") -> str:
        """Start the SuperNode of a client; returns the name of its log."""
        own, name = self.own_folder(number), name or f"node{number}"
        told = f'partition-id={number - 1} owner="Owner {number}" device="cpu" num-workers=0 '
        told += f'media-dir="{own / "media"}" list="{own / "list.json"}" state-dir="{own / "state"}"'
        place = ["--superlink", f"127.0.0.1:{self.port}", "--port", str(free_port())]
        self.start(name, ["flower-supernode", *place, *self.trust, *more, "--node-config", told])
        return name

    def start(self, name: str, command: Sequence[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            options = {"cwd": self.folder, "env": self.env, "stdout": log, "stderr": log, "start_new_session": True}
            self.processes[name] = subprocess.Popen(command, **options)

    def end(self, name: str, number: int = signal.SIGTERM) -> None:
        """End a process and all of its session."""
        process = self.processes.pop(name)
        if process.poll() is None:
            os.killpg(process.pid, number)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def submit(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`fedvssl submit`, to its end."""
        return subprocess.run(self.submission(*words), cwd=self.folder, env=self.env, capture_output=True, text=True)

    def submission(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "fedvssl.submit", *words]

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def run_dir(self, name: str) -> Path:
        return self.folder / "outputs" / name

    def runs(self) -> list[dict[str, str]]:
        """All submissions, as `flwr ls` knows them."""
        shown = subprocess.run(
            ["flwr", "ls", "here", "--format", "json"], cwd=self.folder, env=self.env, capture_output=True, text=True
        )
        return json.loads(shown.stdout)["runs"]
