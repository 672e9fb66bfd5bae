"""Tensors of a .pth, read without torch.load: objects of other classes beside them are skipped, nothing is run.

torch.load(weights_only=True) refuses a whole file for one settings object, answers in terms of its own options, and
unpacks whatever its entries claim. Both forms are read: the zip of PyTorch 1.6 and later, and the older row of pickles.
"""

import io
import math
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZipFile

import torch
from torch import Tensor

from fedvssl.files.foreign import UNPACK, UnfitError, in_one_sentence, open_zip
from fedvssl.files.names import shown
from fedvssl.files.unpickling import Skipped, Table, next_pickle

OLD_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of the older form
MOST_DEPTH = 50  # of dictionaries and lists in each other
DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}


def read_pth(path: Path | str) -> tuple[Any, list[str]]:
    """Content of a .pth on the CPU, and the names of the classes whose objects were skipped.

    Returns:
        dictionaries, lists, numbers, texts and tensors as they were saved, with a `Skipped` for any other object.

    Raises:
        UnfitError: if it is damaged or no .pth.
    """
    with in_one_sentence(path), Path(path).open("rb") as file:
        if file.read(2) == b"PK":
            with open_zip(path) as archive:
                content, skipped = _read_zip(path, archive)
        else:
            file.seek(0)
            content, skipped = _read_old(path, file)
        return _resolved(content, {}, depth=0), sorted(skipped)


def _read_zip(path: Path | str, archive: ZipFile) -> tuple[Any, set[str]]:
    names = archive.namelist()
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(roots) != 1:
        inside = f", such as {shown(names[0])}" if names else ""
        raise UnfitError(f"{path} is an archive of other files{inside}: {UNPACK}.")
    root = roots[0]
    if f"{root}constants.pkl" in names:
        raise UnfitError(f"{path} is a TorchScript program, not a checkpoint: save its state_dict() instead.")
    if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != sys.byteorder.encode():
        raise UnfitError(f"{path} was written on a machine of another byte order: save it as .safetensors there.")

    def check(key: str, num_bytes: int) -> None:
        if archive.getinfo(f"{root}data/{key}").file_size != num_bytes:
            raise EOFError

    unpickler = _Tensors(next_pickle(io.BytesIO(archive.read(f"{root}data.pkl"))), check)
    content = unpickler.load()
    for key, storage in unpickler.storages.items():
        with archive.open(f"{root}data/{key}") as entry:
            _fill(storage, entry)
    return content, unpickler.skipped


def _read_old(path: Path | str, file: BinaryIO) -> tuple[Any, set[str]]:
    """The older form: four pickles, of which the last is the content; keys of the storages; the storages."""
    limit, claimed = Path(path).stat().st_size, 0

    def check(_key: str, num_bytes: int) -> None:
        nonlocal claimed
        claimed += num_bytes
        if claimed > limit:
            raise EOFError

    if file.read(1) != b"\x80":
        raise UnfitError(f"{path} is no checkpoint: give an .npz, .pth or .safetensors file.")
    file.seek(0)
    if _Tensors(next_pickle(file), check).load() != OLD_MAGIC:
        raise UnfitError(f"{path} is a pickle of another program, which is not read: save its weights as .safetensors.")
    for _ in ("protocol", "system"):
        next_pickle(file)
    unpickler = _Tensors(next_pickle(file), check)
    content = unpickler.load()
    keys = _Tensors(next_pickle(file), check).load()
    for key in keys:
        storage = unpickler.storages[key]
        num_items = int.from_bytes(file.read(8), "little")
        if num_items != storage.num_items:
            raise EOFError
        _fill(storage, file)
    if {*keys} != {*unpickler.storages}:
        raise EOFError
    return content, unpickler.skipped


@dataclass
class _Storage:
    """A row of numbers, whose bytes follow the pickle."""

    dtype: torch.dtype
    num_items: int
    buffer: bytearray

    def __setstate__(self, state: object) -> None:
        raise ValueError("a storage has no state")


def _fill(storage: _Storage, file: Any) -> None:
    if file.readinto(storage.buffer) != len(storage.buffer):
        raise EOFError


