"""Inputs of a client: the server's order and its own site."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedvssl.files.names import client_number
from fedvssl.wire import wire

if TYPE_CHECKING:  # a client introduces itself without torch
    from fedvssl.data.dataset import NumWorkers


@dataclass(frozen=True)
class Order:
    """Order of the server in one message.

    Args:
        config: "model", "task", "training", "rule" and "seed" of the configuration, as JSON text.
        server_round: from 1.
        kept_round: round of the file to continue from, 0 for a first contact.
        lr_factor: factor of the configured learning rates in this round.
    """

    config: str
    server_round: int
    kept_round: int
    lr_factor: float

    @classmethod
    def read(cls, sent: wire.Order) -> "Order":
        """Order in the settings that came; an entry that is missing or of another type raises."""
        rounds = (int(sent[name]) for name in ("server-round", "kept-round"))
        return cls(str(sent["config"]), *rounds, lr_factor=float(sent["lr-factor"]))


@dataclass(frozen=True)
class Site:
    """Places and resources of a client, which no message contains.

    Args:
        media_dir: folder of the videos.
        partition_dir: folder of `client_dist<partition_id + 1>.json`.
        state_dir: parent of the clients' own folders, each with what it keeps and a log.
        device: "cpu", "cuda" or "auto".
        num_workers: processes that decode; see `train_loader`.
        list_file: the list of the only client here, in the place of one in partition_dir.
        owner: name of whom it belongs to, "" if it has none.
        precisions: those that the device computes in, see `training.precision`; empty if nobody has looked.
    """

    media_dir: str
    partition_dir: str
    state_dir: str
    device: str = "auto"
    num_workers: "NumWorkers" = "auto"
    list_file: str | None = None
    owner: str = ""
    precisions: tuple[str, ...] = ()

    def list_path(self, partition_id: int) -> Path:
        """File of a client's list."""
        name = f"client_dist{client_number(partition_id)}.json"
        return Path(self.partition_dir, name) if self.list_file is None else Path(self.list_file)
