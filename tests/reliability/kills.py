"""Kill a federated run at every write, continue it, and compare it with a run that nobody disturbed.

    python -m tests.reliability.kills                          all points, and their row in docs/reliability.md
    python -m tests.reliability.kills --points 8 --no_store    some of them, spread over the run, the kinds in turn

`fedvssl.main` runs in a fork, with its clients in the same process instead of Flower's engine. SIGKILL ends it at the
k-th of these moments: just before a file gets its name (`os.replace`), just before one is deleted (`os.unlink`), within
a line of metrics.jsonl, between such a line and its TensorBoard scalars. Then the same command is given once more.
"""

import argparse
import importlib
import itertools
import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedvssl import main as command
from fedvssl.client.order import Site
from fedvssl.client_app import build_client_app
from fedvssl.config import Config
from fedvssl.engines import ENGINES, Limits
from fedvssl.files import environment
from fedvssl.files.arrays import load_arrays
from fedvssl.files.environment import read_environment
from fedvssl.files.lock import owned
from fedvssl.files.run_log import RunLog, _line, read_records
from fedvssl.files.scalars import Scalars
from fedvssl.server_rounds import Run, run_rounds
from fedvssl.wire.grid import GridWire
from tests.action_set import write_action_set
from tests.federation import LocalGrid, tiny_config, write_clients
from tests.reliability.table import Row, store

KINDS = {"replace": "renames", "unlink": "deletions", "line": "half lines", "scalars": "scalars"}
USED_IN_FORKS = (  # imported once, before them
    *("fedvssl.server_run", "fedvssl.preflight", "matplotlib.backends.backend_agg"),
    *("fedvssl.models.r3d", "fedvssl.tasks.ctp", "fedvssl.tasks.patches", "fedvssl.tasks.recognition"),
    *("fedvssl.strategy.fedvssl", "fedvssl.evaluation.retrieval", "fedvssl.evaluation.knn"),
)
CLOCK = ("seconds", "clips_per_second", "data_share")  # what no two runs have in common


@dataclass
class Killer:
    """Counts the writes of this process and kills it at one of them; 0 kills at none."""

    at: int
    seen: list[str] = field(default_factory=list)

    def reached(self, kind: str) -> bool:
        self.seen.append(kind)
        return len(self.seen) == self.at

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def before(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            if self.reached(kind):
                self.die()
            return function(*args, **kwargs)

        return counted


def arm(killer: Killer) -> None:
    """Let it count the writes of this process from now on."""
    write = RunLog.write

    def write_half(self: RunLog, record: dict[str, Any]) -> None:
        if killer.reached("line"):
            line = _line(record)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line[: len(line) // 2])
            killer.die()
        write(self, record)

    os.replace, os.unlink = killer.before("replace", os.replace), killer.before("unlink", os.unlink)
    RunLog.write, Scalars.add = write_half, killer.before("scalars", Scalars.add)


def in_process(run: Run, site: Site, limits: Limits) -> None:
    """Stand-in for `fedvssl.engines.simulate`; node ids differ between starts, as the engine's do."""
    grid = LocalGrid(build_client_app(site), limits.num_clients, seed=os.getpid())
    wire = GridWire(
        grid, run.introductions, num_clients=limits.num_clients, timeout=limits.timeout, stop=threading.Event()
    )
    run_rounds(wire, run)


def start(config: Config, run_dir: Path, *, at: int = 0) -> list[str] | None:
    """Run in a fork.

    Returns:
        kinds of all writes in their order; None if it was killed.

    Raises:
        AssertionError: if it fails.
    """
    report = run_dir.with_suffix(".report")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            ENGINES["simulation"], environment.revision = in_process, lambda _: None  # a commit meanwhile is no fault
            killer = Killer(at)
            arm(killer)
            with owned(run_dir, writes=command.WRITES, tell=lambda _: None):
                command.run(config, run_dir=run_dir)
            report.write_text(" ".join(killer.seen))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), f"start in {run_dir} failed, see above"
    return report.read_text().split() if status == 0 else None


def state(run_dir: Path) -> dict[str, Any]:
    """Everything that a run has left, but times and logs."""
    files = {path.relative_to(run_dir).as_posix(): path for path in run_dir.rglob("*") if path.is_file()}
    found: dict[str, Any] = {name: None for name in files if "tfevents" not in name}
    for name, path in files.items():
        if name.endswith(".npz"):
            found[name] = {key: (array.dtype.str, array.tobytes()) for key, array in load_arrays(path).items()}
        elif name in ("loss.png", "settings.json", "config.yaml"):
            found[name] = path.read_bytes().replace(run_dir.name.encode(), b"run")
    found["records"] = [_without_clock(record) for record in read_records(run_dir / "metrics.jsonl")]
    found["lines"] = len((run_dir / "metrics.jsonl").read_bytes().splitlines())
    found["machines"] = [entry["done"] for entry in read_environment(run_dir / "environment.json")]
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of every purge
    events = EventAccumulator(str(run_dir / "tensorboard")).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.rpartition("/")[2].startswith(CLOCK)]
    found["scalars"] = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}
    return found


