"""A federation small enough for a test: a configuration, videos for each client, a grid without a simulation engine."""

import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from fedvssl import server_run
from fedvssl.building import build_sample, build_task, build_training
from fedvssl.client.client import Client
from fedvssl.client.order import Site
from fedvssl.client_app import build_client_app
from fedvssl.config import compose
from fedvssl.data.annotations import Annotation, read_annotations, write_annotations
from fedvssl.data.dataset import SampleDataset
from fedvssl.files.arrays import Arrays
from fedvssl.preflight import Trial, expected_report
from fedvssl.server_evaluation import Evaluations
from fedvssl.server_rounds import Run, run_rounds
from fedvssl.server_run import SENT, build_run
from fedvssl.wire.grid import GridWire
from fedvssl.wire.replies import Report
from tests.videos import moving_square, write_frames

ROOT = Path(__file__).parents[1]
TINY = (
    "model.depth=10",
    "model.width=4",
    "task.sample.short_sides=[32,36]",
    "task.sample.crop_size=32",
    "task.sample.patches.scales=[6,8,10]",
    "task.module.hidden_channels=16",
    "training.num_workers=0",
    "training.precision=32-true",
    "client_resources.num_cpus=1",
    "client_resources.num_gpus=0",
    "rounds=2",
)


def write_clients(data_dir: Path, videos_per_client: Sequence[int] = (3, 4, 5)) -> None:
    """Videos and client lists below `data_dir`/ucf101, as the data tools write them."""
    for partition_id, num_videos in enumerate(videos_per_client):
        names = [f"Class{partition_id}/v{partition_id}_{number}" for number in range(num_videos)]
        for number, name in enumerate(names):
            frames = moving_square(num_frames=20, height=36, width=48, seed=10 * partition_id + number)
            write_frames(data_dir / "ucf101" / "zips" / f"{name}.zip", frames)
        path = data_dir / "ucf101/annotations/client_distribution" / f"client_dist{partition_id + 1}.json"
        write_annotations(path, [Annotation(name, partition_id) for name in names])


def overrides(data_dir: Path, *others: str, num_clients: int = 3) -> list[str]:
    sampling = [f"pool_size={num_clients}", f"strategy.min_fit_clients={num_clients}"]
    return [*TINY, f"data_dir={data_dir}", *sampling, *others]


def tiny_config(data_dir: Path, *others: str, num_clients: int = 3) -> dict[str, Any]:
    return compose("base", overrides(data_dir, *others, num_clients=num_clients))


def site_of(config: dict[str, Any], run_dir: Path) -> Site:
    return Site(config["data"]["media_dir"], config["partition_dir"], str(run_dir / "clients"), device="cpu")


def client_of(config: dict[str, Any], run_dir: Path, partition_id: int) -> Client:
    return Client(partition_id, site_of(config, run_dir), build_training)


def initial_arrays(config: dict[str, Any]) -> Arrays:
    """What a run of this configuration starts from."""
    return server_run.initial_arrays(lambda: build_task(config), seed=config["seed"], init=config["init"])


def strategy_of(config: dict[str, Any]) -> Any:
    """The server's half of a configuration's strategy."""
    sizes = {"num_clients": config["pool_size"], "seed": config["seed"]}
    return server_run.build_strategy(config["strategy"], config["training"], **sizes)


def report_of(config: dict[str, Any]) -> Report:
    """What the clients of a configuration may report, by the videos of the first."""
    media_dir, lists = Path(config["data"]["media_dir"]), Path(config["partition_dir"])
    videos = read_annotations(lists / "client_dist1.json")[:2]
    dataset = SampleDataset(media_dir, videos, build_sample(config), seed_key=(config["seed"],))
    return expected_report(Trial(build_task(config), dataset))


def sent_arrays(config: dict[str, Any], *, prefix: str = "backbone.") -> Arrays:
    """The initial arrays whose names start with `prefix`."""
    return {name: array for name, array in initial_arrays(config).items() if name.startswith(prefix)}


def order_of(config: dict[str, Any], server_round: int = 1, *, kept_round: int = 0) -> dict[str, Any]:
    """Order that the server would send, at full learning rate."""
    settings = json.dumps({**{name: config[name] for name in SENT}, "rule": config["strategy"]["rule"]})
    return {"config": settings, "lr-factor": 1.0, "server-round": server_round, "kept-round": kept_round}


class InProcess(Grid):
    """Parts that every grid of a test shares: Flower's identity, and what nobody calls."""

    def __init__(self) -> None:
        TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any: ...

    def create_message(self, *_: Any, **__: Any) -> Any: ...

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))


class LocalGrid(InProcess):
    """Runs every message at once, in this process. Node ids are random, as Flower's are.

    Args:
        app: answers the messages of every node.
        num_nodes: partitions 0 .. num_nodes - 1.
        on_train: called with (partition id, message) before a training message is handed on; may replace the reply,
            raise, or return "silence" so that no reply ever comes.
        told: configuration of a partition's node.
    """

    def __init__(
        self,
        app: ClientApp,
        num_nodes: int,
        on_train: Callable[[int, Message], Any] = lambda *_: None,
        seed: int = 0,
        told: Callable[[int], dict[str, Any]] = lambda partition_id: {"partition-id": partition_id},
    ) -> None:
        super().__init__()
        self.told = told
        self.app, self.on_train = app, on_train
        nodes = np.random.default_rng(seed).choice(10**6, num_nodes, replace=False).tolist()
        self.partition_of = dict(zip(nodes, range(num_nodes), strict=True))
        self.replies: dict[str, Message] = {}
        self.sent: list[tuple[int, Message]] = []  # training messages with their partitions
        self._numbers = itertools.count(1)

    def get_node_ids(self) -> Iterable[int]:
        return set(self.partition_of)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [self._handle(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self.replies.pop(number) for number in message_ids if number in self.replies]

    def _handle(self, message: Message) -> str:
        number = message.metadata.__dict__["_message_id"] = str(next(self._numbers))
        partition_id = self.partition_of[message.metadata.dst_node_id]
        context = Context(1, message.metadata.dst_node_id, self.told(partition_id), RecordDict(), {})
        reply = None
        if message.metadata.message_type == "train":
            self.sent.append((partition_id, message))
            reply = self.on_train(partition_id, message)
        if reply != "silence":
            self.replies[number] = reply or self.app(message, context)
        return number


def train(config: dict[str, Any], run_dir: Path, *, on_train=lambda *_: None, monitor: Any = None) -> LocalGrid:
    """What the apps do over Flower's grid, in this process; node ids differ between calls as between simulations."""
    run = build_run(config, run_dir=run_dir, report=report_of(config))
    if monitor:
        run.evaluations = Evaluations(monitor, config["eval"]["every"], config["rounds"])
    grid = LocalGrid(build_client_app(site_of(config, run_dir)), config["pool_size"], on_train, seed=run.done)
    run_rounds(wire_over(grid, run, config), run)
    return grid


def wire_over(grid: Grid, run: Run, config: dict[str, Any], stop: threading.Event | None = None) -> GridWire:
    limits: dict[str, Any] = {"num_clients": config["pool_size"], "timeout": config["round_timeout"]}
    return GridWire(grid, run.introductions, **limits, stop=stop or threading.Event())


def run_main(*arguments: str, folder: Path) -> subprocess.CompletedProcess:
    """`python -m fedvssl.main` in `folder`."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "fedvssl.main", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=550,
    )


def family(pid: int) -> dict[int, str]:
    """Names of all descendants of a process; some may end meanwhile."""
    found = {}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                found |= {child: name_of(child), **family(child)}
    return found


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()
