"""The clients' lists compared with the videos of tests: whatever pre-trains must not have seen what it is judged by."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedvssl.data.annotations import Annotation, read_annotations
from fedvssl.data.seen import PRETRAINING, may_see_tests, merged, read_seen, refuse_test_videos, seen_facts, seen_videos
from fedvssl.data.splits import split_list
from fedvssl.data.validation import hold_out
from fedvssl.files.arrays import Arrays

log = logging.getLogger(__name__)
Lists = Mapping[str, Sequence[Annotation]]  # by the names of their files


def check_client_lists(config: Mapping[str, Any]) -> Arrays:
    """Reject clients, and a backbone to start from, that see test videos: of the data set's split, and of the server's.

    Args:
        config: of a pre-training.

    Returns:
        The record of the videos of the clients and of `init`, see `fedvssl.data.seen`.

    Raises:
        ValueError: if they see test videos and data.allow_test_videos is false.
    """
    data, folder = config["data"], Path(config["partition_dir"])
    lists = read_lists(folder / f"client_dist{number}.json" for number in range(1, config["pool_size"] + 1))
    before = {} if config["init"] is None else read_seen(Path(config["init"]).expanduser())
    sections = [data, *_own_section_of_the_server(config)]
    found: list[Annotation] = []
    allowed: list[Annotation] = []
    for section in sections:
        found += compare_with_tests(section, lists)
        if split_list(section, "test").is_file():
            tested = read_annotations(split_list(section, "test"))
            seen_facts({**section, "validation": None}, tested, before, checkpoint=f"init={config['init']}")
            allowed += tested if may_see_tests(data) else []
    if found:
        log.warning("The clients train on %d test videos (data.allow_test_videos=true).", len({*found}))
    _tell_of_validation_videos(data, lists)
    videos = (video for own in lists.values() for video in own)
    return merged(before, seen_videos(data, videos, stage=PRETRAINING, allowed=allowed))


def _own_section_of_the_server(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The server's evaluation if it has another test list of the same videos; the names of others say nothing."""
    data, own = config["data"], config["eval"]
    same_videos = os.path.realpath(own["media_dir"]) == os.path.realpath(data["media_dir"])
    if own["every"] is None or not same_videos or split_list(own, "test") == split_list(data, "test"):
        return []
    return [{**data, **{name: own[name] for name in ("annotation_dir", "split")}}]


def read_lists(files: Iterable[Path]) -> dict[str, list[Annotation]]:
    """Read the clients' lists; one that cannot be read trains nobody, and other checks tell of it."""
    lists = {}
    for file in files:
        try:
            lists[str(file)] = read_annotations(file)
        except ValueError:
            continue
    return lists


def compare_with_tests(data: Mapping[str, Any], lists: Lists, *, section: str = "") -> list[Annotation]:
    """Return the test videos in the clients' lists, if they are allowed there.

    Args:
        data: annotation_dir, split, allow_test_videos.
        lists: of the clients.
        section: of the configuration in which a user sets partition_dir, if it is not the whole.

    Raises:
        ValueError: if they are not; see `refuse_test_videos`.
    """
    path = split_list(data, "test")
    if not path.is_file():
        log.info("There is no %s, so the clients' lists cannot be compared with test videos.", path)
        return []
    advice = f"make a partition of train_split_{data['split']}.json and name it with partition_dir=<folder>"
    advice += f" in {section}" if section else ""
    return refuse_test_videos(data, lists, read_annotations(path), advice=advice)


def _tell_of_validation_videos(data: Mapping[str, Any], lists: Lists) -> None:
    """Warn of held-out videos in the lists of clients."""
    path = split_list(data, "train")
    if data["validation"] is None or not path.is_file():
        return
    _, held_out = hold_out(read_annotations(path), data["validation"], seed=data["validation_seed"])
    names = {video.name for video in held_out}
    if seen := names & {video.name for own in lists.values() for video in own}:
        log.warning(
            "data.validation=%s: the clients train on %d of the %d videos that it holds out, without labels.",
            *(data["validation"], len(seen), len(names)),
        )
