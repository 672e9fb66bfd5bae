"""A long run with clients that fail at random: its memory, files, sockets and processes must stay as they are.

    python -m benchmarks.soak --engine local
    python -m benchmarks.soak --engine simulation --rounds 40

A tiny net and 20 clients of two small videos. Each client fails in a tenth of its rounds; in the simulation one in 50
rounds of a client also kills its process. The command of the run is a process of its own, which is looked at from
outside, with all that it has started. Prints the rows of the table of docs/reliability.md.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_tools.synthetic import MOTIONS, make_video, write_video
from fedvssl.data.annotations import Annotation, write_annotations
from fedvssl.files.run_log import METRICS_FILE, read_records
from fedvssl.tasks.ctp import CtP

SETTINGS = (
    *("model.depth=10", "model.width=4", "task.module.hidden_channels=16", "task.sample.short_sides=[32,36]"),
    *("task.sample.crop_size=32", "task.sample.patches.scales=[6,8,10]", "training.num_workers=0"),
    *("training.precision=32-true", "client_resources={num_gpus: 0, num_cpus: 1}", "keep_last=3"),
    *("task.module._target_=benchmarks.soak.Unreliable", "strategy.min_fit_clients=5"),
)
KILLS = 0.02  # share of a client's rounds in which its process is killed, where it has one
SECONDS = 1.0  # between two looks
QUANTITIES = ("memory, MB", "open files", "sockets", "processes", "files of the run")


class Unreliable(CtP):
    """Catch-the-Patch that fails in some rounds, which the seed of its client and round decides.

    Args:
        backbone: as for `CtP`.
        failing, killing: shares of the rounds in which it raises, or its process is killed.
        ctp: settings of `CtP`.
    """

    def __init__(self, backbone: Any, *, failing: float, killing: float, **ctp: Any) -> None:
        super().__init__(backbone, **ctp)
        self.limits, self.seed_at_build = (killing, killing + failing), torch.initial_seed()

    def forward(self, batch: Any) -> Any:
        seed = torch.initial_seed()
        draw = np.random.default_rng(seed).random()
        if seed != self.seed_at_build and draw < self.limits[1]:  # not in the step before the run
            if draw < self.limits[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("told to fail")
        return super().forward(batch)


def write_data(folder: Path, *, num_clients: int) -> None:
    """Videos and lists of clients below a folder."""
    for client in range(num_clients):
        own = [Annotation(f"Class/v{client}_{number}", 0) for number in range(2)]
        for number, annotation in enumerate(own):
            rng = np.random.default_rng((client, number))
            frames = make_video(list(MOTIONS)[client % len(MOTIONS)], rng, width=48, height=36, num_frames=20)
            write_video(folder / f"videos/{annotation.name}.avi", frames)
        write_annotations(folder / f"lists/client_dist{client + 1}.json", own)


def family(pid: int) -> list[int]:
    """A process and its descendants; some may end meanwhile."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [one for child in children.read_text().split() for one in family(int(child))]
    return found


def look(pid: int, run_dir: Path) -> tuple[float, ...]:
    """`QUANTITIES` of a run at this moment; memory that processes share counts once."""
    memory, files, sockets, processes = 0.0, 0, 0, family(pid)
    for own in processes:
        with suppress(OSError):
            rollup = Path(f"/proc/{own}/smaps_rollup").read_text()
            memory += int(rollup.split("Pss:")[1].split()[0]) / 1e3
            for descriptor in Path(f"/proc/{own}/fd").iterdir():
                with suppress(OSError):
                    is_socket = os.readlink(descriptor).startswith("socket:")
                    files, sockets = files + (not is_socket), sockets + is_socket
    return memory, files, sockets, len(processes), sum(len(names) for _, _, names in os.walk(run_dir))


def rounds_of(run_dir: Path) -> list[dict]:
    """Records of the rounds so far."""
    path = run_dir / METRICS_FILE
    return [record for record in read_records(path) if "num_clients" in record] if path.is_file() else []


def soak(folder: Path, *, engine: str, rounds: int, num_clients: int) -> list[tuple[float, ...]]:
    """Run, and look at it. Returns (rounds done, *`QUANTITIES`) of each look.

    Raises:
        RuntimeError: if the run fails.
    """
    write_data(folder, num_clients=num_clients)
    run_dir, killing = folder / "run", KILLS if engine == "simulation" else 0
    words = [*SETTINGS, f"engine={engine}", f"rounds={rounds}", f"pool_size={num_clients}", f"hydra.run.dir={run_dir}"]
    words += ["+task.module.failing=0.1", f"+task.module.killing={killing}"]
    words += [f"data.media_dir={folder / 'videos'}", f"partition_dir={folder / 'lists'}"]
    seen = []
    with subprocess.Popen([sys.executable, "-m", "fedvssl.main", *words], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(SECONDS)
            if done := len(rounds_of(run_dir)):
                seen.append((done, *look(process.pid, run_dir)))
    if process.returncode:
        raise RuntimeError(f"The run ended with {process.returncode}.")
    return seen


def summary(seen: Sequence[tuple[float, ...]], *, rounds: int) -> list[tuple[str, float, float, float]]:
    """Of each quantity the median after a tenth of the rounds, for as long, that of the last tenth, and the most."""
    early = [row for row in seen if 0.1 * rounds < row[0] <= 0.2 * rounds]
    late = [row for row in seen if 0.9 * rounds < row[0] < rounds]  # the last record comes when the run is ending
    rows = []
    for number, name in enumerate(QUANTITIES, start=1):
        first, last = (statistics.median(row[number] for row in rows) for rows in (early, late))
        rows.append((name, first, last, max(row[number] for row in [*early, *late])))
    return rows


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("local", "simulation"), default="local")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--clients", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        seen = soak(Path(folder), engine=args.engine, rounds=args.rounds, num_clients=args.clients)
        minutes = (time.monotonic() - started) / 60
        records = rounds_of(Path(folder) / "run")
    failed = sum(len(record["failed_partition_ids"]) for record in records)
    print(f"{args.engine}: {len(records)} rounds of {args.clients} clients in {minutes:.0f} minutes, {failed} failed")
    for name, first, last, most in summary(seen, rounds=args.rounds):
        print(f"| {args.engine} | {name} | {first:.0f} | {last:.0f} | {most:.0f} |")


if __name__ == "__main__":
    main()
