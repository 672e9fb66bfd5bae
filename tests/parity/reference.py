"""The stored numbers of the reference code and the deterministic weights they were computed with."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

FIXTURES = Path(__file__).parent / "fixtures"


def load_npz(name: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def load_json(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def hash_uniform(size: int, key: int) -> np.ndarray:
    """Deterministic values in [0, 1): element i of state entry number `key`."""
    mask = np.uint64(0xFFFFFFFF)
    x = (np.arange(size, dtype=np.uint64) + np.uint64(2654435761 * (key + 1) & 0xFFFFFFFF)) & mask
    for _ in range(2):
        x = (((x >> np.uint64(16)) ^ x) * np.uint64(0x45D9F3B)) & mask
    return ((x >> np.uint64(16)) ^ x).astype(np.float64) / 2**32


def hash_input(shape: Sequence[int], key: int, low: float = -2, high: float = 2) -> torch.Tensor:
    values = low + (high - low) * hash_uniform(int(np.prod(shape)), key)
    return torch.from_numpy(values.reshape(shape).astype(np.float32))


def hash_weights(module: nn.Module, first_key: int = 0) -> None:
    """Fill a module's state with deterministic weights; entry k of the state uses key first_key + k."""
    state = module.state_dict()
    for position, (name, value) in enumerate(state.items()):
        u = hash_uniform(value.numel(), first_key + position)
        state[name] = torch.from_numpy(_scale(name, tuple(value.shape), u).reshape(value.shape)).to(value.dtype)
    module.load_state_dict(state)


def _scale(name: str, shape: tuple[int, ...], u: np.ndarray) -> np.ndarray:
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.zeros_like(u)
    if len(shape) >= 2:
        return (2 * u - 1) * np.sqrt((6 if len(shape) > 2 else 3) / np.prod(shape[1:]))
    return {"running_var": 0.5 + u, "running_mean": 0.2 * u - 0.1, "weight": 0.5 + u, "bias": 0.4 * u - 0.2}[kind]
