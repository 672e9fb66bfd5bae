"""Embeddings of a frozen encoder, computed once for each picture and kept in files.

The name of a file is a hash of what the encoder gets, below a folder that is named by a hash of the encoder's weights
and the precision: so a file fits, or it is not found. Shapes: B pictures, C channels, h w places.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedvssl.tasks.task import Batch


class Embeddings:
    """The files, and the hash of the encoder.

    Args:
        folder: of the files; None computes each time anew.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder, self._digest = folder, ""

    def forget(self) -> None:
        """Hash the weights anew at the next use."""
        self._digest = ""

    def of(self, batch: Batch, embed: Callable[[Tensor], Tensor], encoder: nn.Module) -> Tensor:
        """Embeddings of a batch, [B,C,h,w].

        Args:
            batch: "pixels" float32 [B,3,S,S] and "key" uint8 [B,16], a hash of each picture.
            embed: computes them, without gradients.
            encoder: holds the weights by which it does.
        """
        pixels = batch["pixels"]
        if self.folder is None:
            return embed(pixels).float()
        place = self.folder / self._name(encoder, pixels)
        paths = [place / f"{bytes(key).hex()}.npy" for key in batch["key"].cpu().numpy()]
        found = [_load(path) for path in paths]
        missing = [index for index, own in enumerate(found) if own is None]
        if missing:
            new = embed(pixels[missing]).float().cpu().numpy()
            for index, own in zip(missing, new, strict=True):
                found[index] = own
                _save(paths[index], own)
        return torch.from_numpy(np.stack([own for own in found if own is not None])).to(pixels.device)

    def _name(self, encoder: nn.Module, pixels: Tensor) -> str:
        """Name of the folder for these weights and this precision."""
        if not self._digest:
            digest = hashlib.blake2b(digest_size=16)
            for name, tensor in encoder.state_dict().items():
                digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
            self._digest = digest.hexdigest()
        device = pixels.device.type
        mixed = torch.is_autocast_enabled(device)
        precision = torch.get_autocast_dtype(device) if mixed else pixels.dtype
        return f"{self._digest}-{str(precision).removeprefix('torch.')}"


def _load(path: Path) -> np.ndarray | None:
    """The array of a file; None if there is none, or it is not whole, as after a power cut."""
    with suppress(OSError, ValueError, EOFError):
        return np.load(path, allow_pickle=False)
    return None


def _save(path: Path, array: np.ndarray) -> None:
    """Write a file whole or not at all; several clients may write the same one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npy")
    np.save(temporary, array)
    os.replace(temporary, path)
