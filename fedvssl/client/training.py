"""A client's work: load the shared arrays, train on its own videos, return the same names and facts.

The order gives model, task and training; `Site` gives the data and the device. So the same client serves a simulation,
a single process and a real federation.

State entries that the server does not send are the client's own: under FedVSSL the pretext head. They are saved in a
file for each round, before the reply, and with them the optimizer's state if `training.keep_optimizer` is true. The
order names the file to continue from, that of the last round in which this client's reply counted. So a head of an
interrupted round or of a reply that came too late is never used.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedvssl.client.order import Order, Site, Training
from fedvssl.client.state import client_folder, head_path, save_head
from fedvssl.data.annotations import Annotation, read_annotations
from fedvssl.data.dataset import SampleDataset, train_loader
from fedvssl.files.arrays import Arrays, load_arrays
from fedvssl.files.progress import Progress
from fedvssl.files.tensors import load_arrays_into, to_arrays
from fedvssl.training.loop import EpochResult, build_fabric, seed_torch, set_up, train_epoch
from fedvssl.training.optimizer import load_state as load_optimizer
from fedvssl.training.optimizer import state_arrays
from fedvssl.training.schedule import warm_up
from fedvssl.wire import wire

Build = Callable[[str], Training]


class ClientError(RuntimeError):
    """The client cannot do what it was asked to; the message is one line."""


@dataclass(frozen=True)
class Client:
    """One client.

    Args:
        partition_id: decides its list, `client_dist<partition_id + 1>.json`, and its folder.
        site: its places and resources.
        build: builds what an order tells to train, from the order's configuration as JSON text.
    """

    partition_id: int
    site: Site
    build: Build

    def introduce(self) -> wire.Facts:
        """Partition id and number of videos.

        Raises:
            ClientError: if its list cannot be read.
        """
        try:
            return {"partition-id": self.partition_id, "num-examples": len(read_annotations(self._list_path()))}
        except Exception as error:
            raise ClientError(one_line(error)) from error

    def answer(self, action: str, arrays: Arrays, order: wire.Order) -> tuple[Arrays, wire.Facts]:
        """Do what an order asks for.

        Returns:
            Trained arrays, as views that change with the next training in this process, and facts.

        Raises:
            ClientError: whatever goes wrong; its traceback is in the client's log.
        """
        folder = client_folder(self.site, self.partition_id)
        with _open_log(folder / "train.log") as log:
            try:
                if action != wire.TRAIN:
                    raise ValueError(f"a client cannot '{action}'")
                annotations = read_annotations(self._list_path())
                return self._train(arrays, Order.read(order), annotations, write=log.info)
            except Exception as error:
                log.exception("failed")
                initial_task.cache_clear()  # its state is unknown
                raise ClientError(f"{one_line(error)} (traceback in {folder / 'train.log'})") from error

    def _train(
        self, arrays: Arrays, order: Order, annotations: list[Annotation], *, write: Callable[[str], None]
    ) -> tuple[Arrays, wire.Facts]:
        """Train for one round; `write` takes progress lines.

        Raises:
            ValueError: if the client's videos or head are missing, or the arrays do not fit the model.
        """
        started = time.perf_counter()
        folder = client_folder(self.site, self.partition_id)
        training, own = initial_task(self.build, order.config, frozenset(arrays))
        keeps = own or training.settings["keep_optimizer"]
        kept = load_arrays(head_path(folder, order.head_round)) if keeps and order.head_round else own
        load_state(training.task, {name: kept[name] for name in own} | arrays)
        session = start_session(training, kept, device=self.site.device)
        results = train_epochs(session, order, annotations, site=self.site, partition_id=self.partition_id, write=write)
        training.task.zero_grad()  # frees their memory until the next client
        state = to_arrays(training.task)
        if keeps:
            save_head(folder, {name: state[name] for name in own} | session.optimizer_arrays(), order)
        facts = summarise(results) | {"num-examples": len(annotations)}
        facts["seconds-on-client"] = time.perf_counter() - started
        return {name: state[name] for name in arrays}, facts

    def _list_path(self) -> Path:
        return list_path(self.site, self.partition_id)


@lru_cache(maxsize=1)
def initial_task(build: Build, config: str, sent: frozenset[str]) -> tuple[Training, Arrays]:
    """Build a task, and copy the initial arrays that the server does not send.

    The last task is cached: one process trains many clients, and building a task takes longer than sending its arrays.
    `load_state` overwrites everything that a cached task has learned.

    Args:
        build: as of a `Client`; it sets the seed, so that every client starts from the head of the server's model.
        config: the order's configuration as JSON text.
        sent: names of the arrays that the server sends.
    """
    training = build(config)
    return training, {name: a.copy() for name, a in to_arrays(training.task).items() if name not in sent}


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
    training: Training
    wrapped: Any
    optimizer: Any
    steps: int

    def optimizer_arrays(self) -> Arrays:
        if not self.training.settings["keep_optimizer"]:
            return {}
        return state_arrays(self.optimizer, self.training.task, steps=self.steps)


def start_session(training: Training, kept: Arrays, *, device: str) -> Session:
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
    annotations: list[Annotation],
    *,
    site: Site,
    partition_id: int,
    write: Callable[[str], None],
) -> list[EpochResult]:
    """Train the session's task in place for the local epochs of one round."""
    settings, results = session.training.settings, []
    for epoch in range(settings["local_epochs"]):
        key = (session.training.seed, order.server_round, partition_id, epoch)
        seed_torch(key)
        loader = train_loader(
            SampleDataset(Path(site.media_dir), annotations, session.training.sample, seed_key=key),
            batch_size=settings["batch_size"],
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


def list_path(site: Site, partition_id: int) -> Path:
    return Path(site.partition_dir) / f"client_dist{partition_id + 1}.json"


def one_line(error: Exception) -> str:
    """Class and text of an error as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


@contextmanager
def _open_log(path: Path) -> Iterator[logging.Logger]:
    path.parent.mkdir(parents=True, exist_ok=True)
    log = logging.getLogger(f"fedvssl.client.{path.parent.name}")
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s"))
    log.setLevel(logging.INFO)
    log.propagate = False  # to this file only; the server logs the important facts
    log.addHandler(handler)
    try:
        yield log
    finally:
        for handler in log.handlers[:]:
            log.removeHandler(handler)
            handler.close()