def _without_clock(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if not name.startswith(CLOCK)}


def difference(left: dict[str, Any], right: dict[str, Any]) -> str:
    """Names of what differs; empty if nothing does."""
    return " ".join(sorted(name for name in left | right if left.get(name, "") != right.get(name, "")))


def configuration(folder: Path) -> Config:
    """Four clients, four rounds, heads, evaluations before, every two rounds and at the end; two round files stay."""
    write_clients(folder, (1, 1, 1, 1))
    write_action_set(folder)
    sample = ("eval.sample.size=[43,32]", "eval.sample.crop_size=32", "eval.sample.num_clips=1")
    evaluation = ("eval.every=2", "eval.num_classes=3", "eval.max_videos=6", "eval.protocols.motion_probe=null")
    return tiny_config(folder, "rounds=4", "keep_last=2", "model.width=2", *evaluation, *sample, num_clients=4)


def spread(kinds: Sequence[str], points: int) -> list[int]:
    """Numbers of writes from the first to the last, in even steps but for their kinds, which take turns."""
    chosen = []
    for place, kind in zip(np.linspace(1, len(kinds), points), itertools.cycle(KINDS), strict=False):
        own = [number for number, found in enumerate(kinds, start=1) if found == kind]
        chosen.append(min(own, key=lambda number: abs(number - place)))
    return chosen


def trials(folder: Path, *, points: int | None) -> Iterator[tuple[str, str]]:
    """Kind of write and differences to the undisturbed run, for each kill.

    Args:
        folder: for the runs.
        points: number of kills, see `spread`; None: one at each write.
    """
    torch.set_num_threads(1)  # a fork has no others
    for module in USED_IN_FORKS:
        importlib.import_module(module)
    config = configuration(folder / "data")
    kinds = start(config, folder / "whole")
    assert kinds is not None
    whole = state(folder / "whole")
    for at in range(1, len(kinds) + 1) if points is None else spread(kinds, points):
        run_dir = folder / f"killed-{at}"
        assert start(config, run_dir, at=at) is None, "it ended before the kill"
        assert start(config, run_dir) is not None
        yield kinds[at - 1], difference(whole, state(run_dir))


def main(argv: list[str] | None = None) -> int:
    """The command; returns 1 if a run differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, help="number of kills (default: one at every write)")
    parser.add_argument("--no_store", action="store_true", help="leave docs/reliability.md as it is")
    arguments = parser.parse_args(argv)
    tried, equal = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for kind, differs in trials(Path(folder), points=arguments.points):
            tried[kind] += 1
            equal[kind] += not differs
            print(f"{tried.total()}  {kind}  {f'DIFFERS: {differs}' if differs else 'equal'}", flush=True)
    seen = ", ".join(f"{equal[kind]} of {tried[kind]} {KINDS[kind]}" for kind in KINDS if tried[kind])
    print(f"equal: {seen}")
    if not arguments.no_store:
        provoked = "SIGKILL at every write of 4 rounds with 4 clients, then the same command again"
        promised = "arrays, heads, records, evaluations, scalars and picture of an undisturbed run; no leftovers"
        store("kills", [Row("federated run killed", provoked, promised, f"equal after {seen}", tried.total())])
    return int(equal != tried)


if __name__ == "__main__":
    sys.exit(main())
