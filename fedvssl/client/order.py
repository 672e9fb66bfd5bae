"""Inputs of a client: the server's order and its own site."""

from dataclasses import dataclass
from typing import Any

from fedvssl.data.dataset import NumWorkers


@dataclass(frozen=True)
class Order:
    """Order of the server in one message.

    Args:
        config: "model", "task" and "training" of the configuration, and "seed".
        server_round: from 1.
        head_round: round of the head to continue from, 0 for the head of the initial model.
        lr_factor: factor of the configured learning rates in this round.
    """

    config: dict[str, Any]
    server_round: int
    head_round: int
    lr_factor: float


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
