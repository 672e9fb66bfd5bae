import errno
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

import data_tools.extract_frames
from data_tools.extract_frames import REPORT_NAME, FrameFormat, extract_video, extract_videos, main
from fedvssl.data.video import VideoError, open_video
from tests.data.test_container import damaged
from tests.videos import moving_square, write_video

SMALL = FrameFormat(short_side=16)


def make_videos(folder: Path, *names: str) -> dict[str, Path]:
    return {
        name: write_video(folder / f"{name}.avi", moving_square(num_frames=4, height=24, width=32, seed=seed))
        for seed, name in enumerate(names)
    }


@pytest.mark.parametrize(
    ("height", "width", "short_side", "expected"),
    [
        (36, 50, 0, (36, 50)),
        (36, 50, 18, (18, 25)),
        (50, 36, 18, (25, 18)),  # portrait
        (46, 62, 16, (16, 22)),
        (24, 32, 48, (48, 64)),
    ],
)
def test_sizes(tmp_path: Path, height: int, width: int, short_side: int, expected: tuple[int, int]) -> None:
    frames = moving_square(num_frames=3, height=height, width=width)
    raw = write_video(tmp_path / "raw.mp4", frames)
    extract_video(raw, tmp_path / "A" / "x.zip", frames=FrameFormat(short_side=short_side))
    video = open_video(tmp_path / "A" / "x.zip")
    assert len(video) == 3 and video.read([0]).shape[1:3] == expected
    brightness = video.read(range(3)).mean(axis=(1, 2, 3))
    assert np.allclose(brightness, frames.mean(axis=(1, 2, 3)), atol=4)


