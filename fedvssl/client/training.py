"""Local training: a round of a client on its own videos, from arrays and kept arrays to arrays, facts and kept arrays.

It opens no file but the client's videos.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedvssl.client.order import Order, Site
from fedvssl.data.annotations import Annotation
from fedvssl.data.dataset import SampleDataset, train_loader
from fedvssl.files.arrays import Arrays
from fedvssl.files.progress import Progress
from fedvssl.files.tensors import load_arrays_into, to_arrays
from fedvssl.strategy.rule import Rule, When, facts_of, sent
from fedvssl.training.batches import least_samples
from fedvssl.training.loop import EpochResult, build_fabric, seed_torch, set_up, train_epoch
from fedvssl.training.optimizer import load_state as load_optimizer
from fedvssl.training.optimizer import state_arrays
from fedvssl.training.schedule import warm_up

COUNTER = "num_batches_tracked"  # end of the names of BatchNorm's counters


@dataclass(frozen=True)
class Videos:
    """Videos of a client, whose partition id is part of the seed."""

    annotations: list[Annotation]
    partition_id: int


@dataclass(frozen=True)
class LocalTraining:
    """What an order tells to train, built. It serves any number of clients and rounds.

    Args:
        task: with initial weights; every training overwrites its whole state.
        sample: the task's work on one video, see tasks/task.py.
        build_optimizer: (task, on_gpu=...) -> a new optimizer.
        rule: client half of the strategy.
        settings: section "training" of the configuration.
        seed: of the run.
        initial: copies of the task's initial arrays that do not travel.
        keeps: True if a client keeps something from round to round.
        frozen: names in `initial` that no training changes; they are never kept.
    """

    task: Any
    sample: Any
    build_optimizer: Callable[..., Any]
    rule: Rule
    settings: Mapping[str, Any]
    seed: int
    initial: Arrays
    keeps: bool
    frozen: frozenset[str] = frozenset()

    def train(
        self, arrived: Arrays, order: Order, kept: Arrays, *, videos: Videos, site: Site, write: Callable[[str], None]
    ) -> tuple[Arrays, dict[str, float], Arrays]:
        """Train for one round.

        Args:
            arrived: the shared arrays, read-only.
            order: of the server.
            kept: what the round `order.kept_round` of this client has returned, {} at a first contact.
            videos: of the client.
            site: its resources.
            write: takes progress lines.

        Returns:
            The shared arrays after training, facts, and what to keep; arrays are views that change with the next
            training.

        Raises:
            ValueError: if a video is missing, or the arrays do not fit the model.
        """
        base = {name: self.initial[name] for name in self.frozen}
        start = self.rule.receive(arrived, kept | base, self.initial, When(order.server_round, order.kept_round))
        load_state(self.task, start)
        if hasattr(self.task, "start_round"):
            self.task.start_round()
        session = start_session(self, kept, device=site.device)
        results = train_epochs(session, order, videos, site=site, write=write)
        self.task.zero_grad()  # frees their memory until the next client
        state = to_arrays(self.task)
        facts = summarise(results) | {"num-examples": len(videos.annotations)}
        if self.keeps:
            kept = self.rule.keep(kept, start, state, arrived.keys())
            facts |= facts_of(kept, self.rule.reports)
            kept = {name: array for name, array in kept.items() if name not in self.frozen}
            kept |= session.optimizer_arrays()
        return never_back(sent(self.rule, state, arrived.keys()), arrived), facts, kept


def never_back(reply: Arrays, arrived: Arrays) -> Arrays:
    """The reply with counters of BatchNorm that are at least those that arrived, else the server would refuse it.

    A client that goes on with its own layers may have counted fewer steps in them than others.
    """
    counted = {name: np.maximum(array, arrived[name]) for name, array in reply.items() if name.endswith(COUNTER)}
    return reply | {name: np.asarray(array) for name, array in counted.items()}  # 0-d ones become scalars


def load_state(task: Any, arrays: Arrays) -> None:
    """Overwrite the whole state of a task, so that nothing of its earlier training is left.

    Raises:
        ValueError: if the arrays do not fit the task.
    """
    load_arrays_into(task, arrays)
    assert arrays.keys() == task.state_dict().keys(), "a state entry would keep what another client has learned"


@dataclass
class Session:
    """A task and its optimizer on the device, for one round.

    Args:
        fabric, wrapped, optimizer: as for `train_epoch`.
        training: holds the task that `wrapped` wraps.
        steps: number of steps of the optimizer so far, earlier rounds included if its state is kept.
    """

    fabric: Any
    training: LocalTraining
    wrapped: Any
    optimizer: Any
    steps: int

    def optimizer_arrays(self) -> Arrays:
        if not self.training.settings["keep_optimizer"]:
            return {}
        return state_arrays(self.optimizer, self.training.task, steps=self.steps)


def start_session(training: LocalTraining, kept: Arrays, *, device: str) -> Session:
    """Put a task on the device, with a new optimizer or the state that `kept` holds of it."""
    settings = training.settings
    fabric = build_fabric(device=device, precision=settings["precision"])
    optimizer = training.build_optimizer(training.task, on_gpu=fabric.device.type == "cuda")
    wrapped, optimizer = set_up(fabric, training.task, optimizer, compiled=settings["compile"])
    steps = load_optimizer(optimizer, training.task, kept)
    return Session(fabric, training, wrapped, optimizer, steps)


def train_epochs(
    session: Session,
    order: Order,
    videos: Videos,
    *,
    site: Site,
    write: Callable[[str], None],
) -> list[EpochResult]:
    """Train the session's task in place for the local epochs of one round."""
    settings, results = session.training.settings, []
    for epoch in range(settings["local_epochs"]):
        key = (session.training.seed, order.server_round, videos.partition_id, epoch)
        seed_torch(key)
        loader = train_loader(
            SampleDataset(Path(site.media_dir), videos.annotations, session.training.sample, seed_key=key),
            batch_size=settings["batch_size"],
            least=least_samples(session.training.task, settings),
            num_workers=site.num_workers,
            on_gpu=session.fabric.device.type == "cuda",
        )
        label = f"round {order.server_round}  epoch {epoch + 1}/{settings['local_epochs']}  batch"
        progress = Progress(label, len(loader), write=write)
        result = train_epoch(
            session.fabric,
            session.wrapped,
            session.optimizer,
            loader,
            max_norm=settings["max_norm"],
            lr_factor=lambda step, done=session.steps: order.lr_factor * warm_up(done + step, settings["warmup_steps"]),
            report=lambda step, _, means, progress=progress: progress.update(
                step, lambda: f"loss {float(means['loss']):.3f}"
            ),
        )
        session.steps += len(loader)
        write(f"{result.num_clips} of {len(videos.annotations)} samples")
        write(f"{result.clips_per_second:.1f} samples/s, {100 * result.data_share:.1f} % of the time waiting for data")
        results.append(result)
    return results


def summarise(results: list[EpochResult]) -> dict[str, float]:
    """Means per clip over the epochs of a round, maxima of "..._max", and sums of clips and seconds."""
    num_clips = sum(result.num_clips for result in results)
    facts = {}
    for name in results[0].metrics:
        mean = sum(result.metrics[name] * result.num_clips for result in results) / num_clips
        facts[name] = max(result.metrics[name] for result in results) if name.endswith("_max") else mean
    seconds_data = sum(result.seconds_data for result in results)
    seconds_compute = sum(result.seconds_compute for result in results)
    return facts | {
        "num-clips": float(num_clips),
        "seconds-data": seconds_data,
        "seconds-compute": seconds_compute,
        "data-share": seconds_data / (seconds_data + seconds_compute),
        "clips-per-second": num_clips / (seconds_data + seconds_compute),
    }
