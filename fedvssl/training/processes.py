"""One run in several processes: one per GPU, or several on the CPU, each with its decoding workers."""

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn


def check_devices(*, device: str, devices: int) -> None:
    """Refuse what the machine does not have, before anything is started.

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
    """Says where a run computes: "2 CPU processes (no GPU here), 32-true"."""
    kind = "GPU" if fabric.device.type == "cuda" else "CPU"
    number = f"{fabric.world_size} {kind} process{'es' if fabric.world_size > 1 else ''}"
    return f"{number}{'' if torch.cuda.is_available() else ' (no GPU here)'}, {fabric._precision.precision}"


def synchronise_batch_norm(fabric: Fabric, module: nn.Module) -> nn.Module:
    """BatchNorm over the clips of all GPUs; on the CPU, where PyTorch has none, each process normalises its own."""
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    return module


def adopt_statistics(fabric: Fabric, module: nn.Module) -> None:
    """Give every process the running statistics of process 0, which are the model's.

    Without synchronised BatchNorm each process has its own after a step, and an evaluation would mix several models.
    """
    if fabric.world_size > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)


def reduce(fabric: Fabric, values: Tensor, *, how: str) -> Tensor:
    """ "sum" or "mean" over the processes: a tensor of the same shape on the CPU."""
    reduced = fabric.all_reduce(values.to(fabric.device), reduce_op=how)
    assert isinstance(reduced, Tensor)
    return reduced.cpu()


def sentence(error: Exception) -> str:
    """The message of an error, without the traceback that a decoding worker puts before it."""
    name = type(error).__qualname__
    module = type(error).__module__
    return str(error).strip().splitlines()[-1].removeprefix(f"{module}.{name}: ").removeprefix(f"{name}: ")
