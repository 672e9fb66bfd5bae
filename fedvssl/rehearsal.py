"""Cost of a federated run, from a few steps of a client on one of its videos: seconds, memory, disk."""

import heapq
import json
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fedvssl.building import build_task, build_training
from fedvssl.client.order import Order, Site
from fedvssl.client.training import Videos
from fedvssl.config import Config
from fedvssl.data.annotations import Annotation
from fedvssl.files.arrays import BACKBONE, num_bytes
from fedvssl.files.environment import num_cores
from fedvssl.preflight import gpus_here, settle
from fedvssl.server_run import SENT, build_strategy, check_share, initial_arrays

BATCHES = 3  # of the rehearsal


@dataclass(frozen=True)
class Cost:
    """Estimate of a run.

    Args:
        seconds: of all rounds, as fast as one client alone, without the start of the engine and evaluations.
        memory_bytes: of the clients that train at a time, on the machine.
        gpu_bytes: of one client on its GPU; 0 without one.
        disk_bytes: of round files, and of what clients keep.
        at_a_time: clients that train at a time.
        whole_backbone: True if all of the backbone travels, so that a saved round can be evaluated.
    """

    seconds: float
    memory_bytes: float
    gpu_bytes: int
    disk_bytes: int
    at_a_time: int
    whole_backbone: bool


def rehearse(config: Config, video: Annotation, *, sizes: Sequence[int]) -> Cost:
    """Train a client for a few steps on one video, as in a round, and extrapolate. Nothing is written.

    Args:
        config: of the run.
        video: is prepared in its media_dir already.
        sizes: number of videos of each client.

    Raises:
        ValueError: for a mistake in the configuration, or a video that cannot be sampled.
    """
    config = settle({**config, "pool_size": len(sizes)})
    training, resources = config["training"], config["client_resources"]
    device = "cuda" if resources["num_gpus"] else "cpu"
    torch.set_num_threads(int(resources["num_cpus"]))
    state = initial_arrays(lambda: build_task(config), seed=config["seed"], init=None)
    strategy = build_strategy(config["strategy"], training, num_clients=len(sizes), seed=config["seed"])
    uses = [] if config["init"] is None else ["init"]
    check_share(strategy, list(state), private=config["task"]["private"], whole_backbone=uses)
    settings = {name: config[name] for name in SENT} | {"rule": config["strategy"]["rule"]}
    settings["training"] = {**training, "local_epochs": 1}
    local = build_training(json.dumps(settings), sent=list(state))
    order = Order(json.dumps(settings), server_round=1, kept_round=0, lr_factor=1.0)
    videos = Videos([video] * (BATCHES * training["batch_size"]), partition_id=0)
    site = Site(str(Path(config["data"]["media_dir"])), "", "", device, training["num_workers"])
    _, facts, _ = local.train(state, order, {}, videos=videos, site=site, write=lambda _: None)
    fit = clients_at_a_time(len(sizes), num_cpus=resources["num_cpus"], num_gpus=resources["num_gpus"])
    at_a_time = 1 if config["engine"] == "local" else fit
    samples = longest_place(sizes, at_a_time) * config["rounds"] * training["local_epochs"]
    return Cost(
        seconds=samples / facts["clips-per-second"],
        memory_bytes=peak_memory() * at_a_time,
        gpu_bytes=torch.cuda.max_memory_allocated() if device == "cuda" else 0,
        disk_bytes=num_bytes(state) * (config["rounds"] + 2 * len(sizes)),
        at_a_time=at_a_time,
        whole_backbone=all(strategy.is_shared(name) for name in state if name.startswith(BACKBONE)),
    )


def longest_place(sizes: Sequence[int], at_a_time: int) -> int:
    """Videos that train one after the other in the busiest place: three equal clients in two places take two turns.

    Args:
        sizes: number of videos of each client; each takes the place that is free first, in this order.
        at_a_time: number of places.
    """
    places = [0] * at_a_time
    for size in sizes:
        heapq.heapreplace(places, places[0] + size)
    return max(places)


def clients_at_a_time(num_clients: int, *, num_cpus: float, num_gpus: float) -> int:
    """Number of clients that the simulation trains at a time on this machine."""
    fit = [num_clients, int(num_cores() / num_cpus)]
    return max(1, min([*fit, int(gpus_here() / num_gpus)] if num_gpus else fit))


def peak_memory() -> int:
    """Largest memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
