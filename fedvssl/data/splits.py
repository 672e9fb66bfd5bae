"""Labelled lists of a split, checked before anything is computed: every video found, every class known."""

from pathlib import Path
from typing import Any

from fedvssl.data.annotations import Annotation, class_names, read_annotations
from fedvssl.data.video import find_video


def split_list(data: dict[str, Any], part: str) -> Path:
    """The annotation file of a split; `part` is "train" or "test"."""
    return Path(data["annotation_dir"]) / f"{part}_split_{data['split']}.json"


def labelled_videos(data: dict[str, Any], part: str) -> list[Annotation]:
    """Read the videos of a split and find each of them on disk.

    Args:
        data: media_dir, annotation_dir, split, num_classes.
        part: "train" or "test".

    Raises:
        ValueError: if the list or a video is missing, or a label is beyond `num_classes`.
    """
    path = split_list(data, part)
    annotations = read_annotations(path)
    highest = 1 + max(annotation.label for annotation in annotations)
    if highest > data["num_classes"]:
        raise ValueError(f"{path} has labels up to {highest}, but data.num_classes is {data['num_classes']}: set it.")
    for annotation in annotations:
        find_video(Path(data["media_dir"]), annotation.name)
    return annotations


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
