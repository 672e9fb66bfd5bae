"""The quick way to the frames of a zip gives what zipfile gives, or leaves it to zipfile."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from fedvssl.data.frame_zip import OtherFrames, RegularFrames, by_number, open_frames


def write_zip(path: Path, names: list[str], *, compression: int = zipfile.ZIP_STORED, **options: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for number, name in enumerate(names):
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            for field, value in options.items():
                setattr(info, field, value)
            archive.writestr(info, np.random.default_rng(number).bytes(1000 + number))
    return path


def numbered(count: int) -> list[str]:
    return [f"img_{number:05d}.jpg" for number in range(1, count + 1)]


@pytest.mark.parametrize("names", [numbered(1), numbered(700), numbered(9)[::-1]], ids=["one", "many", "backwards"])
def test_regular_zips_are_read_directly(tmp_path: Path, names: list[str]) -> None:
    path = write_zip(tmp_path / "video.zip", names)
    frames = open_frames(path)
    assert isinstance(frames, RegularFrames) and len(frames) == len(names)
    with zipfile.ZipFile(path) as archive:
        assert [frames.read(index) for index in range(len(names))] == [archive.read(name) for name in sorted(names)]


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (numbered(3), {"compression": zipfile.ZIP_DEFLATED}),
        (numbered(3), {"comment": b"a comment"}),
        (numbered(3), {"extra": b"\x99\x99\x02\x00ab"}),
        ([*numbered(2), "img_100000.jpg"], {}),
        ([*numbered(2), "thumbnail.txt"], {}),
        (["A.JPEG", "b.jpg"], {}),
    ],
)
def test_all_other_zips_are_read_by_zipfile(tmp_path: Path, names: list[str], options: dict) -> None:
    path = write_zip(tmp_path / "video.zip", names, **options)
    frames = open_frames(path)
    assert isinstance(frames, OtherFrames)
    expected = sorted(name for name in names if not name.endswith(".txt"))
    with zipfile.ZipFile(path) as archive:
        assert [frames.read(index) for index in range(len(frames))] == [archive.read(name) for name in expected]


def test_one_irregular_member_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "video.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(numbered(3)):
            archive.writestr(name, bytes(1000), zipfile.ZIP_DEFLATED if number == 1 else zipfile.ZIP_STORED)
    frames = open_frames(path)
    assert isinstance(frames, OtherFrames)
    assert [frames.read(index) for index in range(3)] == [bytes(1000)] * 3


def test_fields_that_only_the_local_headers_have_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "video.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(numbered(3)):
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(bytes([number]) * 1000)
    frames = open_frames(path)
    assert isinstance(frames, RegularFrames)
    assert [frames.read(index) for index in range(3)] == [bytes([number]) * 1000 for number in range(3)]


def test_a_zip_with_a_comment_is_read_by_zipfile(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "video.zip", numbered(3))
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"of the whole"
    assert len(open_frames(path)) == 3


@pytest.mark.parametrize("place", ["name", "content", "length"])
def test_damage_is_noticed(tmp_path: Path, place: str) -> None:
    path = write_zip(tmp_path / "video.zip", numbered(3))
    stored = bytearray(path.read_bytes())
    if place == "length":
        path.write_bytes(stored[:-1])
        with pytest.raises(zipfile.BadZipFile):
            open_frames(path)
        return
    stored[stored.index(b"img_00002.jpg") + (4 if place == "name" else 500)] ^= 1
    path.write_bytes(stored)
    frames = open_frames(path)
    frames.read(0)
    with pytest.raises(zipfile.BadZipFile, match="img_00002"):
        frames.read(1)


def test_frames_beyond_99999_come_in_order(tmp_path: Path) -> None:
    """In zips of this version and of earlier ones."""
    numbers = [1, 2, 9999, 10000, 10001, 99998, 99999, 100000, 100001]
    path = write_zip(tmp_path / "video.zip", [f"img_{number:05d}.jpg" for number in numbers])
    frames = open_frames(path)
    with zipfile.ZipFile(path) as archive:
        assert [frames.read(i) for i in range(9)] == [archive.read(f"img_{number:05d}.jpg") for number in numbers]


@pytest.mark.parametrize(
    "names",
    [
        ["img_1.jpg", "img_2.jpg", "img_10.jpg", "img_011.jpeg", "img_12.jpg"],
        ["1/2.jpg", "1/10.jpg", "2/1.jpg", "10/1.jpg"],
        [f"{'9' * 5000}.jpg", f"1{'0' * 5000}.jpg"],
    ],
)
def test_numbers_in_names_count_as_numbers(names: list[str]) -> None:
    assert sorted(reversed(names), key=by_number) == names
