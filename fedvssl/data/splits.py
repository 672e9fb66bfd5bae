"""Lists of a split, checked before anything is computed: every video found, every class known where labels count."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fedvssl.data.annotations import Annotation, class_names, read_annotations
from fedvssl.data.media import find_media
from fedvssl.data.seen import refuse_test_videos
from fedvssl.data.split import Split, list_path
from fedvssl.data.validation import evaluated_videos, medium_of, part_facts, validation_videos

Item = TypeVar("Item")


def listed_videos(data: Split, part: str) -> list[Annotation]:
    """Read the videos of a split, whatever their labels, and find each of them on disk.

    Args:
        data: if its `validation` is not None, videos are held out of the split's own training list and take the place
            of the test list, which is not read. A `train_list` is read without them.
        part: "train" or "test".

    Raises:
        ValueError: if the list or a video is missing, `validation` cannot be held out, or takes all videos of a list.
    """
    held_out = validation_videos(data)
    if part == "test" and data.validation is not None:
        annotations = held_out
    else:
        names = {video.name for video in held_out}
        path = data.found_train_list() if part == "train" else data.list_path(part)
        annotations = [video for video in read_annotations(path) if video.name not in names]
        if not annotations:
            raise ValueError(f"data.validation={data.validation} holds out all videos of {path}: lower it.")
    for annotation in annotations:
        find_media(data.media_dir, annotation.name)
    return annotations


def labelled_videos(data: Split, part: str) -> list[Annotation]:
    """Read the videos of a split as `listed_videos` does, and check their labels against its `num_classes`.

    Raises:
        ValueError: if the list or a video is missing, or a label is beyond `num_classes`.
    """
    annotations = listed_videos(data, part)
    highest = 1 + max(annotation.label for annotation in annotations)
    if highest > data.num_classes:
        path = data.whole_train_list if (data.test_part, part) == ("validation", "test") else data.list_path(part)
        raise ValueError(f"{path} has labels up to {highest}, but data.num_classes is {data.num_classes}: set it.")
    return annotations


def few_labels(annotations: Sequence[Annotation], per_class: int | None, *, seed: int) -> list[Annotation]:
    """Some videos of each class, in the order of the list; fewer are a part of more with the same seed.

    Args:
        annotations: training list.
        per_class: number of videos of each class; a class with fewer gives all. None for all videos.
        seed: of the choice.

    Raises:
        ValueError: if `per_class` is no such number.
    """
    if per_class is None:
        return list(annotations)
    if not isinstance(per_class, int) or isinstance(per_class, bool) or per_class < 1:
        raise ValueError(f"labels_per_class={per_class} must be a whole number from 1, or null for all.")
    chosen: set[str] = set()
    for label in {annotation.label for annotation in annotations}:
        names = [annotation.name for annotation in annotations if annotation.label == label]
        chosen |= {names[index] for index in np.random.default_rng((seed, label)).permutation(len(names))[:per_class]}
    return [annotation for annotation in annotations if annotation.name in chosen]


def count_classes(data: Mapping[str, Any]) -> int | None:
    """Number of classes: the highest label in the lists of a split; None if there are none yet.

    Args:
        data: annotation_dir and split; the section of a configuration that is being composed, so no `Split` yet.
    """
    paths = [list_path(data["annotation_dir"], data["split"], part) for part in ("train", "test")]
    labels = [annotation.label for path in paths if path.is_file() for annotation in read_annotations(path)]
    return 1 + max(labels) if labels else None


def numbers_of_videos(data: Split, videos: dict[str, list[Annotation]]) -> str:
    """Words for a log: "144 training and 36 test videos", or on validation videos how they were held out."""
    evaluated = evaluated_videos(part_facts(data, videos["test"]), len(videos["test"]))
    return f"{len(videos['train'])} training and {evaluated}"


def unused_classes(data: Split, videos: Mapping[str, Sequence[Annotation]]) -> str:
    """Words for a log on classes that no listed video has, such as those of UCF-101 with lists of one's own; or ""."""
    highest = 1 + max(annotation.label for some in videos.values() for annotation in some)
    if isinstance(data.num_classes, int) and highest < data.num_classes:
        return f" with labels up to {highest} of data.num_classes={data.num_classes} (auto would count them)"
    return ""


def evaluation_lists(data: Split, *, labelled: bool) -> dict[str, list[Annotation]]:
    """Both lists of a split, "train" and "test"; unless `labelled`, their labels may be anything.

    Raises:
        ValueError: as `listed_videos`, for a video in both lists, and if `labelled` also as `labelled_videos` and
            `check_classes`.
    """
    read = labelled_videos if labelled else listed_videos
    videos = {part: read(data, part) for part in ("train", "test")}
    refuse_shared(data, videos)
    if labelled:
        check_classes(videos, data.list_path("train"))
    return videos


def refuse_shared(data: Split, videos: Mapping[str, Sequence[Annotation]]) -> None:
    """Reject videos that are in the training list and in the test list; see `refuse_test_videos`."""
    lists = {str(data.list_path("train")): videos["train"]}
    refuse_test_videos(data, lists, videos["test"], advice="take them out of one list")


def check_classes(videos: dict[str, list[Annotation]], train_list: Path) -> None:
    """Reject test videos whose class has no training video: no backbone could get them right.

    Raises:
        ValueError: naming the first such class.
    """
    known = {annotation.label for annotation in videos["train"]}
    unknown = [annotation for annotation in videos["test"] if annotation.label not in known]
    if unknown:
        label, name = class_names(unknown).popitem()
        raise ValueError(
            f"{train_list} has no video of class {name} (label {label + 1}), which {len(unknown)} test videos such as "
            f"{unknown[0].name} need: add videos of this class to it, or take those test videos out."
        )


def few_videos(videos: Mapping[str, Sequence[Annotation]]) -> dict[str, int]:
    """Entries of a result: classes with a single training video, and the test videos of these classes.

    Such a video is hardly found by its neighbours whatever the backbone knows.
    """
    counts = Counter(annotation.label for annotation in videos["train"])
    queries = [annotation.label for annotation in videos["test"] if counts[annotation.label] == 1]
    return {"single_video_classes": len({*queries}), "single_video_queries": len(queries)}


def few_words(facts: Mapping[str, Any]) -> str:
    """Words for a log: "; 2 classes with 5 of these videos have one training video each", or nothing.

    Args:
        facts: `few_videos`, the medium of `part_facts`, and perhaps "queries_left_out", the number of test videos
            without a gallery.
    """
    classes, queries = (facts.get(f"single_video_{name}", 0) for name in ("classes", "queries"))
    one = medium_of(facts)
    words = f"; {classes} classes with {queries} of these {one}s have one training {one} each" if classes else ""
    if left_out := facts.get("queries_left_out"):
        words += f"; {left_out} test {one}s are left out, whose classes have no training {one} here"
    return words


def trained_on(data: Split, videos: Mapping[str, Sequence[Annotation]]) -> dict[str, Any]:
    """Entries of a checkpoint, "training_samples" and the name of the list, "train_list", None for the split's own."""
    return {"training_samples": len(videos["train"]), "train_list": data.train_list and data.train_list.name}


def lists_digest(videos: Mapping[str, Sequence[Annotation]]) -> str:
    """Digest of the names and labels of an evaluation's lists, by which two results tell whether they are alike."""
    listed = {part: [(video.name, video.label) for video in own] for part, own in videos.items()}
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` items of a list, in its order, evenly spread over it because lists are sorted by class."""
    chosen = np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))
    return [items[index] for index in chosen]
