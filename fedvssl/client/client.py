"""A client: it answers an order of the server with trained arrays and facts.

The order gives model, task, training and rule; `Site` gives the data and the device. So the same client serves a
simulation, a single process and a real federation.

What the rule keeps, under FedVSSL the pretext head, is saved in a file for each round before the reply, and with it the
optimizer's state if `training.keep_optimizer` is true. The order names the file to continue from, that of the last
round in which this client's reply counted. So a head of an interrupted round or of a reply that came too late is never
used.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedvssl.client.order import Order, Site
from fedvssl.client.state import client_folder, load_kept, save_kept
from fedvssl.data.annotations import read_annotations
from fedvssl.files.arrays import Arrays
from fedvssl.files.settings import sha256
from fedvssl.wire import wire

if TYPE_CHECKING:  # torch is imported when a client trains: each message to a node starts a process
    from fedvssl.client.training import LocalTraining

Build = Callable[[str, frozenset[str]], "LocalTraining"]
Answer = tuple[Arrays, wire.Facts]


class ClientError(RuntimeError):
    """The client cannot do what it was asked to; the message is one line."""


@dataclass(frozen=True)
class Client:
    """One client.

    Args:
        partition_id: decides its list, `client_dist<partition_id + 1>.json`, and its folder.
        site: its places and resources.
        build: builds what an order tells to train, from its configuration as JSON text and the names that arrive.
        build_stepping: builds what answers the messages of a round of many steps, from the same text; None: nothing.
    """

    partition_id: int
    site: Site
    build: Build
    build_stepping: Callable[[str], Any] | None = None

    def introduce(self) -> wire.Facts:
        """Who it is: partition id, owner; its list: number of videos, SHA-256; the precisions that it computes in.

        Raises:
            ClientError: if its list cannot be read.
        """
        path, own = self.site.list_path(self.partition_id), self.site
        try:
            numbers = {"partition-id": self.partition_id, "num-examples": len(read_annotations(path))}
            return {**numbers, "owner": own.owner, "list": sha256(path), "precisions": list(own.precisions)}
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
                if action == wire.STEP and self.build_stepping is not None:
                    (answer,) = self._step({self.partition_id: (arrays, order)}, here=False).values()
                    if isinstance(answer, Exception):
                        raise answer
                    return answer
                if action != wire.TRAIN:
                    raise ValueError(f"a client cannot '{action}'")
                return self._train(arrays, Order.read(order), write=log.info)
            except Exception as error:
                log.exception("failed")
                local_training.cache_clear()  # its state is unknown
                raise ClientError(f"{one_line(error)} (traceback in {folder / 'train.log'})") from error

    def answer_together(self, orders: Mapping[int, tuple[Arrays, wire.Order]]) -> Mapping[int, Answer | Exception]:
        """Answer a step's messages to all clients of this process in one go, this client being any of them.

        Returns:
            By partition id the answer, or what went wrong with this client alone.
        """
        return self._step(orders, here=True)

    def _step(self, orders: Mapping[int, tuple[Arrays, wire.Order]], *, here: bool) -> Mapping[int, Answer | Exception]:
        """Answer messages of a step; `here` if all of these clients' messages come to this process."""
        assert self.build_stepping is not None, "who asks for steps has given it"
        config = next(str(order["config"]) for _, order in orders.values())
        return stepping(self.build_stepping, config).answer(
            orders, lambda own: read_annotations(self.site.list_path(own)), self.site, here=here
        )

    def _train(self, arrays: Arrays, order: Order, *, write: Callable[[str], None]) -> tuple[Arrays, wire.Facts]:
        """Train for one round with what the client keeps; `write` takes progress lines."""
        from fedvssl.client.training import Videos

        started = time.perf_counter()
        folder = client_folder(self.site, self.partition_id)
        videos = Videos(read_annotations(self.site.list_path(self.partition_id)), self.partition_id)
        training = local_training(self.build, order.config, frozenset(arrays))
        continues = training.keeps and order.kept_round
        kept = load_kept(folder, order.kept_round) if continues else {}
        trained, facts, kept = training.train(arrays, order, kept, videos=videos, site=self.site, write=write)
        if training.keeps:
            save_kept(folder, kept, order)
        return trained, {**facts, "seconds-on-client": time.perf_counter() - started}


@lru_cache(maxsize=1)
def local_training(build: Build, config: str, sent: frozenset[str]) -> "LocalTraining":
    """Build what an order tells to train.

    The last one is cached: one process trains many clients, and building a task takes longer than sending its arrays.

    Args:
        build: as of a `Client`; it sets the seed, so that every client starts from the head of the server's model.
        config: the order's configuration as JSON text.
        sent: names of the arrays that the server sends.
    """
    return build(config, sent)


@lru_cache(maxsize=1)
def stepping(build: Callable[[str], Any], config: str) -> Any:
    """Build what answers the messages of a step; the last one is cached, with the state of its clients."""
    return build(config)


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
