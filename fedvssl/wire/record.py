"""Named arrays in Flower's messages, without needless copies.

An ArrayRecord is Flower's class. The word "record" alone means a line of metrics.jsonl.
"""

import math
import re
from collections.abc import Mapping
from pickle import PickleBuffer
from typing import Any

import flwr.app
import numpy as np
from flwr.app import Array
from flwr.common.constant import SType

from fedvssl.files.arrays import Arrays, npy_header

# Parts of a message; a client introduces itself with numbers and with texts.
ARRAYS, METRICS, CONFIG, CLIENT, OWNER = "arrays", "metrics", "config", "client", "owner"
HEADER_BYTES = 1024  # upper bound for an .npy header; arrays of up to a dozen dimensions have 128
# An .npy 1.0 of numbers as numpy writes it. Its own reader would parse the text of a stranger as Python.
HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<>|][biufc]\d{1,2})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,18}, ?)*(?:\d{1,18})?)\), \} *\n",
    flags=re.DOTALL,
)


class ArrayRecord(flwr.app.ArrayRecord):
    """Flower's record with its numbers pickled out of band (PEP 574).

    The simulation pickles every message. Ray writes out-of-band buffers straight into shared memory, where the receiver
    reads them; bytes inside the pickle would be copied on the way in and out.
    The class keeps Flower's name, because Flower writes it into messages between machines.
    """

    def __reduce_ex__(self, protocol: Any) -> Any:
        wrap = PickleBuffer if protocol >= 5 else bytes
        return _from_parts, ([(name, a.dtype, a.shape, a.stype, wrap(a.data)) for name, a in self.items()],)


def pack(arrays: Mapping[str, np.ndarray]) -> ArrayRecord:
    """Put arrays into a record that can be sent; they are copied unless they are views on one already."""
    packed = ArrayRecord()
    for name, array in arrays.items():
        packed[name] = _to_flower(np.asarray(array, order="C"))
    return packed


def unpack(packed: flwr.app.ArrayRecord) -> Arrays:
    """Views on the arrays of a record, see `view`."""
    return {name: view(array) for name, array in packed.items()}


def num_bytes(packed: flwr.app.ArrayRecord) -> int:
    return sum(len(array.data) for array in packed.values())


def view(array: Array) -> np.ndarray:
    """Read-only view of a Flower array's numbers; `Array.numpy` would copy them.

    Raises:
        ValueError: if its bytes are not the .npy file of an array of numbers, neither more nor less.
    """
    header = HEADER.match(bytes(array.data[:HEADER_BYTES]))
    if array.stype != SType.NUMPY or header is None:
        raise ValueError(f"an array comes as '{array.stype}' and not as .npy 1.0 of numbers")
    dtype, shape = np.dtype(header[1].decode()), tuple(map(int, re.findall(rb"\d+", header[3])))
    if len(array.data) - header.end() != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an array has {len(array.data) - header.end()} bytes, which are no {dtype} {shape}")
    flat = np.frombuffer(array.data, dtype, count=math.prod(shape), offset=header.end())
    return flat.reshape(shape, order="F" if header[2] == b"True" else "C")


def _to_flower(array: np.ndarray) -> Array:
    """Convert as `Array(array)` does, with one copy instead of three, none for a view; `array` is C-contiguous."""
    data = _viewed(array) or b"".join((npy_header(array), array.data))
    return Array(dtype=str(array.dtype), shape=array.shape, stype=SType.NUMPY, data=data)


def _viewed(array: np.ndarray) -> bytes | None:
    """The .npy file that an array of `unpack` is a view of; None for any other array."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    header = npy_header(array)
    if not (isinstance(base, bytes) and base.startswith(header) and len(base) == len(header) + array.nbytes):
        return None
    begins = np.frombuffer(base, np.uint8).ctypes.data + len(header)
    return base if array.flags.c_contiguous and array.ctypes.data == begins else None


def _from_parts(parts: list[tuple[str, str, tuple[int, ...], str, Any]]) -> ArrayRecord:
    packed = ArrayRecord()
    for name, dtype, shape, stype, data in parts:
        packed[name] = Array(dtype=dtype, shape=shape, stype=stype, data=b"")
        packed[name].data = memoryview(data).toreadonly()  # pyright: ignore  # not copied into the bytes that it asks for
    return packed
