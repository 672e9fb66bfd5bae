"""Labelled lists of a split: read, checked against the videos on the disk and the classes."""

from pathlib import Path

import numpy as np
import pytest

from fedvssl.data.annotations import Annotation, write_annotations
from fedvssl.data.splits import check_classes, labelled_videos, split_list
from tests.videos import write_frames


def write_split(folder: Path, *, labels: list[int], missing: bool = False) -> dict:
    annotations = [Annotation(f"A/clip{i}", label) for i, label in enumerate(labels)]
    write_annotations(folder / "annotations/train_split_1.json", annotations)
    for annotation in annotations[missing:]:
        write_frames(folder / f"zips/{annotation.name}.zip", np.zeros((2, 8, 8, 3), np.uint8))
    return {"media_dir": folder / "zips", "annotation_dir": folder / "annotations", "split": 1, "num_classes": 3}


def test_labelled_videos_are_read_with_zero_based_labels(tmp_path: Path) -> None:
    data = write_split(tmp_path, labels=[0, 2])
    assert labelled_videos(data, "train") == [Annotation("A/clip0", 0), Annotation("A/clip1", 2)]


def test_a_label_beyond_the_classes_is_refused(tmp_path: Path) -> None:
    data = write_split(tmp_path, labels=[0, 3])
    with pytest.raises(ValueError, match=r"labels up to 4, but data.num_classes is 3"):
        labelled_videos(data, "train")


def test_a_missing_video_or_list_is_named(tmp_path: Path) -> None:
    data = write_split(tmp_path, labels=[0, 1], missing=True)
    with pytest.raises(ValueError, match="A/clip0"):
        labelled_videos(data, "train")
    with pytest.raises(ValueError, match=r"test_split_1\.json"):
        labelled_videos(data, "test")


def test_a_class_without_training_videos_is_refused_by_name(tmp_path: Path) -> None:
    data = write_split(tmp_path, labels=[0, 1])
    train = labelled_videos(data, "train")
    check_classes({"train": train, "test": train[:1]}, split_list(data, "train"))
    test = [Annotation("Swim/x", 2), Annotation("Swim/y", 2)]
    sentence = r"train_split_1\.json has no video of class Swim \(label 3\), which 2 test videos such as Swim/x need"
    with pytest.raises(ValueError, match=sentence):
        check_classes({"train": train, "test": test}, split_list(data, "train"))
