"""Labelled lists of a split: read, checked against the videos on the disk and the classes."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedvssl.data.annotations import Annotation, write_annotations
from fedvssl.data.split import Split
from fedvssl.data.splits import (
    check_classes,
    count_classes,
    evaluation_lists,
    few_labels,
    labelled_videos,
    unused_classes,
)
from fedvssl.data.splits import numbers_of_videos as words
from tests.videos import write_frames


def write_split(folder: Path, *, labels: list[int], missing: bool = False) -> Split:
    annotations = [Annotation(f"A/clip{i}", label) for i, label in enumerate(labels)]
    write_annotations(folder / "annotations/train_split_1.json", annotations)
    for annotation in annotations[missing:]:
        write_frames(folder / f"zips/{annotation.name}.zip", np.zeros((2, 8, 8, 3), np.uint8))
    places = {"media_dir": folder / "zips", "annotation_dir": folder / "annotations", "split": 1, "num_classes": 3}
    return Split.of({**places, "name": "ucf101", "validation": None, "validation_seed": 0})


def test_labelled_videos_are_read_with_zero_based_labels(tmp_path: Path) -> None:
    data = write_split(tmp_path, labels=[0, 2])
    assert labelled_videos(data, "train") == [Annotation("A/clip0", 0), Annotation("A/clip1", 2)]


def test_classes_that_no_list_has_are_told(tmp_path: Path) -> None:
    data = write_split(tmp_path, labels=[0, 1])
    videos = {"train": labelled_videos(data, "train"), "test": []}
    assert unused_classes(data, videos) == " with labels up to 2 of data.num_classes=3 (auto would count them)"
    assert unused_classes(replace(data, num_classes=2), videos) == ""


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
    check_classes({"train": train, "test": train[:1]}, data.list_path("train"))
    test = [Annotation("Swim/x", 2), Annotation("Swim/y", 2)]
    sentence = r"train_split_1\.json has no video of class Swim \(label 3\), which 2 test videos such as Swim/x need"
    with pytest.raises(ValueError, match=sentence):
        check_classes({"train": train, "test": test}, data.list_path("train"))


def test_held_out_videos_take_the_place_of_the_test_list_which_is_not_read(tmp_path: Path) -> None:
    data = replace(write_split(tmp_path, labels=[0, 0, 0, 2, 2, 2]), validation=2, validation_seed=5)
    whole = replace(data, validation=None)
    videos = evaluation_lists(data, labelled=True)  # there is no test list
    assert [len(videos[part]) for part in ("train", "test")] == [4, 2]
    assert {*videos["train"], *videos["test"]} == {*labelled_videos(whole, "train")}
    assert (
        words(data, videos) == "4 training and 2 validation videos (held out by video, as the names of 2 hold no group)"
    )
    assert [*data.lists_read()] == ["train list"] and [*whole.lists_read()][1] == "test list"
    (tmp_path / "annotations/test_split_1.json").write_text("no JSON")
    assert evaluation_lists(data, labelled=True) == videos
    with pytest.raises(ValueError, match=r"train_split_1\.json has labels up to 3, but data\.num_classes is 2"):
        labelled_videos(replace(data, num_classes=2), "test")


def test_a_training_list_of_ones_own_does_not_change_the_validation_videos(tmp_path: Path) -> None:
    data = replace(write_split(tmp_path, labels=[0, 1] * 6), validation=4)
    train, validation = (labelled_videos(data, part) for part in ("train", "test"))
    write_annotations(tmp_path / "few.json", [*validation[:2], *train[:3]])
    few = replace(data, train_list=tmp_path / "few.json")
    assert labelled_videos(few, "test") == validation and labelled_videos(few, "train") == train[:3]
    assert [path.name for path in few.lists_read().values()] == ["few.json", "train_split_1.json"]
    assert labelled_videos(replace(few, validation=None), "train") == [*validation[:2], *train[:3]]
    write_annotations(tmp_path / "few.json", validation[:2])
    with pytest.raises(ValueError, match=r"data\.validation=4 holds out all videos of .*few\.json: lower it"):
        labelled_videos(few, "train")


def test_a_training_list_that_is_missing_or_no_path_is_told_in_one_sentence(tmp_path: Path) -> None:
    section = {"name": "a", "media_dir": "b", "annotation_dir": "c", "split": 1, "num_classes": 2, "validation": None}
    section["validation_seed"] = 0
    missing = Split.of({**section, "train_list": str(tmp_path / "labelled.json")})
    sentence = r"No file .*labelled\.json, which data\.train_list names: .* data_tools\.partition --labelled_share"
    for read in (missing.lists_read, lambda: labelled_videos(missing, "train")):
        with pytest.raises(ValueError, match=sentence):
            read()
    for word in (5, True, ["a.json"]):
        with pytest.raises(ValueError, match=r"data\.train_list=.* must be a path"):
            Split.of({**section, "train_list": word})


def test_a_log_names_the_test_videos(tmp_path: Path) -> None:
    videos = {"train": [Annotation("a", 0)] * 3, "test": [Annotation("b", 0)]}
    assert words(write_split(tmp_path, labels=[0]), videos) == "3 training and 1 test videos"


def test_a_section_is_read_and_a_further_one_comes_first(tmp_path: Path) -> None:
    data = {"name": "ucf101", "media_dir": "zips", "annotation_dir": str(tmp_path), "split": 1, "num_classes": "auto"}
    data |= {"validation": 0.2, "validation_seed": 0, "of_ones_own": 1}
    split = Split.of(data)
    assert split.list_path("test") == tmp_path / "test_split_1.json" and split.test_part == "validation"
    assert split.allow_test_videos is False, "data sets of one's own need not have it"
    other = Split.of(data, {"split": "b", "validation": None, "every": 1})
    assert other == replace(split, split="b", validation=None) and other.test_part == "test"
    with pytest.raises(ValueError, match=r"data\.allow_test_videos=yes must be true or false"):
        Split.of({**data, "allow_test_videos": "yes"})


def test_classes_are_counted_in_both_lists_of_a_section_that_is_not_whole_yet(tmp_path: Path) -> None:
    section = {"annotation_dir": str(tmp_path), "split": 1}
    assert count_classes(section) is None
    for part, label in (("train", 1), ("test", 4)):
        write_annotations(tmp_path / f"{part}_split_1.json", [Annotation("A/a", label)])
    assert count_classes(section) == 5


def test_few_labels_are_the_same_for_a_seed_and_grow_by_addition() -> None:
    videos = [Annotation(f"v{number}", number % 3) for number in range(20)]
    chosen = {number: few_labels(videos, number, seed=5) for number in (1, 2, 5)}
    for number, own in chosen.items():
        assert Counter(video.label for video in own) == dict.fromkeys(range(3), number)
        assert own == [video for video in videos if video in own], "in the order of the list"
        assert own == few_labels(videos, number, seed=5)
    assert {*chosen[1]} < {*chosen[2]} < {*chosen[5]}
    assert any(few_labels(videos, 2, seed=seed) != chosen[2] for seed in range(4))
    assert few_labels(videos, 50, seed=5) == few_labels(videos, None, seed=5) == videos


@pytest.mark.parametrize("per_class", [0, -1, 1.5, True, "few"])
def test_numbers_of_labels_that_mean_nothing_are_refused(per_class: Any) -> None:
    with pytest.raises(ValueError, match=r"labels_per_class=.* must be a whole number from 1, or null"):
        few_labels([Annotation("v", 0)], per_class, seed=1)
