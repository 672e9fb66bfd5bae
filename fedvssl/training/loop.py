"""The training loop, written once: federated clients and fine-tuning run `train_epoch`."""

import copy
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fedvssl.files.parent import end_what_starts_with_this
from fedvssl.tasks.task import Batch
from fedvssl.training.memory import keep_freed_memory, release_freed_memory
from fedvssl.training.precision import choose_device, choose_precision
from fedvssl.training.schedule import scale_lr

Report = Callable[[int, int, dict[str, Tensor]], None]
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the dimensions of a tensor


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
    if devices > 1 and "LOCAL_RANK" not in os.environ:
        end_what_starts_with_this()  # the other processes
    fabric = Fabric(accelerator=device, devices=devices, precision=precision)  # pyright: ignore[reportArgumentType]
    fabric.launch()
    return fabric


def seed_torch(key: Sequence[int]) -> None:
    """Seed torch's generators (initial weights, dropout) from a tuple such as (seed, round, partition, epoch).

    Zeros at the end of a key do not count: numpy fills a short key up with them, so (7,) and (7, 0, 0, 0) are one
    stream. Equal starts rest on that: the random row of an evaluation, the start of a federated run and fine-tuning
    from scratch have the same weights for one seed, and docs/results.md compares them so. Dropout in the first epoch of
    fine-tuning begins the stream from which its initial weights came.
    """
    torch.manual_seed(int(np.random.SeedSequence(list(key)).generate_state(1, np.uint64)[0]) >> 1)


def set_up(fabric: Fabric, task: nn.Module, optimizer: torch.optim.Optimizer, *, compiled: bool = False) -> Any:
    """Move a task and its optimizer to the device, both for `train_epoch`: (task, optimizer), wrapped by Fabric.

    On a GPU the weights get the memory layout of the clips or pictures (channels_last); on a CPU it is not faster.
    `compiled` compiles the model with torch, which takes a minute and fuses the layers between the convolutions.
    """
    if fabric.device.type == "cuda":
        channels_last(task)
    if compiled:
        task = torch.compile(task)  # pyright: ignore[reportAssignmentType]
    return fabric.setup(task, optimizer)


def channels_last(task: nn.Module) -> None:
    """Lay out the weights of convolutions with the channels last, in place."""
    for weight in task.parameters():
        weight.data = weight.data.to(memory_format=CHANNELS_LAST.get(weight.ndim, torch.preserve_format))


def train_epoch(
    fabric: Fabric,
    task: Any,
    optimizer: Any,
    loader: DataLoader,
    *,
    max_norm: float,
    lr_factor: Callable[[int], float] | None = None,
    report: Report | None = None,
) -> EpochResult:
    """Train over one loader.

    Args:
        fabric: the one that set up `task` and `optimizer`.
        task, optimizer: wrapped by `fabric.setup`.
        loader: yields batches on the CPU.
        max_norm: gradients are clipped to this L2 norm.
        lr_factor: factor of the configured learning rates in each step, counted from 0; None leaves them as they are.
        report: called after each step with (steps done, steps in all, running means). The means are 0-d tensors on the
            device. Reading one waits for the device, so read only the means to print.

    Returns:
        metrics: means of the task's scalars and instruments; "grad_norm" and "grad_norm_max", mean and largest L2 norm
            of the gradients before clipping; "clipped_share", the fraction of steps above `max_norm`.

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
        if lr_factor is not None:
            scale_lr(optimizer, lr_factor(step - 1))
        size = len(batch["index"])
        with torch.no_grad():
            batch = task.module.augment(fabric.to_device(batch))
        scalars = task(batch)
        optimizer.zero_grad()
        fabric.backward(scalars["loss"])
        norm = fabric.clip_gradients(task, optimizer, max_norm=max_norm, error_if_nonfinite=False)
        scalars |= instruments(task.module, batch)
        optimizer.step()
        if hasattr(task.module, "after_step"):
            task.module.after_step()
        assert norm is not None, "clip_gradients returns the norm that it clips to `max_norm`"
        norms.append(norm)
        num_clips += size
        sums |= {name: sums.get(name, 0.0) + value.detach() * size for name, value in scalars.items()}
        if report is not None:
            report(step, len(loader), {name: total / num_clips for name, total in sums.items()})
    metrics = {name: float(total) / num_clips for name, total in sums.items()} | norm_metrics(norms, max_norm=max_norm)
    _check_finite(metrics["loss"], task)
    seconds = time.perf_counter() - started
    return EpochResult(metrics, num_clips, seconds_data, seconds - seconds_data)


def _check_finite(loss: float, task: nn.Module) -> None:
    if not (math.isfinite(loss) and all(bool(weight.isfinite().all()) for weight in task.parameters())):
        raise ValueError("The training diverged, loss or weights are not finite any more: lower training.lr.")


def metric_names(task: nn.Module, batch: Batch) -> list[str]:
    """Names of the metrics that `train_epoch` reports of a task, in its order, found by one step on the CPU.

    Args:
        task: a Task; not changed, nor are torch's random numbers.
        batch: as a loader yields it.
    """
    with torch.random.fork_rng():
        task = copy.deepcopy(task).train()
        with torch.no_grad():
            batch = task.augment(batch)  # pyright: ignore[reportCallIssue]
        if hasattr(task, "start_round"):
            task.start_round()  # pyright: ignore[reportCallIssue]
        scalars = task(batch)
        scalars["loss"].backward()
        found = scalars | instruments(task, batch) | norm_metrics([torch.zeros(())], max_norm=1.0)
        if hasattr(task, "after_step"):
            task.after_step()  # pyright: ignore[reportCallIssue]
    return list(found)


def norm_metrics(norms: Sequence[Tensor], *, max_norm: float) -> dict[str, float]:
    """Mean and largest of the gradient norms of all steps, and the share of those above `max_norm`."""
    found = torch.stack(list(norms)).cpu()
    clipped = float((found > max_norm).float().mean())
    return {"grad_norm": float(found.mean()), "grad_norm_max": float(found.max()), "clipped_share": clipped}


def instruments(task: Any, batch: Batch) -> Batch:
    """Scalars of the optional methods of a task; see `fedvssl.tasks.task.Task`."""
    with torch.no_grad():
        trivial = task.trivial(batch) if hasattr(task, "trivial") else {}
        health = task.health() if hasattr(task, "health") else {}
    return {f"trivial_{name}": loss for name, loss in trivial.items()} | health


def _timed(loader: Iterable[Batch]) -> Iterable[tuple[Batch, float]]:
    """Each batch with the seconds that the loop waited for it."""
    batches = iter(loader)
    while True:
        started = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - started
