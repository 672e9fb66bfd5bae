"""Pickles from elsewhere, read without running anything in them.

Normal unpickling calls every function that a file names. Here `find_class` of an unpickler leads each name to a
stand-in or to an error, so a hostile file has nothing to call. Every stand-in is a class with its own `__setstate__`:
without one, pickle's BUILD would set the attributes that the file names, and so change this program.
"""

import io
import pickletools
from typing import Any, BinaryIO

MOST_STEPS = 5_000_000  # of a pickle: of a checkpoint they are some thousands
MEMO = ("PUT", "BINPUT", "LONG_BINPUT")


def next_pickle(file: BinaryIO) -> io.BytesIO:
    """The next pickle of a file, which goes on behind it; walking over it costs no more memory than its bytes.

    Raises:
        ValueError: if it is damaged, or would fill the memory: by its number of steps, or by a place in the table of
            objects that is beyond them, up to which the table would be allocated.
    """
    start = file.tell()
    for number, (step, argument, _position) in enumerate(pickletools.genops(file)):
        if number >= MOST_STEPS or (step.name in MEMO and isinstance(argument, int) and argument > number + 1):
            raise ValueError("a pickle that would fill the memory")
    end = file.tell()
    file.seek(start)
    return io.BytesIO(file.read(end - start))


class Skipped:
    """Stand-in for an object of a class that no checkpoint needs; it ignores what it is given."""

    def __init__(self, *_arguments: object, **_named: object) -> None: ...

    def __new__(cls, *_arguments: object, **_named: object) -> "Skipped":
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None: ...

    def __call__(self, *_arguments: object, **_named: object) -> "Skipped":
        return Skipped()

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, _item: object) -> None: ...

    def extend(self, _items: object) -> None: ...

    def add(self, _item: object) -> None: ...


class Table(dict):
    """Stand-in for an OrderedDict, which torch gives attributes, and for a defaultdict."""

    def __init__(self, items: Any = ()) -> None:
        super().__init__(items if isinstance(items, list | tuple | dict) else ())

    def __setstate__(self, state: object) -> None: ...
