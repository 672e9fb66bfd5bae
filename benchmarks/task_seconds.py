"""Processor seconds and clips of a pre-training with each task on videos, for a comparison at equal processor time.

    python -m benchmarks.task_seconds experiment=tasks_small data_dir=outputs/tasks/data

Epochs over the first client's videos by the training loop itself, from the files to the update, in one thread; the
tasks take turns. The figure of a whole run is that of all clips of all clients: the server's work, the start of the
process and evaluations come on top. Words are overrides of conf/sweep.yaml, whose rows name the tasks.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import alternate, spread
from fedvssl.building import build_optimizer, build_sample, build_task
from fedvssl.config import compose
from fedvssl.data.annotations import lists_in, read_annotations
from fedvssl.data.dataset import SampleDataset, train_loader
from fedvssl.overrides import parse_overrides
from fedvssl.sweep import read
from fedvssl.training.loop import build_fabric, set_up, train_epoch
from fedvssl.training.memory import keep_freed_memory

REPEATS = 5


@dataclass(frozen=True)
class Epoch:
    """An epoch of one row of the sweep.

    Args:
        run: trains for it.
        clips: samples of an epoch.
        clips_in_all: those of the whole pre-training, of all clients.
    """

    run: Callable[[], object]
    clips: int
    clips_in_all: int


def epoch_of(config: dict[str, Any]) -> Epoch:
    """An epoch over the first client's videos, with the settings of a pre-training."""
    training = config["training"]
    clients = [read_annotations(file) for file in lists_in(config["partition_dir"], config["pool_size"])]
    task, fabric = build_task(config), build_fabric(device="cpu", precision="32-true")
    wrapped, optimizer = set_up(fabric, task, build_optimizer(training, task, on_gpu=False))
    dataset = SampleDataset(
        Path(config["data"]["media_dir"]), clients[0], build_sample(config), seed_key=(config["seed"], 1, 0, 0)
    )

    def run() -> None:
        loader = train_loader(dataset, batch_size=training["batch_size"], num_workers=0)
        train_epoch(fabric, wrapped, optimizer, loader, max_norm=training["max_norm"])

    epochs = config["rounds"] * training["local_epochs"]
    return Epoch(run, len(clients[0]), epochs * sum(map(len, clients)))


def measure(words: Sequence[str]) -> list[str]:
    """A line for each pre-trained row of a sweep.

    Args:
        words: overrides of conf/sweep.yaml.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    sweep = read(compose("sweep", parse_overrides(list(words))))
    shared = [*sweep.data_words, *sweep.overrides["all"], *sweep.overrides["main"]]
    rows = {name: row for name, row in sweep.rows.items() if not row.start}
    epochs = {name: epoch_of(compose("base", [*shared, *row.overrides])) for name, row in rows.items()}
    taken = alternate({name: own.run for name, own in epochs.items()}, repeats=REPEATS, clock=time.process_time)
    lines = []
    for name, own in epochs.items():
        each = [1000 * seconds / own.clips for seconds in taken[name]]
        whole = sorted(each)[len(each) // 2] * own.clips_in_all / 1000
        lines.append(f"{name:18}{spread(each)} ms a clip, {own.clips_in_all} clips: {whole:.0f} processor seconds")
    return lines


if __name__ == "__main__":
    print("\n".join(measure(sys.argv[1:])))
