"""A real federation on this machine: SuperLink and SuperNodes as processes of their own, on free ports of loopback."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.federation import ROOT

BIN = Path(sys.executable).parent
DEPLOY = ROOT / "scripts/deploy"
SUBMIT = [sys.executable, "-m", "fedvssl.submit"]
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
        folder: for all that is written; the runs are in server/outputs/ below it.
        data_dir: as `tests.federation.write_clients` makes it; every node gets its own list and videos out of it.
        secure: TLS and node keys, with the scripts of scripts/deploy; False runs Flower's programs by themselves.
    """

    def __init__(self, folder: Path, data_dir: Path, *, secure: bool) -> None:
        self.folder, self.data_dir, self.is_secure, self.port = folder, data_dir, secure, free_port()
        self.server = folder / "server"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("FLWR_", "FEDVSSL_"))},
            **{"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "OMP_NUM_THREADS": "1"},
            **{"FLWR_HOME": str(self.server / "flwr"), "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)},
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }

    def __enter__(self) -> "Federation":
        self.server.mkdir(parents=True)
        if self.is_secure:
            self.certificates("certificates")
        return self

    def __exit__(self, *_: object) -> None:
        for name in [*self.processes]:
            self.end(name)

    def certificates(self, name: str) -> None:
        words = ["--out_dir", str(self.folder / name), "--host", "localhost,127.0.0.1"]
        subprocess.run(["bash", str(DEPLOY / "certificates.sh"), *words], check=True, stdout=subprocess.DEVNULL)

    def start_superlink(self) -> None:
        place = ["--host", "127.0.0.1", "--port", str(self.port)]
        if self.is_secure:
            words = ["--work_dir", str(self.server), "--certificates", str(self.folder / "certificates"), *place]
            self.start("superlink", ["bash", str(DEPLOY / "superlink.sh"), *words])
        else:
            (self.server / "flwr").mkdir(exist_ok=True)
            lines = ["[superlink]", 'default = "here"', "[superlink.here]", f'address = "127.0.0.1:{self.port}"']
            (self.server / "flwr/config.toml").write_text("\n".join([*lines, "insecure = true", ""]))
            words = ["--insecure", *place, "--disable-runtime-dependency-installation"]
            self.start("superlink", ["flower-superlink", *words])
        wait_until(self.is_up, what="the SuperLink answers")

    def is_up(self) -> bool:
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", self.port)) == 0

    def own_folder(self, number: int) -> Path:
        """Folder of a client with its own list and its own videos only."""
        own, source = self.folder / f"node{number}", self.data_dir / "ucf101"
        if not own.is_dir():
            shutil.copytree(source / f"zips/Class{number - 1}", own / f"media/Class{number - 1}")
            shutil.copy(source / f"annotations/client_distribution/client_dist{number}.json", own / "list.json")
        return own

    def register(self, number: int) -> None:
        """Make the key of a node, and register it."""
        own = self.own_folder(number) / "state"
        key = ["bash", str(DEPLOY / "supernode.sh"), "--state_dir", str(own), "--key_only", "yes"]
        subprocess.run(key, check=True, stdout=subprocess.DEVNULL)
        command = ["flwr", "supernode", "register", str(own / "node.key.pub")]
        subprocess.run(command, env=self.env, cwd=self.server, check=True, stdout=subprocess.DEVNULL)

    def start_node(self, number: int, *more: str, ca: str = "certificates") -> None:
        """Start the SuperNode of a client, with further words of the command; its log is node<number>.log."""
        own, port = self.own_folder(number), str(free_port())
        told = {"client": str(number), "owner": f"Owner {number}", "media_dir": str(own / "media")}
        told |= {"list": str(own / "list.json"), "state_dir": str(own / "state"), "device": "cpu"}
        words = ["--superlink", f"127.0.0.1:{self.port}", "--port", port, *more]
        if self.is_secure:
            words += ["--ca", str(self.folder / ca / "ca.crt")]
            words += [word for name, value in told.items() for word in (f"--{name}", value)]
            self.start(f"node{number}", ["bash", str(DEPLOY / "supernode.sh"), *words])
        else:
            del told["client"]
            texts = " ".join(f"{name.replace('_', '-')}='{value}'" for name, value in told.items())
            words += ["--insecure", "--node-config", f"partition-id={number - 1} {texts}"]
            self.start(f"node{number}", ["flower-supernode", *words])

    def start(self, name: str, command: Sequence[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=self.server, env=self.env, stdout=log, stderr=log, start_new_session=True
            )

    def end(self, name: str, number: int = signal.SIGTERM) -> None:
        """End a process and all of its session, which Flower's further processes belong to."""
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def submit(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`fedvssl submit`, to its end."""
        return subprocess.run([*SUBMIT, *words], cwd=self.server, env=self.env, capture_output=True, text=True)

    def start_submission(self, *words: str) -> None:
        """`fedvssl submit`; its output is submission.log."""
        self.start("submission", [*SUBMIT, *words])

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.is_file() else ""

    def wait_for(self, text: str, *, log: str, seconds: float = PATIENCE) -> None:
        wait_until(
            lambda: text in self.log(log), what=f"'{text}' in {log}.log:\n{self.log(log)[-2000:]}", seconds=seconds
        )

    def run_dir(self, name: str) -> Path:
        return self.server / "outputs" / name
