import zipfile
from pathlib import Path

import numpy as np
import pytest

import fedvssl.data.video
from data_tools.extract_frames import FrameFormat, extract_video
from fedvssl.data.container import Container
from fedvssl.data.media import find_media
from fedvssl.data.video import VideoError, open_video
from tests.videos import moving_square, write_frames, write_video

FRAMES = moving_square(num_frames=7, height=36, width=50)


@pytest.fixture
def container(tmp_path: Path) -> Path:
    return write_video(tmp_path / "video.avi", FRAMES)


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    return write_frames(tmp_path / "video.zip", FRAMES, quality=95)


@pytest.mark.parametrize("kind", ["container", "zipped"])
def test_any_order_and_repeats(kind: str, request: pytest.FixtureRequest) -> None:
    video = open_video(request.getfixturevalue(kind))
    assert len(video) == 7
    frames = video.read([5, 0, 5, 6])
    assert frames.shape == (4, 36, 50, 3) and frames.dtype == np.uint8
    in_order = video.read(np.arange(7))
    assert np.array_equal(frames, in_order[[5, 0, 5, 6]])
    assert np.abs(frames.astype(int) - FRAMES[[5, 0, 5, 6]]).mean() < 8, "these frames, in RGB"


def test_zip_and_container_agree(container: Path, tmp_path: Path) -> None:
    extract_video(container, tmp_path / "extracted.zip", frames=FrameFormat(short_side=0, quality=95))
    indices = [6, 1, 3]
    a, b = (open_video(path).read(indices).mean(axis=-1) for path in (container, tmp_path / "extracted.zip"))
    assert a.shape == b.shape == (3, 36, 50)
    assert np.abs(a - b).mean() < 3, "brightness; JPEG halves the resolution of the colours"
    assert np.abs(a - b[[1, 2, 0]]).mean() > 3, "the bound can tell frames apart"


def test_each_frame_is_decoded_once(zipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    decode = fedvssl.data.video.simplejpeg.decode_jpeg
    monkeypatch.setattr(
        fedvssl.data.video.simplejpeg, "decode_jpeg", lambda *a, **k: calls.append(0) or decode(*a, **k)
    )
    open_video(zipped).read([3, 3, 1, 3])
    assert len(calls) == 2


def test_frames_are_ordered_by_number_not_by_place_in_the_zip(tmp_path: Path) -> None:
    write_frames(tmp_path / "straight.zip", FRAMES)
    with zipfile.ZipFile(tmp_path / "straight.zip") as straight, zipfile.ZipFile(tmp_path / "mixed.zip", "w") as mixed:
        for name in reversed(straight.namelist()):
            mixed.writestr(name, straight.read(name))
    a, b = (open_video(tmp_path / name).read([0, 4]) for name in ("straight.zip", "mixed.zip"))
    assert np.array_equal(a, b)


def test_frames_are_counted_by_decoding(tmp_path: Path) -> None:
    """A stream without a header count, such as raw MPEG, still has a length."""
    path = write_video(tmp_path / "video.m2v", FRAMES, codec="mpeg2video")
    assert len(open_video(path)) == len(list(Container(path).frames())) == 7


@pytest.mark.parametrize("index", [7, -1])
def test_frames_outside_are_refused(container: Path, index: int) -> None:
    with pytest.raises(IndexError, match="has 7 frames"):
        open_video(container).read([0, index])


@pytest.mark.parametrize("name", ["empty.avi", "noise.mp4", "noise.zip", "no_frames.zip", "nowhere.avi", "nowhere.zip"])
def test_unreadable_files_are_named(tmp_path: Path, name: str) -> None:
    if name.startswith("noise"):
        (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(4000))
    elif name.startswith("empty"):
        (tmp_path / name).touch()
    elif name.startswith("no_frames"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("readme.txt", "nothing")
    with pytest.raises(VideoError, match=name):
        open_video(tmp_path / name)


def test_a_damaged_frame_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "video.zip", "w") as archive:
        archive.writestr("img_00001.jpg", b"no jpeg")
    with pytest.raises(VideoError, match=r"video\.zip has a damaged frame"):
        open_video(tmp_path / "video.zip").read([0])


def test_an_encrypted_frame_is_named(tmp_path: Path) -> None:
    stored = bytearray(write_frames(tmp_path / "video.zip", FRAMES).read_bytes())
    for flags in (stored.index(b"PK\3\4") + 6, stored.index(b"PK\1\2") + 8):
        stored[flags] |= 1
    (tmp_path / "video.zip").write_bytes(stored)
    with pytest.raises(VideoError, match=r"video\.zip has an encrypted frame"):
        open_video(tmp_path / "video.zip").read([0])


def test_frames_of_several_sizes_are_refused(tmp_path: Path) -> None:
    write_frames(tmp_path / "large.zip", FRAMES)
    write_frames(tmp_path / "small.zip", FRAMES[:, :20, :30])
    with zipfile.ZipFile(tmp_path / "large.zip", "a") as archive, zipfile.ZipFile(tmp_path / "small.zip") as small:
        archive.writestr("img_00009.jpg", small.read("img_00001.jpg"))
    (tmp_path / "large.zip").rename(tmp_path / "video.zip")
    with pytest.raises(VideoError, match=r"video\.zip has frames of several sizes"):
        open_video(tmp_path / "video.zip").read([0, 7])


def test_each_frame_is_cut_as_it_is_decoded(zipped: Path, container: Path) -> None:
    for path in (zipped, container):
        video = open_video(path)
        corners = video.read([5, 0, 5], lambda frame: frame[:8, :9])
        assert np.array_equal(corners, video.read([5, 0, 5])[:, :8, :9])


def test_find_video_prefers_the_zip(tmp_path: Path) -> None:
    folder = tmp_path / "Class"
    folder.mkdir()
    for name in ("v.1.zip", "v.1.avi", "v.2.mp4", "v.2.txt", "v.2.zip.tmp", "v.3.txt", "v[4].MKV", "v4.avi"):
        (folder / name).touch()
    assert find_media(tmp_path, "Class/v.1") == folder / "v.1.zip"
    assert find_media(tmp_path, "Class/v.2") == folder / "v.2.mp4"
    assert find_media(tmp_path, "Class/v[4]") == folder / "v[4].MKV"
    assert find_media(tmp_path, "Class/v.3.txt") == folder / "v.3.txt", "a name with a suffix is that file"
    for missing in ("Class/v.3", "Class/v", "Other/v.1"):
        with pytest.raises(ValueError, match=f"No video {missing} in"):
            find_media(tmp_path, missing)


@pytest.mark.parametrize("name", ["../v", "Class/../../v", "/v", "v\0", "Class\\v"])
def test_no_name_leads_out_of_the_media_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "media/Class").mkdir(parents=True)
    (tmp_path / "v.zip").touch()
    with pytest.raises(ValueError, match=r"media: the name .* (leads outside|holds a)"):
        find_media(tmp_path / "media", name)


def test_a_picture_beside_a_video_is_its_thumbnail_and_no_video(tmp_path: Path) -> None:
    for suffix in (".jpg", ".mp4", ".PNG"):
        (tmp_path / f"v{suffix}").touch()
    assert find_media(tmp_path, "v").suffix == ".mp4"
    (tmp_path / "v.mp4").unlink()
    picture = find_media(tmp_path, "v")
    with pytest.raises(VideoError, match="is a picture, and this Sample needs a video"):
        open_video(picture)
