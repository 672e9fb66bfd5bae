"""Small checkpoints in every form that is read, and ways to damage their bytes and contents."""

import bz2
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.common import ndarrays_to_parameters
from safetensors.torch import save
from torch import Tensor

from tests.reliability.changes import pick

State = dict[str, Tensor]
Rng = np.random.Generator
WITHOUT_CHECKSUM = ("old pth", "safetensors")  # forms in which changed numbers cannot be noticed


def as_npz(state: State, *, compressed: bool = False) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **{n: t.numpy() for n, t in state.items()})  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def as_published(state: State) -> bytes:
    buffer = io.BytesIO()
    arrays = [tensor.numpy() for tensor in state.values()]
    np.savez(buffer, np.array(ndarrays_to_parameters(arrays), dtype=object))
    return buffer.getvalue()


def as_pth(content: Any, *, old: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


FORMS: dict[str, Callable[[State], bytes]] = {
    "npz": as_npz,
    "packed npz": lambda state: as_npz(state, compressed=True),
    "published npz": as_published,
    "pth": lambda state: as_pth({"epoch": 3, "state_dict": state, "args": Path("x")}),
    "old pth": lambda state: as_pth({"state_dict": state}, old=True),
    "safetensors": save,
}


def cut(data: bytearray, rng: Rng) -> None:
    del data[int(rng.integers(0, len(data))) :]


def flip(data: bytearray, rng: Rng) -> None:
    for place in rng.integers(0, len(data), int(rng.integers(1, 9))):
        data[place] ^= 1 << int(rng.integers(0, 8))


def flip_ends(data: bytearray, rng: Rng) -> None:
    """Where headers and tables of contents are."""
    for _ in range(int(rng.integers(1, 5))):
        place = int(rng.integers(0, min(600, len(data))))
        data[place if rng.random() < 0.5 else -1 - place] = int(rng.integers(0, 256))


def blank(data: bytearray, rng: Rng) -> None:
    start, length = int(rng.integers(0, len(data))), int(rng.integers(1, 5000))
    data[start : start + length] = bytes(len(data[start : start + length]))


def shift(data: bytearray, rng: Rng) -> None:
    start, length = int(rng.integers(0, len(data))), int(rng.integers(1, 300))
    if rng.random() < 0.5:
        del data[start : start + length]
    else:
        data[start:start] = rng.bytes(length)


def claim(data: bytearray, rng: Rng) -> None:
    """Replace digits of a text header, or four bytes of a binary one, by a huge number."""
    if digits := [place for place, byte in enumerate(data[:20000]) if chr(byte).isdigit()]:
        data[pick(rng, digits)] = ord("9")
    marks = [place for mark in (b"PK\x01\x02", b"PK\x03\x04") if (place := data.find(mark)) >= 0]
    place = pick(rng, marks) + int(rng.integers(4, 40)) if marks else int(rng.integers(0, 60))
    data[place : place + 4] = struct.pack("<I", int(pick(rng, (0, 0xFFFFFFFF, 0x7FFFFFFF, 1 << 20))))


DAMAGES: dict[str, Callable[[bytearray, Rng], None]] = {
    "cut short": cut,
    "flipped bits": flip,
    "other bytes at its ends": flip_ends,
    "zeroed": blank,
    "shifted": shift,
    "with other sizes": claim,
}


def change_content(state: State, rng: Rng) -> State:
    """A state that must not be accepted: a name, a shape, a type or a number is wrong."""
    state, name = dict(state), pick(rng, [*state])
    weight = pick(rng, [one for one in state if one.endswith("weight")])
    changes: list[Callable[[], Any]] = [
        lambda: state.pop(name),
        lambda: state.update({f"{name}x": state.pop(name)}),
        lambda: state.update({"backbone.layer9.weight": torch.zeros(1)}),
        lambda: state.update({weight: torch.zeros(*state[weight].shape, 2)}),
        lambda: state.update({weight: state[weight].reshape(-1)[:-1]}),
        lambda: state.update({weight: state[weight].to(torch.complex64)}),
        lambda: state.update({weight: state[weight].to(torch.int32)}),
        lambda: state.update({weight: torch.full_like(state[weight], pick(rng, (np.nan, np.inf)))}),
    ]
    pick(rng, changes)()
    return state


class Calls:
    """Pickles to a call of `function(*arguments)`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@cache
def hostile_files(marker: Path) -> dict[str, Callable[[], bytes]]:
    """Files that would run something, fill the memory, or are no checkpoints; made when they are called for."""
    touch = Calls(os.system, f"touch {marker}")
    shape = "{'descr': '<f4', 'fortran_order': False, 'shape': (%d,), }" % 10**12  # noqa: UP031
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(shape)) + shape.encode()
    entry = {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}
    table = json.dumps({"backbone.stem.conv.weight": entry}).encode()
    old_magic = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
    return {
        "call in a pth": lambda: as_pth({"state_dict": touch}),
        "call in an old pth": lambda: as_pth({"state_dict": touch}, old=True),
        "call in an npz": lambda: zipped({"backbone.x.npy": pickle.dumps(touch)}),
        "call in a plain pickle": lambda: pickle.dumps(touch),
        "memo far away": lambda: zipped({"a/data.pkl": b"\x80\x02]r\xff\xff\xff\xff."}),
        "memo far away, old": lambda: old_magic + b"\x80\x02]r\xff\xff\xff\x7f.",
        "bytes far beyond": lambda: zipped({"a/data.pkl": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x."}),
        "huge storage": lambda: zipped({"a/data.pkl": _storage(10**12), "a/data/0": b"1234"}),
        "huge array": lambda: zipped({"backbone.x.npy": header}),
        "huge tensor": lambda: struct.pack("<Q", len(table)) + table,
        "huge table": lambda: struct.pack("<Q", 1 << 60) + b"{}",
        "packed zeros": packed_zeros,
        "deep lists": lambda: zipped({"a/data.pkl": b"(" * 100_000 + b"l" * 100_000 + b"."}),
        "deep header": lambda: struct.pack("<Q", 200_001) + b"{" + b"[" * 200_000,
        "bzip2 inside": lambda: zipped({"backbone.x.npy": b"x" * 99}, zipfile.ZIP_BZIP2),
        "lzma inside": lambda: zipped({"backbone.x.npy": b"x" * 99}, zipfile.ZIP_LZMA),
        "encrypted": lambda: _marked_encrypted(zipped({"backbone.x.npy": b"x" * 99})),
        "zip of another kind": lambda: zipped({"readme.txt": b"hello"}),
        "empty zip": lambda: zipped({}),
        "empty": lambda: b"",
        "zeros": lambda: bytes(1000),
        "web page": lambda: b"<!DOCTYPE html><html><title>Virus scan warning</title></html>",
        "pointer of git-lfs": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1234\n",
        "server's message": lambda: b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        "gzip": lambda: b"\x1f\x8b" + bytes(50),
        "bzip2": lambda: bz2.compress(b"x"),
        "text": lambda: b"hello\x1b[2J",
        "whole module": lambda: as_pth(torch.nn.Linear(2, 2)),
        "numbers": lambda: as_pth([1, 2]),
    }


@cache
def packed_zeros() -> bytes:
    """A small zip that unpacks to more than a GiB; making it takes seconds."""
    return zipped({f"{n}.npy": bytes(1 << 20) for n in range(1100)}, zipfile.ZIP_DEFLATED)


def zipped(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression, compresslevel=1) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _storage(num_items: int) -> bytes:
    """Pickle of a persistent id: a storage of that many floats."""
    number = b"\x8a\x08" + struct.pack("<q", num_items)
    return b"\x80\x02(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu" + number + b"tQ."


def _marked_encrypted(data: bytes) -> bytes:
    """Set the flag of the first entry in the table of contents."""
    place = data.index(b"PK\x01\x02") + 8
    return data[:place] + b"\x01" + data[place + 1 :]
