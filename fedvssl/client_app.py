"""The Flower ClientApp: load the shared arrays, train on the client's own videos, reply with the same names and facts.

The server's message gives model, task and training; `Site` gives the data and the device. So the same app serves the
simulation and a real federation.

State entries that the server does not send are the client's own: under FedVSSL the pretext head. They are saved in a
file for each round, before the reply, and with them the optimizer's state if `training.keep_optimizer` is true. The
message names the file to continue from, that of the last round in which this client's reply counted. So a head of an
interrupted round or of a reply that came too late is never used.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from flwr.app import Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from fedvssl.client.order import Order, Site
from fedvssl.client.state import client_folder, head_path, save_head
from fedvssl.config import build_optimizer, build_sample, build_task
from fedvssl.data.annotations import Annotation, read_annotations
from fedvssl.data.dataset import ClipDataset, train_loader
from fedvssl.files.arrays import Arrays, load_arrays
from fedvssl.files.progress import Progress
from fedvssl.files.tensors import load_arrays_into, to_arrays
from fedvssl.training.loop import EpochResult, build_fabric, seed_torch, set_up, train_epoch
from fedvssl.training.optimizer import load_state as load_optimizer
from fedvssl.training.optimizer import state_arrays
from fedvssl.training.schedule import warm_up
from fedvssl.wire.record import ARRAYS, CLIENT, CONFIG, METRICS, pack, unpack


def build_client_app(site: Site) -> ClientApp:
    """Build the app of every client; `context.node_config["partition-id"]` tells which client it is."""
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        return introduce(message, site=site, partition_id=int(context.node_config["partition-id"]))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return answer(message, site=site, partition_id=int(context.node_config["partition-id"]))

    return app


def introduce(message: Message, *, site: Site, partition_id: int) -> Message:
    """Reply with the client's partition id and number of videos, or with an error if its list cannot be read."""
    try:
        num_examples = len(read_annotations(list_path(site, partition_id)))
    except Exception as error:
        return _failure(message, error)
    facts = MetricRecord({"partition-id": partition_id, "num-examples": num_examples})
    return Message(RecordDict({CLIENT: facts}), reply_to=message)


def answer(message: Message, *, site: Site, partition_id: int) -> Message:
    """Reply to a training message. An exception becomes an error of one line, with its traceback in the log."""
    folder = client_folder(site, partition_id)
    log = _open_log(folder / "train.log")
    try:
        content = train_client(message.content, site=site, partition_id=partition_id, write=log.info)
        return Message(content, reply_to=message)
    except Exception as error:
        log.exception("failed")
        initial_task.cache_clear()  # its state is unknown
        return _failure(message, error, f" (traceback in {folder / 'train.log'})")
    finally:
        for handler in log.handlers[:]:
            log.removeHandler(handler)
            handler.close()


def train_client(content: RecordDict, *, site: Site, partition_id: int, write: Callable[[str], None]) -> RecordDict:
    """Train for one round; `write` takes progress lines.

    Raises:
        ValueError: if the client's videos, list or head are missing, or the arrays do not fit the model.
    """
    started = time.perf_counter()
    received: Any = content[ARRAYS]
    arrays, order = unpack(received), _read_order(content)
    annotations = read_annotations(list_path(site, partition_id))
    folder = client_folder(site, partition_id)
    task, own = initial_task(json.dumps(order.config), frozenset(arrays))
    keeps = own or order.config["training"]["keep_optimizer"]
    kept = load_arrays(head_path(folder, order.head_round)) if keeps and order.head_round else own
    load_state(task, {name: kept[name] for name in own} | arrays)
    session = start_session(task, order, kept, device=site.device)
    results = train_epochs(session, order, annotations, site=site, partition_id=partition_id, write=write)
    task.zero_grad()  # frees their memory until the next client
    state = to_arrays(task)
    if keeps:
        save_head(folder, {name: state[name] for name in own} | session.optimizer_arrays(), order)
    reply = pack({name: state[name] for name in arrays})
    facts: dict[str, Any] = summarise(results) | {"num-examples": len(annotations)}
    facts["bytes-down"] = sum(len(array.data) for array in received.values())
    facts["seconds-on-client"] = time.perf_counter() - started
    return RecordDict({ARRAYS: reply, METRICS: MetricRecord(facts)})


