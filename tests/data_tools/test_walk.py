"""Files below a folder: links are followed once, hidden folders and those of tools are passed over and told."""

import os
from pathlib import Path

import pytest

from data_tools.walk import files_ending, walk


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names_in(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in walk(folder).files]


def test_linked_folders_and_files_are_followed(tmp_path: Path) -> None:
    make(tmp_path, "disk/walk/a.mp4", "disk/b.mp4", "raw/run/c.mp4")
    (tmp_path / "raw/walk").symlink_to("../disk/walk")
    (tmp_path / "raw/run/b.mp4").symlink_to("../../disk/b.mp4")
    assert names_in(tmp_path / "raw") == ["run/b.mp4", "run/c.mp4", "walk/a.mp4"]


@pytest.mark.parametrize("target", [".", "..", "../run", "../../raw"])
def test_a_link_into_what_is_searched_ends_there(target: str, tmp_path: Path) -> None:
    make(tmp_path, "raw/run/c.mp4")
    (tmp_path / "raw/run/again").symlink_to(target)
    found = walk(tmp_path / "raw")
    assert found.files == [tmp_path / "raw/run/c.mp4"]
    assert list(found.broken) == [tmp_path / "raw/run/again"]


def test_two_links_to_one_folder_give_its_files_once(tmp_path: Path) -> None:
    make(tmp_path, "disk/a.mp4", "raw/b.mp4")
    for name in ("first", "second"):
        (tmp_path / "raw" / name).symlink_to("../disk")
    assert names_in(tmp_path / "raw") == ["b.mp4", "first/a.mp4"]


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    make(tmp_path, "b.mp4")
    (tmp_path / "a.mp4").symlink_to("nowhere.mp4")
    found = walk(tmp_path)
    assert found.files == [tmp_path / "b.mp4"]
    assert [line for line in found.lines(tmp_path) if "a.mp4 is a link to nothing" in line]


def test_a_link_to_itself_stops_nothing(tmp_path: Path) -> None:
    make(tmp_path, "b.mp4")
    (tmp_path / "self").symlink_to("self")
    found = walk(tmp_path)
    assert found.files == [tmp_path / "b.mp4"] and list(found.broken) == [tmp_path / "self"]


def test_of_many_links_to_nothing_some_are_named(tmp_path: Path) -> None:
    for number in range(23):
        (tmp_path / f"{number:02d}.mp4").symlink_to("nowhere")
    lines = list(walk(tmp_path).lines(tmp_path))
    assert len(lines) == 21 and lines[-1] == "3 more links and folders are passed over."


def test_a_name_that_is_no_text_can_be_told(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/l\xff")).symlink_to("nowhere")
    (line,) = walk(tmp_path).lines(tmp_path)
    assert line.encode() and "is a link to nothing" in line


@pytest.mark.parametrize(
    "hidden",
    [".ipynb_checkpoints/a.mp4", "__MACOSX/walk/a.mp4", "@eaDir/a.mp4/x.mp4", ".Trash-1000/files/a.mp4", "._a.mp4"],
)
def test_hidden_parts_are_passed_over_and_counted(hidden: str, tmp_path: Path) -> None:
    make(tmp_path, "walk/a.mp4", f"walk/{hidden}", hidden)
    found = walk(tmp_path)
    assert found.files == [tmp_path / "walk/a.mp4"] and len(found.hidden) == 2
    assert next(found.lines(tmp_path)).startswith("2 hidden files and folders")


def test_a_raw_folder_may_itself_be_hidden(tmp_path: Path) -> None:
    make(tmp_path / ".videos", "walk/a.MP4", "walk/b.txt")
    assert list(files_ending(tmp_path / ".videos", {".mp4"})) == [tmp_path / ".videos/walk/a.MP4"]
