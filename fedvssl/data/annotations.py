"""Annotation files: JSON lists of `{"name": "<Class>/<stem>", "label": 1-based}`.

Labels are one-based on disk, as published, and zero-based in Python; only this file converts them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fedvssl.files.atomic import write_json
from fedvssl.files.names import check_name
from fedvssl.files.text import read_json_text

MOST_CLASSES = 100_000  # a label is a place among the outputs of a head, so a high one is a mistake


@dataclass(frozen=True)
class Annotation:
    """One video: `name` is its path below the video folder without an ending, `label` is its zero-based class."""

    name: str
    label: int


def read_annotations(path: Path) -> list[Annotation]:
    """Read an annotation file.

    Raises:
        ValueError: if the file is missing, empty or not a JSON list, an entry has no label from 1 to `MOST_CLASSES` or
            no name that stays inside the video folder, or a name comes twice.
    """
    entries = read_json_text(found_list(path))
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path} holds no list of videos: write it again with data_tools.")
    annotations = [_annotation(entry, where=f"{path}, entry {n}") for n, entry in enumerate(entries, start=1)]
    label_of: dict[str, int] = {}
    for name, label in ((annotation.name, annotation.label) for annotation in annotations):
        if name in label_of:
            labels = f"the labels {label_of[name] + 1} and {label + 1}" if label_of[name] != label else "two entries"
            raise ValueError(f"{path} gives {name} {labels}: mend it.")
        label_of[name] = label
    return annotations


def found_list(path: Path) -> Path:
    """The path itself; ValueError if nothing is there."""
    if not path.exists():
        raise ValueError(
            f"No annotation file {path}: prepare the data set (scripts/prepare_<data set>.sh, or data_tools.prepare), "
            "or set data_dir, data=<name> or data.split."
        )
    return path


def write_annotations(path: Path, annotations: Iterable[Annotation]) -> None:
    """Write an annotation file, labels one-based, whole or not at all."""
    entries = [{"name": annotation.name, "label": annotation.label + 1} for annotation in annotations]
    write_json(path, entries)


def class_names(annotations: Iterable[Annotation]) -> dict[int, str]:
    """Zero-based label -> name of the class, in the order of the labels.

    The name is the last folder of the first video with that label, or the one-based label if there is no folder.
    """
    names: dict[int, str] = {}
    for annotation in annotations:
        names.setdefault(annotation.label, PurePosixPath(annotation.name).parent.name or str(annotation.label + 1))
    return dict(sorted(names.items()))


def _annotation(entry: Any, *, where: str) -> Annotation:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name:
        raise ValueError(f'{where}: no "name"; expected {{"name": "<Class>/<stem>", "label": 1}}.')
    check_name(name, where=where)
    label = entry.get("label")
    if not isinstance(label, int) or isinstance(label, bool) or not 1 <= label <= MOST_CLASSES:
        raise ValueError(f'{where} ({name}): "label" is no whole number from 1 to {MOST_CLASSES}.')
    return Annotation(name=name, label=label - 1)


def lists_in(partition_dir: str | Path, pool_size: int) -> list[Path]:
    """Files of the clients' lists, in the order of the clients."""
    return [Path(partition_dir, f"client_dist{number}.json") for number in range(1, pool_size + 1)]


def number_of_lists(folder: Path, pool_size: int, *, at_least: int) -> int:
    """Number of the clients' lists in a folder.

    Raises:
        ValueError: if there are fewer than `at_least`, or more are missing than are there.
    """
    num_files = len(list(folder.glob("client_dist*.json")))
    if not num_files:
        raise ValueError(
            f"No client_dist<N>.json in {folder}: make the partition (data_tools.partition or a "
            "scripts/prepare_<data set>.sh), or set data_dir or partition_dir."
        )
    if num_files < pool_size and (2 * num_files < pool_size or num_files < at_least):
        raise ValueError(
            f"pool_size={pool_size}, but {folder} holds the lists of {num_files} clients: "
            f"set pool_size={num_files} or make the partition again."
        )
    return num_files