class _Tensor:
    """Stand-in for torch's functions that rebuild a tensor from its storage: a view, not made yet."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_options: object) -> None:
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def __setstate__(self, state: object) -> None: ...

    def tensor(self) -> Tensor | Skipped:
        """The tensor, which may share memory with others of its storage; skipped if the storage was.

        Raises:
            ValueError: if it reaches beyond its storage.
        """
        if isinstance(self.storage, Skipped):
            return Skipped()
        numbers = [self.offset, *self.size, *self.stride]
        if not isinstance(self.storage, _Storage) or any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError("no view of a storage")
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        num_items = math.prod(self.size)
        if num_items == 0:
            return torch.empty(self.size, dtype=self.storage.dtype)
        if last >= self.storage.num_items or num_items > self.storage.num_items:
            raise ValueError("a view beyond its storage")
        flat = torch.frombuffer(self.storage.buffer, dtype=self.storage.dtype)
        return flat.as_strided(self.size, self.stride, self.offset)


class _Parameter:
    """Stand-in for `_rebuild_parameter`, whose first argument is the tensor."""

    def __new__(cls, tensor: object, *_options: object) -> Any:
        return tensor

    def __setstate__(self, state: object) -> None: ...


STAND_INS: dict[tuple[str, str], type] = {
    ("torch._utils", "_rebuild_tensor"): _Tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_parameter"): _Parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _Parameter,
    ("collections", "OrderedDict"): Table,
    ("collections", "defaultdict"): Table,
    ("torch", "Size"): tuple,
}


class _Tensors(pickle.Unpickler):
    """Unpickler that knows the stand-ins, and skips objects of all other classes.

    Args:
        file: one pickle.
        check: is called with the key of a storage and its number of bytes before they are allocated.
    """

    def __init__(self, file: BinaryIO, check: Callable[[str, int], None]) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self._check = check
        self.storages: dict[str, _Storage] = {}
        self.skipped: set[str] = set()

    def find_class(self, module_name: str, global_name: str) -> Any:
        """The stand-in of a class that the pickle names; the type of a storage is its dtype, in a class of its own."""
        if module_name in ("torch", "torch.cuda") and global_name in DTYPES:
            return type(global_name, (Skipped,), {"dtype": DTYPES[global_name]})
        if stand_in := STAND_INS.get((module_name, global_name)):
            return stand_in
        self.skipped.add(f"{module_name}.{global_name}")
        return type("Skipped", (Skipped,), {})

    def persistent_load(self, pid: Any) -> Any:
        """A storage, by ("storage", type, key, device, number of items); the older form adds a view of it or None.

        The older form also names the class of a whole module in this way, with its source.
        """
        if pid[0] == "module":
            return type("Skipped", (Skipped,), {})  # `find_class` has told its name
        kind, storage_type, key, _device, num_items, *view = pid
        dtype = getattr(storage_type, "dtype", None)
        if kind != "storage" or type(key) is not str or type(num_items) is not int or num_items < 0 or any(view):
            raise ValueError("no storage")
        if not isinstance(dtype, torch.dtype):
            return Skipped()
        if key not in self.storages:
            self._check(key, num_items * dtype.itemsize)
            self.storages[key] = _Storage(dtype, num_items, bytearray(num_items * dtype.itemsize))
        found = self.storages[key]
        if (found.dtype, found.num_items) != (dtype, num_items):
            raise ValueError("a storage of two types")
        return found


def _resolved(item: Any, done: dict[int, Any], *, depth: int) -> Any:
    """Make the tensors in nested containers; `done` holds those that were met before, by identity."""
    if isinstance(item, _Tensor):
        return item.tensor()
    if not isinstance(item, dict | list | tuple):
        return item
    if depth > MOST_DEPTH:
        raise ValueError("nested too deeply")
    if id(item) in done:
        return done[id(item)]
    if isinstance(item, dict):
        table = done[id(item)] = {}
        table.update((key, _resolved(value, done, depth=depth + 1)) for key, value in item.items())
        return table
    row = done[id(item)] = []
    row.extend(_resolved(value, done, depth=depth + 1) for value in item)
    if isinstance(item, tuple):
        done[id(item)] = tuple(row)
    return done[id(item)]
