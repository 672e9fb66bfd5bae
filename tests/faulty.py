"""A pretext task that fails where it is told to."""

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

import torch

from fedvssl.tasks.ctp import CtP
from fedvssl.training.loop import seed_torch


class FaultyCtP(CtP):
    """Catch-the-Patch with faults such as "kill-1-0": the process dies in round 1 at the client of partition 0.

    "raise-..." raises, "hang-..." does not come back. The seed that the client sets tells round and partition.
    """

    def __init__(self, backbone: Any, *, faults: Sequence[str], seed: int, **ctp: Any) -> None:
        super().__init__(backbone, **ctp)
        self.faults = [fault.split("-") for fault in faults]
        self.seed = seed

    def forward(self, batch: Any) -> Any:
        for kind, server_round, partition_id in self.faults:
            if torch.initial_seed() == seed_of((self.seed, int(server_round), int(partition_id), 0)):
                fail(kind)
        return super().forward(batch)


def seed_of(key: tuple[int, ...]) -> int:
    with torch.random.fork_rng():
        seed_torch(key)
        return torch.initial_seed()


def fail(kind: str) -> None:
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    while kind == "hang":
        time.sleep(1)
    raise RuntimeError("told to fail")
