"""Places of results: one of other settings is never overwritten.

A checkpoint is told by its path: results of a file that was replaced by another one of its name are overwritten.
"""

import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedvssl.files.atomic import read_json
from fedvssl.files.settings import first_change

Conditions = Mapping[str, Any]  # what decides a result, by the names of the settings
CHECKPOINT = "checkpoint_from_here"  # entry of a result: its checkpoint as a path from the folder of the result


def from_here(checkpoint: str | Path, folder: Path) -> str:
    """Path of a checkpoint from a folder, which stays the same if both move together; other words stay as they are."""
    path = Path(checkpoint).expanduser()
    return os.path.relpath(path.resolve(), folder.resolve()) if path.is_file() else str(checkpoint)


def change_in(path: Path, now: Conditions, conditions: Callable[[Mapping[str, Any]], Conditions]) -> str | None:
    """Name what differs in an earlier result, as part of a sentence; None if there is none or all is the same.

    Args:
        path: of the JSON.
        now: conditions of the result to write.
        conditions: returns the conditions of a result.
    """
    if not path.is_file():
        return None
    result = read_json(path)
    if not (isinstance(result, dict) and CHECKPOINT in result):
        return "it is of an earlier version, which recorded less"
    return first_change(dict(conditions(result)), dict(now))


def free_folder(folder: Path, change: Callable[[Path], str | None]) -> Path:
    """The first of <folder>, <folder>-2, <folder>-3, ... that holds no result of other settings.

    Args:
        folder: where a result belongs if there is no other.
        change: returns what differs in the earlier result in a folder, see `change_in`.
    """
    names = itertools.chain([folder.name], (f"{folder.name}-{number}" for number in itertools.count(2)))
    return next(place for place in map(folder.with_name, names) if change(place) is None)


def refuse_other(path: Path, change: str | None) -> None:
    """Reject a folder that the user has named and that holds a result of other settings.

    Raises:
        ValueError: naming the first setting that differs.
    """
    if change:
        raise ValueError(f"{path} is a result of other settings ({change}): name another work_dir, or remove it.")
