"""What clients keep on pictures survives a stop at ten points, bit for bit: own shares, target network, queue.

A run has two rounds behind it, is stopped in the third one, and started again as a new process would. It ends with the
arrays, client files and records of a run that nobody stopped.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedvssl import server_rounds
from fedvssl.client import client, state, training
from fedvssl.config import compose
from fedvssl.data.annotations import write_annotations
from fedvssl.files import atomic
from fedvssl.files.arrays import load_arrays
from fedvssl.files.run_log import RunLog, read_records
from fedvssl.server_rounds import run_rounds
from fedvssl.server_run import build_run
from fedvssl.strategy import rounds
from fedvssl.tasks.follower import Follower
from fedvssl.wire.local import LocalWire
from tests.federation import client_of
from tests.reliability.kills import CLOCK
from tests.tasks.test_two_views_federation import HIDDEN, PREDICTOR, SMALL
from tests.tasks.test_views import write_pictures

CLIENTS, ROUNDS = 3, 3
SIZES = (2, 2, 4)  # pictures, in batches of 2
STEPS = sum(SIZES) // 2  # of all clients in a round
TINY = (
    *(*SMALL, "model=resnet18", f"model._target_={__name__}.Small", "task.sample.max_side=8", "training.num_workers=0"),
    *("pool_size=3", "strategy.min_fit_clients=3", "training.batch_size=2", "training.lr=0.03", f"rounds={ROUNDS}"),
)
LAYERS = "strategy.rule.layers=[backbone.*]"
BYOL = ("task=byol", HIDDEN, PREDICTOR)
METHODS = {
    "fedu": (*BYOL, "strategy=fedu", LAYERS, "strategy.rule.threshold=0.007"),
    "fedema": (*BYOL, "strategy=fedema", LAYERS),
    "fedbyol": (*BYOL, "strategy=fedbyol", "strategy.rule.own_encoder=0.3", "strategy.rule.own_predictor=0.6"),
    "ldawa": (*BYOL, "strategy=ldawa", "strategy.fedavg_rounds=1"),
    "moco": ("task=moco_v2", "strategy=fedavg", "task.module.queue_length=10"),
}
# Point -> where it is, the call there since the last start, and True if it is just after this call.
POINTS: dict[str, tuple[Any, str, int, bool]] = {
    "before a client trains": (training, "load_state", 2, False),
    "in the middle of a client's training": (Follower, "follow", STEPS - 1, True),
    "before the file of the last client": (client, "save_kept", CLIENTS, False),
    "within the file of a client": (atomic.os, "fsync", 2, False),  # the first one is of the records
    "between a client's file and the deletion of an earlier one": (state, "save_arrays", 2, True),
    "after the file of the last client": (client, "save_kept", CLIENTS, True),
    "before the last reply counts": (rounds, "read_update", CLIENTS, False),
    "between the record of the round and those of its clients": (RunLog, "write", 1, True),
    "between the records and the round file": (server_rounds, "save_arrays", 1, False),
    "after the round file": (server_rounds, "save_arrays", 1, True),
}


class Small(nn.Module):
    """Backbone of two layers, so that hundreds of trainings take seconds."""

    out_channels = 8

    def __init__(self, **_: Any) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, stride=2, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.bn2(self.conv2(self.bn1(self.conv1(pictures)).relu())).relu()


class Stopped(BaseException):
    """As if the process ended here."""


def stopping(function: Callable[..., Any], call: int, *, after: bool) -> Callable[..., Any]:
    """The function; its `call`-th call, counted from 1, stops the run."""
    calls: list[None] = []

    def wrapped(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == call and not after:
            raise Stopped
        result = function(*arguments, **options)
        if len(calls) == call:
            raise Stopped
        return result

    return wrapped


def write_places(folder: Path) -> list[str]:
    """Pictures and lists of three clients; the words of a command that name them."""
    annotations, ends = write_pictures(folder / "pictures", sum(SIZES), side=8), np.cumsum(SIZES)
    for number, (size, end) in enumerate(zip(SIZES, ends, strict=True), start=1):
        write_annotations(folder / f"lists/client_dist{number}.json", annotations[end - size : end])
    return [f"data.media_dir={folder / 'pictures'}", f"partition_dir={folder / 'lists'}"]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_places(tmp_path_factory.mktemp("pictures"))


def start(config: dict[str, Any], run_dir: Path) -> None:
    """Begin or continue a run as a new process does: nothing is left of another start."""
    client.local_training.cache_clear()
    torch.manual_seed(0)
    run = build_run(config, run_dir=run_dir)
    clients = {number: client_of(config, run_dir, number) for number in range(CLIENTS)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_rounds, "plot_losses", lambda *_: None)  # a picture takes longer than a round
        run_rounds(LocalWire(clients, run.introductions), run)


def left(run_dir: Path) -> dict[str, Any]:
    """Arrays of the server and the clients, and records without their times."""
    found: dict[str, Any] = {"records": [without_clock(record) for record in read_records(run_dir / "metrics.jsonl")]}
    for path in sorted(run_dir.rglob("*.npz")):
        arrays = load_arrays(path)
        found[str(path.relative_to(run_dir))] = {n: (a.dtype.str, a.shape, a.tobytes()) for n, a in arrays.items()}
    return found


def without_clock(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if not name.startswith(CLOCK)}


@pytest.fixture(scope="module", params=METHODS)
def method(request: pytest.FixtureRequest, places: list[str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Its configuration, the folder of its first rounds, and what a whole run leaves."""
    config, folder = compose("base", [*TINY, *places, *METHODS[request.param]]), tmp_path_factory.mktemp(request.param)
    start({**config, "rounds": ROUNDS - 1}, folder / "cut")
    start(config, folder / "whole")
    return config, folder / "cut", left(folder / "whole")


def test_the_stopped_round_goes_on_from_what_clients_keep(method: Any) -> None:
    """Of FedU both predictors, of FedEMA shares between both ends; of MoCo a queue in the middle of its ring."""
    config, _, whole = method
    told = [r for r in whole["records"] if r["server_round"] == ROUNDS - 1 and "partition_id" in r]
    kept = whole[f"clients/client_3/kept-round-{ROUNDS - 1}.npz"]
    match config["strategy"]["rule"]["_target_"].rpartition(".")[2]:
        case "FedU":
            assert {record["own_share"] for record in told} == {0, 1}
        case "FedEMA":
            assert all(0.001 < record["own_share"] < 0.999 for record in told)
        case _ if "queue.place" in kept:
            assert kept["queue.place"] != whole[f"clients/client_3/kept-round-{ROUNDS}.npz"]["queue.place"]
        case _:
            assert any(name.startswith("target.") for name in kept)


@pytest.mark.parametrize("point", POINTS)
def test_a_stopped_run_ends_as_a_whole_one(point: str, method: Any, tmp_path: Path) -> None:
    config, cut, whole = method
    shutil.copytree(cut, run_dir := tmp_path / "run")
    place, name, call, after = POINTS[point]
    with pytest.raises(Stopped), pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, stopping(getattr(place, name), call, after=after))
        start(config, run_dir)
    start(config, run_dir)
    found = left(run_dir)
    assert found.keys() == whole.keys()
    assert [name for name in whole if found[name] != whole[name]] == []
