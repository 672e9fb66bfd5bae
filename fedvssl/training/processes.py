"""One run in several processes: one per GPU, or several on the CPU, each with its decoding workers."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from fedvssl.files.ending import end_code, end_word, failed, interruptible, one_line

PATIENCE = 5.0  # seconds that a process gives another one to fail first


def exit_code(command: Callable[[], object]) -> int:
    """Run a command. Returns 0, 2 after printing a user's mistake in one sentence, or 130 or 143 if interrupted."""
    try:
        with interruptible():
            command()
    except (ValueError, OSError) as error:
        return failed(sentence(error), code=2)
    except KeyboardInterrupt as error:
        return failed(f"{end_word(error)}; run the same command again to go on.", code=end_code(error))
    return 0


@contextmanager
def ending_together(fabric: Fabric) -> Iterator[None]:
    """End all processes if one fails; only that one reports the reason.

    Otherwise the others would wait for it, or fail in turn with a traceback about a lost connection.

    Raises:
        SystemExit: in process 0, with the exit code of another process that has failed.
        ChildProcessError: in process 0, if another process was killed.
    """
    children = getattr(fabric.strategy.launcher, "procs", [])  # of process 0, which has started them
    try:
        yield
    except BaseException as error:
        # Fabric's observer kills process 0 if one in this list fails. An empty list leaves it time to end in order.
        own, children[:] = list(children), []
        try:
            if fabric.global_rank > 0:
                time.sleep(PATIENCE)  # process 0 may fail for the same reason; it ends this one then
            elif fabric.world_size > 1 and isinstance(error, RuntimeError):
                _follow(own)  # the connection to another process may be lost
            raise
        finally:
            for child in own:
                child.kill()
                child.wait()


def _follow(children: Sequence[subprocess.Popen]) -> None:
    """End like the first child that fails; return if none does."""
    deadline = time.monotonic() + 2 * PATIENCE
    while time.monotonic() < deadline:
        for child in children:
            code = child.poll()
            if code and code < 0:
                raise ChildProcessError(f"Another process of this run was killed by signal {-code}: too little memory?")
            if code:
                raise SystemExit(code)  # it has reported the reason
        time.sleep(0.1)


def check_devices(*, device: str, devices: int) -> None:
    """Reject devices that the machine does not have, before anything starts.

    Args:
        device: "cpu", "cuda" or "auto".
        devices: number of processes, one per GPU where GPUs are used.

    Raises:
        ValueError: for an unknown device, no process, or more processes than GPUs.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device={device} is unknown: choose auto, cpu or cuda.")
    if not isinstance(devices, int) or devices < 1:
        raise ValueError(f"devices={devices} is not a number of processes: give 1 or more.")
    num_gpus = torch.cuda.device_count()
    on_gpus = device == "cuda" or (device == "auto" and num_gpus > 0)
    if on_gpus and devices > num_gpus:
        raise ValueError(f"{devices} GPUs are asked for and {num_gpus} are here: lower devices, or set device=cpu.")


def where(fabric: Fabric) -> str:
    """Devices and precision of a run: "2 CPU processes (no GPU here), 32-true"."""
    kind = "GPU" if fabric.device.type == "cuda" else "CPU"
    number = f"{fabric.world_size} {kind} process{'es' if fabric.world_size > 1 else ''}"
    return f"{number}{'' if torch.cuda.is_available() else ' (no GPU here)'}, {fabric._precision.precision}"


def synchronise_batch_norm(fabric: Fabric, module: nn.Module) -> nn.Module:
    """Make BatchNorm use the clips of all GPUs. On the CPU PyTorch cannot, so each process normalises its own clips."""
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    return module


def adopt_statistics(fabric: Fabric, module: nn.Module) -> None:
    """Copy the running statistics of process 0 to all: without synchronised BatchNorm every process has its own."""
    if fabric.world_size > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)


def reduce(fabric: Fabric, values: Tensor, *, how: str) -> Tensor:
    """Reduce by "sum" or "mean" over the processes, to a tensor of the same shape on the CPU."""
    reduced = fabric.all_reduce(values.to(fabric.device), reduce_op=how)
    assert isinstance(reduced, Tensor)
    return reduced.cpu()


def sentence(error: Exception) -> str:
    """The message of an error, or its class, without the traceback that a decoding worker puts before it."""
    name = type(error).__qualname__
    module = type(error).__module__
    lines = (one_line(error) if isinstance(error, OSError) else str(error)).strip().splitlines()
    return (
        lines[-1].removeprefix(f"{module}.{name}: ").removeprefix(f"{name}: ") if lines else f"{name}, without a word"
    )
