"""Memory that a client takes, estimated from the step with which a run is tried out."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

PROCESS = 1.2e9  # bytes of a client's process before its first step: Python, PyTorch, Flower
CONTEXT = 0.7e9  # bytes of a GPU that a process takes before its first step
COPIES = 4  # weights, their gradients, and two more for the optimizer
MESSAGES = 4  # as sent, as received, as loaded, as replied
WORKSPACE = 1.8  # of what the backward pass needs: gradients of activations and buffers of the convolutions


@dataclass
class Saved:
    """Bytes that forward passes have saved for their backward passes, weights included."""

    num_bytes: int = 0


@contextmanager
def saved_for_backward() -> Iterator[Saved]:
    """Count what the block saves for backward passes; a tensor that several operations save counts once."""
    saved, seen = Saved(), set()

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            saved.num_bytes += storage.nbytes()
        return tensor

    with saved_tensors_hooks(count, lambda tensor: tensor):
        yield saved


def client_bytes(
    saved: Saved, task: nn.Module, training: Mapping[str, Any], *, samples: int, on_gpu: bool
) -> dict[str, int]:
    """Estimate the bytes of a client while it trains.

    Args:
        saved: of one step of `samples` samples in float32.
        task: whose step it was.
        training: section of the configuration, with a precision other than "auto".
        on_gpu: True if it trains on a GPU.

    Returns:
        "memory" of its machine, and "gpu", 0 without one.
    """
    weights = sum(entry.nbytes for entry in task.state_dict().values())
    of_a_sample = max(0, saved.num_bytes - weights) / samples * (1 if training["precision"] == "32-true" else 0.5)
    step = COPIES * weights + WORKSPACE * of_a_sample * training["batch_size"]
    process = PROCESS + MESSAGES * weights
    return {"memory": int(process if on_gpu else process + step), "gpu": int(CONTEXT + step) if on_gpu else 0}