def test_zips_have_the_published_layout_and_are_reproducible(tmp_path: Path) -> None:
    (raw,) = make_videos(tmp_path, "x").values()
    for name in ("a.zip", "b.zip"):
        extract_video(raw, tmp_path / name, frames=SMALL)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == [f"img_{number:05d}.jpg" for number in (1, 2, 3, 4)]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_quality_matters(tmp_path: Path) -> None:
    (raw,) = make_videos(tmp_path, "x").values()
    for quality in (20, 95):
        extract_video(raw, tmp_path / f"{quality}.zip", frames=FrameFormat(0, quality))
    assert (tmp_path / "20.zip").stat().st_size < 0.8 * (tmp_path / "95.zip").stat().st_size


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_bad_video_leaves_nothing(tmp_path: Path, damage: str) -> None:
    raw = tmp_path / "raw.mp4"
    write_video(raw, moving_square(num_frames=20, height=64, width=64))
    content = bytearray(raw.read_bytes())
    if damage == "noise":
        content[len(content) // 2 :] = np.random.default_rng(0).bytes(len(content) - len(content) // 2)
    raw.write_bytes({"cut": content[: len(content) // 3], "noise": content, "empty": b""}[damage])
    with pytest.raises(VideoError, match=r"raw\.mp4"):
        extract_video(raw, tmp_path / "out" / "x.zip", frames=SMALL)
    assert not list((tmp_path / "out").iterdir())


def test_bad_videos_are_reported_and_do_not_stop_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    raw_dir, out_dir = tmp_path / "raw", tmp_path / "zips"
    make_videos(raw_dir, "Run/a", "Run/c")
    (raw_dir / "Run" / "b.avi").write_bytes(b"RIFF nonsense")
    (raw_dir / "Swim").mkdir()
    (raw_dir / "Swim" / "d.mp4").touch()
    main(["--raw_dir", str(raw_dir), "--out_dir", str(out_dir), "--short_side", "16", "--num_workers", "2"])
    assert sorted(p.relative_to(out_dir).as_posix() for p in out_dir.rglob("*.zip")) == ["Run/a.zip", "Run/c.zip"]
    report = json.loads((out_dir / REPORT_NAME).read_text())
    assert (report["written"], report["kept"], sorted(report["failed"])) == (2, 0, ["Run/b", "Swim/d"])
    out = capsys.readouterr().out
    assert "2 videos extracted, 0 kept from before, 2 failed." in out
    assert "failed: Run/b: " in out and "failed: Swim/d: " in out
    assert "extracting videos 4/4  " in out


def test_restart_keeps_what_is_finished(tmp_path: Path) -> None:
    videos, out_dir = make_videos(tmp_path / "raw", "Run/a", "Run/b"), tmp_path / "zips"
    (out_dir / "Run").mkdir(parents=True)
    (out_dir / "Run" / f".b.{os.getpid() + 1}.zip").write_bytes(b"half")  # of a process that was killed
    (out_dir / "Run" / "a.zip").write_bytes(b"finished before")
    report = extract_videos(videos, out_dir, frames=SMALL, num_workers=1)
    assert (report.written, report.kept) == (1, 1)
    assert (out_dir / "Run" / "a.zip").read_bytes() == b"finished before"
    assert sorted(p.name for p in (out_dir / "Run").iterdir()) == ["a.zip", "b.zip"]
    assert extract_videos(videos, out_dir, frames=SMALL, num_workers=1).kept == 2


def test_an_interruption_leaves_no_half_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (raw,) = make_videos(tmp_path / "raw", "a").values()

    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(data_tools.extract_frames.simplejpeg, "encode_jpeg", stop)
    with pytest.raises(KeyboardInterrupt):
        extract_video(raw, tmp_path / "out" / "a.zip", frames=SMALL)
    assert not list((tmp_path / "out").iterdir())


def test_zips_of_two_sizes_do_not_mix(tmp_path: Path) -> None:
    videos = make_videos(tmp_path / "raw", "a")
    extract_videos(videos, tmp_path / "zips", frames=SMALL, num_workers=1)
    with pytest.raises(ValueError, match="have --short_side 16 --quality 90"):
        extract_videos(videos, tmp_path / "zips", frames=FrameFormat(short_side=20), num_workers=1)


@pytest.mark.parametrize(
    "flags", [("--short_side", "-1"), ("--quality", "0"), ("--num_workers", "0"), ("--max_lost", "2")]
)
def test_impossible_flags(tmp_path: Path, flags: tuple[str, str]) -> None:
    make_videos(tmp_path / "raw", "a")
    with pytest.raises(ValueError, match=flags[0]):
        main(["--raw_dir", str(tmp_path / "raw"), "--out_dir", str(tmp_path / "zips"), *flags])
    assert not list((tmp_path).rglob("*.zip"))


def test_a_still_picture_is_no_video(tmp_path: Path) -> None:
    raw = write_video(tmp_path / "photo.mp4", moving_square(num_frames=1, height=48, width=64))
    with pytest.raises(VideoError, match=r"photo\.mp4 is a still picture"):
        extract_video(raw, tmp_path / "out/photo.zip", frames=SMALL)
    assert not list((tmp_path / "out").iterdir())


def test_a_strip_that_no_jpeg_could_hold_keeps_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_tools.extract_frames, "LARGEST_SIDE", 520)
    for width, shape in {64: (32, 128, 3), 512: (16, 512, 3)}.items():
        raw = write_video(tmp_path / f"{width}.mkv", np.zeros((2, 16, width, 3), np.uint8))
        extract_video(raw, tmp_path / f"{width}.zip", frames=FrameFormat(short_side=32))
        assert open_video(tmp_path / f"{width}.zip").read(np.array([0])).shape[1:] == shape
    raw = write_video(tmp_path / "528.mkv", np.zeros((2, 16, 528, 3), np.uint8))
    with pytest.raises(VideoError, match=r"528\.mkv has frames of 528x16 pixels, a JPEG 520 at most"):
        extract_video(raw, tmp_path / "528.zip", frames=FrameFormat(short_side=0))


def test_lost_frames_are_told_and_stay_in_the_report(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    raw = damaged(tmp_path / "v.mkv", {7}, moving_square(num_frames=30, height=48, width=64))
    for _ in range(2):  # the second run keeps the zip
        report = extract_videos({"A/v": raw}, tmp_path / "zips", frames=SMALL, num_workers=1)
        report.print()
        assert report.lost == {"A/v": "29 of 30 frames (1 damaged)"}
        assert "1 videos lost frames: A/v has 29 of 30 frames (1 damaged)" in capsys.readouterr().out
    strict = extract_videos({"A/v": raw}, tmp_path / "strict", frames=SMALL, num_workers=1, max_lost=0.0)
    assert list(strict.failed) == ["A/v"] and not strict.lost


def test_a_name_that_the_disk_refuses_costs_its_own_video(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENAMETOOLONG, "File name too long")

    monkeypatch.setattr(data_tools.extract_frames, "extract_video", refuse)
    outcome = data_tools.extract_frames._try_extract(("A/v", Path("v"), Path("z")), frames=SMALL, max_lost=0.1)
    assert outcome == ("A/v", "its name is too long for this disk: rename it.", "")


def test_whatever_a_decoder_raises_is_reported_but_the_machine_s_fault_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    job = ("A/v", Path("v.avi"), Path("v.zip"))
    faults = {"surprise": RuntimeError("unknown pixel format"), "disk": OSError("no space left")}
    faults["package"] = ImportError("no space left for mmcv")
    for name, fault in faults.items():

        def fail(*_args: object, fault: Exception = fault, **_options: object) -> None:
            raise fault

        monkeypatch.setattr(data_tools.extract_frames, "extract_video", fail)
        if name == "surprise":
            result = data_tools.extract_frames._try_extract(job, frames=FrameFormat(), max_lost=0.1)
            assert result == ("A/v", "v.avi cannot be stored as pictures (RuntimeError): re-encode it.", "")
        else:
            with pytest.raises(type(fault), match="no space left"):
                data_tools.extract_frames._try_extract(job, frames=FrameFormat(), max_lost=0.1)


def test_names_that_a_disk_takes_for_one_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (raw,) = make_videos(tmp_path / "raw", "Run/a").values()
    videos: dict[str, Path] = {name: raw for name in ("Run/a", "Run/A", "Run/b")}
    assert extract_videos(videos, tmp_path / "zips", frames=SMALL, num_workers=1).written == 3, "this disk tells apart"
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: exists(path.with_name(path.name.lower()) if path.name else path))
    with pytest.raises(ValueError, match="Run/a and Run/A are one file on the disk of"):
        extract_videos(videos, tmp_path / "other", frames=SMALL, num_workers=1)
    assert not list((tmp_path / "other").rglob("*"))


def test_a_name_that_leads_outside_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (raw,) = make_videos(tmp_path / "raw", "a").values()
    with pytest.raises(ValueError, match="leads outside the folder"):
        extract_videos({"a": raw, "../b": raw}, tmp_path / "zips", frames=SMALL, num_workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
