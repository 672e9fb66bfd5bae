"""The training loop, written once: federated clients and fine-tuning run `train_epoch`."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fedvssl.tasks.task import Batch
from fedvssl.training.memory import keep_freed_memory, release_freed_memory
from fedvssl.training.precision import choose_device, choose_precision

Report = Callable[[int, int, dict[str, Tensor]], None]


@dataclass(frozen=True)
class EpochResult:
    """Means per clip (with "loss") of one epoch, its number of clips, its seconds of waiting for data and computing."""

    metrics: dict[str, float]
    num_clips: int
    seconds_data: float
    seconds_compute: float

    @property
    def clips_per_second(self) -> float:
        return self.num_clips / max(self.seconds_data + self.seconds_compute, 1e-9)

    @property
    def data_share(self) -> float:
        """Fraction of the time spent waiting for data."""
        return self.seconds_data / max(self.seconds_data + self.seconds_compute, 1e-9)


def build_fabric(*, device: str = "auto", devices: int = 1, precision: str = "auto") -> Fabric:
    """Start Fabric.

    Args:
        device: "cpu", "cuda" or "auto" (CUDA where there is one).
        devices: number of processes.
        precision: a Fabric precision, or "auto": bfloat16 autocast where the device computes in it natively.
    """
    device, precision = choose_device(device), choose_precision(precision, device=device)
    if device == "cuda":
        torch.backends.cudnn.benchmark = True  # the shapes of a run do not change, so trying the algorithms pays
    else:
        keep_freed_memory()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it logs the precision of every Fabric
    fabric = Fabric(accelerator=device, devices=devices, precision=precision)  # pyright: ignore[reportArgumentType]
    fabric.launch()
    return fabric


def seed_torch(key: Sequence[int]) -> None:
    """Seed torch's generators (initial weights, dropout) from a tuple such as (seed, round, partition, epoch)."""
    torch.manual_seed(int(np.random.SeedSequence(list(key)).generate_state(1, np.uint64)[0] >> 1))


def set_up(
    fabric: Fabric, task: nn.Module, *, lr: float, momentum: float, weight_decay: float, compiled: bool = False
) -> tuple[Any, torch.optim.SGD]:
    """Move a task to the device and make its optimizer, both for `train_epoch`.

    SGD updates all parameters, with weight decay on each, normalisation included, as published. On a GPU the weights
    get the memory layout of the clips (channels_last_3d) and one kernel updates them; on a CPU neither is faster.
    `compiled` compiles the model with torch, which takes a minute and fuses the layers between the convolutions.
    """
    on_gpu = fabric.device.type == "cuda"
    if on_gpu:
        task.to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue, reportArgumentType]
    optimizer = torch.optim.SGD(
        task.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay, fused=on_gpu or None
    )
    if compiled:
        task = torch.compile(task)  # pyright: ignore[reportAssignmentType]
    return fabric.setup(task, optimizer)  # pyright: ignore[reportReturnType]


def train_epoch(
    fabric: Fabric,
    task: Any,
    optimizer: Any,
    loader: DataLoader,
    *,
    max_norm: float,
    report: Report | None = None,
) -> EpochResult:
    """Train over one loader.

    Args:
        fabric: the one that set up `task` and `optimizer`.
        task, optimizer: wrapped by `fabric.setup`.
        loader: yields batches on the CPU.
        max_norm: gradients are clipped to this L2 norm.
        report: called after each step with (steps done, steps in all, running means). The means are 0-d tensors on the
            device. Reading one waits for the device, so read only the means to print.

    Returns:
        metrics: means of the task's scalars; "grad_norm" and "grad_norm_max", mean and largest L2 norm of the gradients
            before clipping; "clipped_share", the fraction of steps above `max_norm`.

    Raises:
        ValueError: if the mean loss or a weight is not finite at the end of the epoch.
    """
    task.train()
    release_freed_memory(loader)
    sums: dict[str, Tensor] = {}
    norms: list[Tensor] = []  # one for each step, left on the device: reading it would wait
    num_clips, seconds_data, started = 0, 0.0, time.perf_counter()
    for step, (batch, waited) in enumerate(_timed(loader), start=1):
        seconds_data += waited
        batch = fabric.to_device(batch)
        with torch.no_grad():
            batch = task.module.augment(batch)
        scalars = task(batch)
        optimizer.zero_grad()
        fabric.backward(scalars["loss"])
        norm = fabric.clip_gradients(task, optimizer, max_norm=max_norm, error_if_nonfinite=False)
        optimizer.step()
        assert norm is not None, "clip_gradients returns the norm that it clips to `max_norm`"
        norms.append(norm)
        size = len(batch["index"])
        num_clips += size
        for name, value in scalars.items():
            sums[name] = sums.get(name, 0.0) + value.detach() * size
        if report is not None:
            report(step, len(loader), {name: total / num_clips for name, total in sums.items()})
    metrics = {name: float(total) / num_clips for name, total in sums.items()}
    if not (math.isfinite(metrics["loss"]) and all(bool(weight.isfinite().all()) for weight in task.parameters())):
        raise ValueError("The training diverged, loss or weights are not finite any more: lower training.lr.")
    all_norms = torch.stack(norms).cpu()
    metrics |= {"grad_norm": float(all_norms.mean()), "grad_norm_max": float(all_norms.max())}
    metrics["clipped_share"] = float((all_norms > max_norm).float().mean())
    seconds = time.perf_counter() - started
    return EpochResult(metrics, num_clips, seconds_data, seconds - seconds_data)


def _timed(loader: Iterable[Batch]) -> Iterable[tuple[Batch, float]]:
    """Each batch with the seconds that the loop waited for it."""
    batches = iter(loader)
    while True:
        started = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - started
