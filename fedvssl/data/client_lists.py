"""The clients' lists compared with the videos of tests: whatever pre-trains must not have seen what it is judged by."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fedvssl.data.annotations import Annotation, read_annotations
from fedvssl.data.seen import PRETRAINING, merged, record_of_start, refuse_test_videos, seen_facts, seen_videos
from fedvssl.data.split import Split
from fedvssl.data.validation import validation_videos
from fedvssl.files.arrays import Arrays

log = logging.getLogger(__name__)
Lists = Mapping[str, Sequence[Annotation]]  # by the names of their files


def check_client_lists(data: Split, files: Iterable[Path], server: Split | None, *, init: str | None) -> Arrays:
    """Reject clients, and a backbone to start from, that see test videos: of the data set's split, and of the server's.

    Args:
        data: the split whose test list the clients must not see.
        files: the clients' lists.
        server: videos by which the server evaluates between the rounds; None if it does not.
        init: checkpoint that the run starts from; None for random weights.

    Returns:
        The record of the videos of the clients and of `init`, see `fedvssl.data.seen`.

    Raises:
        ValueError: if they see test videos and data.allow_test_videos is false.
    """
    lists, found, allowed = read_lists(files), list[Annotation](), list[Annotation]()
    before = record_of_start(None if init is None else Path(init).expanduser())
    for split in (data, *_own_split_of_the_server(data, server)):
        found += compare_with_tests(split, lists)
        if split.list_path("test").is_file():
            tested = read_annotations(split.list_path("test"))
            seen_facts(replace(split, validation=None), tested, before, checkpoint=f"init={init}")
            allowed += tested if data.allow_test_videos else []
    if found:
        log.warning("The clients train on %d test videos (data.allow_test_videos=true).", len({*found}))
    _tell_of_validation_videos(data, lists)
    videos = (video for own in lists.values() for video in own)
    return merged(before, seen_videos(data.name, videos, stage=PRETRAINING, allowed=allowed))


def recorded(dataset: str, files: Iterable[Path], *, init: str | None) -> Arrays:
    """Record that a pre-training of clients with these lists will have, if no test videos are allowed.

    Raises:
        ValueError: if a list or `init` cannot be read.
    """
    videos = (video for file in files for video in read_annotations(file))
    own = seen_videos(dataset, videos, stage=PRETRAINING, allowed=())
    return merged(record_of_start(None if init is None else Path(init).expanduser()), own)


def _own_split_of_the_server(data: Split, server: Split | None) -> list[Split]:
    """The server's evaluation if it has another test list of the same videos; the names of others say nothing."""
    if server is None or os.path.realpath(server.media_dir) != os.path.realpath(data.media_dir):
        return []
    if server.list_path("test") == data.list_path("test"):
        return []
    return [replace(data, annotation_dir=server.annotation_dir, split=server.split)]


def read_lists(files: Iterable[Path]) -> dict[str, list[Annotation]]:
    """Read the clients' lists; one that cannot be read trains nobody, and other checks tell of it."""
    lists = {}
    for file in files:
        try:
            lists[str(file)] = read_annotations(file)
        except ValueError:
            continue
    return lists


def compare_with_tests(data: Split, lists: Lists, *, section: str = "") -> list[Annotation]:
    """Return the test videos in the clients' lists, if they are allowed there.

    Args:
        data: the split of the test videos.
        lists: of the clients.
        section: of the configuration in which a user sets partition_dir, if it is not the whole.

    Raises:
        ValueError: if they are not; see `refuse_test_videos`.
    """
    path = data.list_path("test")
    if not path.is_file():
        log.info("There is no %s, so the clients' lists cannot be compared with test videos.", path)
        return []
    advice = f"make a partition of train_split_{data.split}.json and name it with partition_dir=<folder>"
    advice += f" in {section}" if section else ""
    return refuse_test_videos(data, lists, read_annotations(path), advice=advice)


def _tell_of_validation_videos(data: Split, lists: Lists) -> None:
    """Warn of held-out videos in the lists of clients."""
    if not data.whole_train_list.is_file():
        return
    names = {video.name for video in validation_videos(data)}
    if seen := names & {video.name for own in lists.values() for video in own}:
        log.warning(
            "data.validation=%s: the clients train on %d of the %d videos that it holds out, without labels.",
            *(data.validation, len(seen), len(names)),
        )
