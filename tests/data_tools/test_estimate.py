import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_tools.estimate import FRAMES_PER_SAMPLE, Estimate, check_disk, choose, estimate, take_sample
from data_tools.extract_frames import FrameFormat, extract_videos, frame_encoder
from fedvssl.files.progress import clock
from tests.videos import moving_square, write_video

SMALL = FrameFormat(short_side=16)


def jpegs(raw: Path) -> Iterator[bytes]:
    return frame_encoder(SMALL)(raw)


def same_videos(folder: Path, count: int, *, num_frames: int = 4) -> dict[str, Path]:
    """One video under several names."""
    raw = write_video(folder / "first.avi", moving_square(num_frames=num_frames, height=24, width=32))
    paths = [folder / f"v{number}.avi" for number in range(count)]
    for path in paths:
        shutil.copyfile(raw, path)
    return {path.stem: path for path in paths}


def test_a_few_videos_stand_for_all_by_their_bytes(tmp_path: Path) -> None:
    raws = list(same_videos(tmp_path, 8).values())
    whole = sum(map(len, jpegs(raws[0])))
    found = estimate(raws, jpegs, num_processes=2)
    assert found and (found.num_videos, found.num_processes) == (8, 2)
    assert found.raw_bytes == 8 * raws[0].stat().st_size
    assert found.frame_bytes == pytest.approx(8 * whole)
    alone = estimate(raws, jpegs, num_processes=1)
    assert alone and min(found.seconds, alone.seconds) > 0


def test_a_long_video_is_sampled_and_extrapolated(tmp_path: Path) -> None:
    (raw,) = same_videos(tmp_path, 1, num_frames=3 * FRAMES_PER_SAMPLE).values()
    encoded: list[bytes] = []

    def count(path: Path) -> Iterator[bytes]:
        for jpeg in jpegs(path):
            encoded.append(jpeg)
            yield jpeg

    sample = take_sample(raw, count)
    assert len(encoded) == FRAMES_PER_SAMPLE
    assert sample and sample.frame_bytes == pytest.approx(3 * sum(map(len, encoded)))


def test_damaged_videos_are_left_out_of_the_sample(tmp_path: Path) -> None:
    raws = list(same_videos(tmp_path, 4).values())
    before = estimate(raws, jpegs, num_processes=1)
    damaged = choose(raws)[0]
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    after = estimate(raws, jpegs, num_processes=1)
    assert before and after and after.frame_bytes == pytest.approx(before.frame_bytes)
    for raw in raws:
        raw.write_bytes(b"")
    assert estimate(raws, jpegs, num_processes=1) is None


def test_the_sample_is_of_middling_size(tmp_path: Path) -> None:
    raws = [tmp_path / f"{size}.avi" for size in (9, 1, 5, 3, 7, 2, 8, 4, 6)]
    for raw in raws:
        raw.write_bytes(b"x" * int(raw.stem))
    assert [raw.stem for raw in choose(raws)] == ["3", "5", "7"]


def test_line() -> None:
    told = str(Estimate(13320, 9_600_000_000, 2.1e10, 5700.0, 8))
    assert told == "13320 videos, 9.60 GB of raw video: about 21.00 GB of frames in 1:35:00 with 8 processes"
    assert [clock(seconds) for seconds in (0.4, 43, 61.2, 3600)] == ["0:00", "0:43", "1:01", "1:00:00"]


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1500))
    check_disk(Estimate(20, 10, 1499.0, 1.0, 1), tmp_path)
    videos, out_dir = same_videos(tmp_path / "raw", 20), tmp_path / "new" / "zips"
    with pytest.raises(ValueError, match=r"20 videos need about .* kB in .*zips, 1\.5 kB are free: lower --short_side"):
        extract_videos(videos, out_dir, frames=SMALL, num_workers=1)
    assert not out_dir.parent.exists()


@pytest.mark.parametrize(("finished", "told"), [(0, True), (1, False)])
def test_nothing_is_told_of_a_handful(finished: int, told: bool, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    videos, out_dir = same_videos(tmp_path / "raw", 20), tmp_path / "zips"
    out_dir.mkdir()
    for name in list(videos)[:finished]:
        (out_dir / f"{name}.zip").write_bytes(b"of an earlier run")
    extract_videos(videos, out_dir, frames=SMALL, num_workers=1)
    printed = capsys.readouterr().out
    assert printed.startswith("20 videos, ") == told and ("of raw video" in printed) == told
