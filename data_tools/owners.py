"""Raw videos in the folders of their owners -> names, owners, classes; training and test lists, one for each owner."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedvssl.data.annotations import Annotation, write_annotations
from fedvssl.data.partition import uniform
from fedvssl.data.validation import hold_out
from fedvssl.files.lock import owned

from .partition import write_partition
from .raw_videos import find_raw_videos, name_by_path

FIRST_FOLDER = "first-folder"


@dataclass(frozen=True)
class Video:
    """A raw video: its name in the data set, its owner, and its class; "" if it lies in no folder of a class."""

    name: str
    raw: Path
    owner: str
    label: str


def look(folder: Path, owners: str, *, seed: int) -> list[Video]:
    """Find all videos with their owners and classes, sorted by name.

    Args:
        folder: with the videos.
        owners: `first-folder`, or a number of owners that are made up.

    Raises:
        ValueError: if there is no video, no owner or one alone, or a video lies beside the owners' folders.
    """
    if not folder.is_dir():
        raise ValueError(f"No folder {folder}: --videos is the folder with the videos of all owners.")
    match = name_by_path(find_raw_videos(folder), folder)
    for reason in match.doubtful.values():
        print(f"left out: {reason}")
    named = dict(sorted(match.found.items()))
    parts = {name: raw.relative_to(folder).parts[:-1] for name, raw in named.items()}
    if owners == FIRST_FOLDER:
        if beside := [raw for name, raw in named.items() if not parts[name]]:
            raise ValueError(f"{beside[0]} lies in no owner's folder: move it into one, or give --owners <number>.")
        of_owner = {name: own[0] for name, own in parts.items()}
        classes = {name: "/".join(own[1:]) for name, own in parts.items()}
    else:
        number = owner_number(owners, most=len(named))
        rows = uniform([0] * len(named), number, seed=seed)
        names = list(named)
        of_owner = {names[index]: f"owner {row + 1}" for row, part in enumerate(rows) for index in part}
        classes = {name: "/".join(own) for name, own in parts.items()}
    found = [Video(name, raw, of_owner[name], classes[name]) for name, raw in named.items()]
    if len({video.owner for video in found}) < 2:
        raise ValueError(f"{folder} has one owner, {found[0].owner}: a federation has two or more; give --owners 2.")
    return found


def owner_number(text: str, *, most: int) -> int:
    """Number of owners; ValueError if it is none, or there are fewer videos."""
    if not text.isdigit() or int(text) < 2:
        raise ValueError(f"--owners {text}: give {FIRST_FOLDER}, or a number of owners, at least 2.")
    if int(text) > most:
        raise ValueError(f"--owners {text}: there are {most} videos.")
    return int(text)


def labels_of(videos: Sequence[Video]) -> dict[str, int]:
    """Class -> zero-based label; one class for all if a video has none."""
    classes = sorted({video.label for video in videos})
    return dict.fromkeys(classes, 0) if "" in classes else {name: label for label, name in enumerate(classes)}


def has_classes(videos: Sequence[Video]) -> bool:
    """True if there are two classes or more to evaluate with."""
    return len({*labels_of(videos).values()}) > 1


def held_out_of(videos: Sequence[Video], share: float, *, seed: int) -> set[str]:
    """Names of the videos that no client trains on: about this share of each owner's and class's, never all of them.

    Videos of one group, by the names of UCF-101, stay together.

    Raises:
        ValueError: if that is none, or no share.
    """
    pairs = {pair: number for number, pair in enumerate(sorted({(video.owner, video.label) for video in videos}))}
    grouped = [Annotation(video.name, pairs[video.owner, video.label]) for video in videos]
    _, held_out = hold_out(grouped, share, seed=seed)
    return {annotation.name for annotation in held_out}


def write_lists(videos: Sequence[Video], held_out: set[str], folder: Path) -> None:
    """Write the training list, the test list of what is held out, and a list for each owner, in the order of names."""
    labels = labels_of(videos)
    listed = {video.name: Annotation(video.name, labels[video.label]) for video in videos}
    trained = [video for video in videos if video.name not in held_out]
    with owned(folder, writes=("*.json",)):
        write_annotations(folder / "train_split_1.json", [listed[video.name] for video in trained])
        write_annotations(folder / "test_split_1.json", [listed[name] for name in sorted(held_out)])
    owners = sorted({video.owner for video in trained})
    parts = [np.flatnonzero([video.owner == owner for video in trained]) for owner in owners]
    write_partition([listed[video.name] for video in trained], parts, folder / "client_distribution", owners=owners)