@lru_cache(maxsize=1)
def initial_task(config: str, sent: frozenset[str]) -> tuple[Any, Arrays]:
    """Build a task, and copy the initial arrays that the server does not send.

    The last task is cached: one process trains many clients, and building a task takes longer than sending its arrays.
    `load_state` overwrites everything that a cached task has learned.

    Args:
        config: the server's configuration as JSON text.
        sent: names of the arrays that the server sends.
    """
    settings = json.loads(config)
    seed_torch((settings["seed"],))  # every client starts from the head of the server's model
    task = build_task(settings)
    return task, {name: array.copy() for name, array in to_arrays(task).items() if name not in sent}


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
        task: what `wrapped` wraps.
        keeps_optimizer: its state is kept for later rounds.
        steps: number of steps of the optimizer so far, earlier rounds included if its state is kept.
    """

    fabric: Any
    task: Any
    wrapped: Any
    optimizer: Any
    keeps_optimizer: bool
    steps: int

    def optimizer_arrays(self) -> Arrays:
        return state_arrays(self.optimizer, self.task, steps=self.steps) if self.keeps_optimizer else {}


def start_session(task: Any, order: Order, kept: Arrays, *, device: str) -> Session:
    """Put a task on the device, with a new optimizer or the state that `kept` holds of it."""
    training = order.config["training"]
    fabric = build_fabric(device=device, precision=training["precision"])
    optimizer = build_optimizer(training, task, on_gpu=fabric.device.type == "cuda")
    wrapped, optimizer = set_up(fabric, task, optimizer, compiled=training["compile"])
    return Session(
        *(fabric, task, wrapped, optimizer, training["keep_optimizer"]),
        steps=load_optimizer(optimizer, task, kept),
    )


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
    training, sample = order.config["training"], build_sample(order.config)
    results = []
    for epoch in range(training["local_epochs"]):
        key = (order.config["seed"], order.server_round, partition_id, epoch)
        seed_torch(key)
        loader = train_loader(
            ClipDataset(Path(site.media_dir), annotations, sample, seed_key=key),
            batch_size=training["batch_size"],
            num_workers=site.num_workers,
            on_gpu=session.fabric.device.type == "cuda",
        )
        label = f"round {order.server_round}  epoch {epoch + 1}/{training['local_epochs']}  batch"
        progress = Progress(label, len(loader), write=write)
        result = train_epoch(
            session.fabric,
            session.wrapped,
            session.optimizer,
            loader,
            max_norm=training["max_norm"],
            lr_factor=lambda step, done=session.steps: order.lr_factor * warm_up(done + step, training["warmup_steps"]),
            report=lambda step, _, means, progress=progress: progress.update(
                step, lambda: f"loss {float(means['loss']):.3f}"
            ),
        )
        session.steps += len(loader)
        write(f"{result.clips_per_second:.1f} clips/s, {100 * result.data_share:.1f} % of the time waiting for data")
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


def _failure(message: Message, error: Exception, where: str = "") -> Message:
    """Reply of one line about an exception."""
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}{where}"
    return Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=reason), reply_to=message)


def _read_order(content: RecordDict) -> Order:
    told: Any = content[CONFIG]
    rounds = (int(told[name]) for name in ("server-round", "head-round"))
    return Order(json.loads(told["config"]), *rounds, lr_factor=float(told["lr-factor"]))


def _open_log(path: Path) -> logging.Logger:
    path.parent.mkdir(parents=True, exist_ok=True)
    log = logging.getLogger(f"fedvssl.client.{path.parent.name}")
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s"))
    log.setLevel(logging.INFO)
    log.propagate = False  # to this file only; the server logs the important facts
    log.addHandler(handler)
    return log
