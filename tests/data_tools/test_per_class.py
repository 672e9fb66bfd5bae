"""A small data set out of a large one: some pictures of each class in each part."""

from pathlib import Path

import pytest

from fedvssl.data.annotations import read_annotations
from tests.data_tools.test_pictures import in_this_process, prepare, write, write_zip

__all__ = ["in_this_process"]


def names(tmp_path: Path, part: str) -> list[str]:
    return [a.name for a in read_annotations(tmp_path / f"out/annotations/{part}_split_1.json")]


def test_each_class_gives_as_many_evenly_spread_in_each_part(tmp_path: Path) -> None:
    for number in range(9):
        write(tmp_path / f"raw/train/cat/{number}.png")
    for part, count in (("train", 2), ("test", 5)):
        for number in range(count):
            write(tmp_path / f"raw/{part}/dog/{number}.png")
    pictures = prepare(tmp_path / "raw", "--per_class", "3")
    cats = [f"cat/train_{number}.bmp" for number in (0, 4, 8)]
    assert names(tmp_path, "train") == [*cats, "dog/train_0.bmp", "dog/train_1.bmp"]
    assert names(tmp_path, "test") == [f"dog/test_{number}.bmp" for number in (0, 2, 4)]
    assert len(list(pictures.glob("*/*.bmp"))) == 8, "no other is stored"


def test_a_later_run_may_take_more(tmp_path: Path) -> None:
    write_zip(tmp_path / "raw/all.zip", *(f"cat/{number}.png" for number in range(5)))
    prepare(tmp_path / "raw", "--per_class", "2")
    assert names(tmp_path, "train") == ["cat/0.bmp", "cat/4.bmp"]
    prepare(tmp_path / "raw")
    assert names(tmp_path, "train") == [f"cat/{number}.bmp" for number in range(5)]


def test_less_than_one_and_videos_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "raw/cat/1.png")
    with pytest.raises(ValueError, match="--per_class 0 must be at least 1"):
        prepare(tmp_path / "raw", "--per_class", "0")
    write(tmp_path / "videos/cat/1.mp4", b"a video")
    with pytest.raises(ValueError, match="--per_class is for pictures"):
        prepare(tmp_path / "videos", "--per_class", "1")
