"""Whether an earlier checkpoint belongs to the run that is asked for: the same settings, the same file contents.

A run that silently goes on under other settings, or counts as finished with another data set, is worse than a refusal.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

Settings = dict[str, Any]
# Raised where settings or class paths get other names: a run that was begun under the earlier ones is refused as such.
NAMES = {"names of settings": 2}


def run_settings(config: Mapping[str, Any], *, free: Collection[str], files: Mapping[str, Path]) -> Settings:
    """What decides the numbers of a run.

    Args:
        config: nested settings.
        free: dotted names of settings that may change between two starts, such as places and the machine.
        files: what is read, by a name that does not depend on the place. Their SHA-256 becomes part of the settings.

    Returns:
        {"names of settings": 2, "training.lr": 0.01, ..., "contents of <name>": "<sha256>"}
    """
    settings = {name: value for name, value in _flat(config) if name not in free}
    return {**NAMES, **settings, **{f"contents of {name}": sha256(path) for name, path in files.items()}}


def last_checkpoint(path: Path, settings: Settings) -> dict[str, Any] | None:
    """The checkpoint to go on from; None if there is none.

    Raises:
        ValueError: if it is no checkpoint of a run, or of one with other settings; names the first that differs.
    """
    from fedvssl.files.tensors import load_torch  # a report needs the rest of this file, and no torch

    if not path.is_file():
        return None
    last = load_torch(path)
    if not isinstance(last, dict) or "settings" not in last:
        raise ValueError(f"{path} is no checkpoint of a run that can be continued: give another work_dir.")
    if change := first_change(last["settings"], settings):
        raise ValueError(f"{path} is of another run, {change}: give another work_dir or remove this one.")
    return last


def first_change(before: Settings, settings: Settings) -> str | None:
    """The first setting in which two starts differ, as part of a sentence; None if they share all."""
    if any(before.get(name) != settings.get(name) for name in NAMES):
        return "begun with an earlier version of fedvssl, which this one cannot continue"
    for name in sorted({*before, *settings}):
        old, new = before.get(name), settings.get(name)
        if old != new:
            return f"{name} differ now" if name.startswith("contents of") else f"{name} was {old} and is {new} now"
    return None


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
