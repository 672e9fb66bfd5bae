"""Inputs of a client: the server's order and its own site."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fedvssl.data.dataset import NumWorkers
from fedvssl.wire import wire


@dataclass(frozen=True)
class Order:
    """Order of the server in one message.

    Args:
        config: "model", "task", "training" and "seed" of the configuration, as JSON text.
        server_round: from 1.
        head_round: round of the head to continue from, 0 for the head of the initial model.
        lr_factor: factor of the configured learning rates in this round.
    """

    config: str
    server_round: int
    head_round: int
    lr_factor: float

    @classmethod
    def read(cls, sent: wire.Order) -> "Order":
        """Order in the settings that came; an entry that is missing or of another type raises."""
        rounds = (int(sent[name]) for name in ("server-round", "head-round"))
        return cls(str(sent["config"]), *rounds, lr_factor=float(sent["lr-factor"]))


@dataclass(frozen=True)
class Training:
    """What an order tells to train, built.

    Args:
        task: with initial weights from `seed`.
        sample: the task's work on one video, see tasks/task.py.
        build_optimizer: (task, on_gpu=...) -> a new optimizer.
        settings: section "training" of the configuration.
        seed: of the run.
    """

    task: Any
    sample: Any
    build_optimizer: Callable[..., Any]
    settings: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class Site:
    """Places and resources of a client, which no message contains.

    Args:
        media_dir: folder of the videos.
        partition_dir: folder of `client_dist<partition_id + 1>.json`.
        state_dir: parent of the clients' own folders, each with heads and a log.
        device: "cpu", "cuda" or "auto".
        num_workers: processes that decode; see `train_loader`.
    """

    media_dir: str
    partition_dir: str
    state_dir: str
    device: str = "auto"
    num_workers: NumWorkers = "auto"
