"""A tiny federated run of split learning on pictures, over any wire."""

import copy
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fedvssl.building import build_stepping, build_training
from fedvssl.client.client import Client
from fedvssl.client_app import build_client_app
from fedvssl.config import compose
from fedvssl.server_rounds import Run, run_rounds
from fedvssl.server_run import build_run
from fedvssl.wire.grid import GridWire
from fedvssl.wire.local import LocalWire
from tests.federation import LocalGrid, site_of
from tests.picture_set import DATA, SIDE

SPLIT = (
    *(*DATA, "model=split_resnet18", "task=mocosfl", f"task.sample.max_side={SIDE}", "optimizer=sgd"),
    *("task.module.projector.hidden_channels=8", "task.module.projector.out_channels=8", "task.module.queue_length=24"),
    *("strategy.min_fit_clients=1", "strategy.device=cpu"),
    *("engine=local", "pool_size=2", "rounds=2", "training.batch_size=12", "training.precision=32-true"),
    *("training.lr=0.05", "training.num_workers=0", "client_resources={num_gpus: 0, num_cpus: 1}"),
)
NARROW = "model.width=4"
MOCOSFL = ("strategy=mocosfl", "strategy.syncs_per_round=2")


def settings_of(data_dir: Path, *words: str, strategy: tuple[str, ...] = MOCOSFL) -> dict[str, Any]:
    return copy.deepcopy(_composed(data_dir, (*strategy, *words)))


@cache
def _composed(data_dir: Path, words: tuple[str, ...]) -> dict[str, Any]:
    return compose("base", [*SPLIT, NARROW, f"data_dir={data_dir}", *words])


def exact(config: dict[str, Any]) -> dict[str, Any]:
    """The same run in float64, which no setting allows: for comparisons of engines."""
    return {**config, "training": {**config["training"], "precision": "64-true"}}


def local_wire(config: dict[str, Any], run: Run, run_dir: Path) -> LocalWire:
    site = site_of(config, run_dir)
    clients = {own: Client(own, site, build_training, build_stepping) for own in range(config["pool_size"])}
    return LocalWire(clients, run.introductions)


def flower_wire(config: dict[str, Any], run: Run, run_dir: Path) -> GridWire:
    """Flower's messages in this process, where each client's state is a file between two of them."""
    grid = LocalGrid(build_client_app(site_of(config, run_dir)), config["pool_size"], seed=run.done)
    limits: dict[str, Any] = {"num_clients": config["pool_size"], "timeout": 60.0}
    return GridWire(grid, run.introductions, **limits, stop=threading.Event())


def train(config: dict[str, Any], run_dir: Path, make_wire: Any = local_wire) -> Run:
    """Train the rounds that are missing in a folder."""
    run_dir.mkdir(parents=True, exist_ok=True)
    run = build_run(config, run_dir=run_dir)
    run_rounds(make_wire(config, run, run_dir), run)
    return run


def files_of(run_dir: Path) -> dict[str, dict[str, np.ndarray]]:
    """Arrays of a run: round files, the strategy's state, what clients keep."""
    paths = [*run_dir.glob("round-*.npz"), *run_dir.glob("clients/*/kept-*.npz")]
    return {str(path.relative_to(run_dir)): dict(np.load(path)) for path in sorted(paths)}
