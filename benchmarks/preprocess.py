"""Frames per second from raw videos to zips of JPEG frames.

    python -m benchmarks.preprocess [--real_dir ../clips --ann_dir ../lists]

Ours: `data_tools.extract_frames` with all cores, a short side of 144 pixels and quality 90. Its processes take seconds
to start, so the rate is that of the second half of the videos; the rate of the whole call is printed too. Baseline: one
process that stores full-size frames at quality 95; OpenCV decodes in one thread, as more are slower for small videos.
"""

import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import cv2

from benchmarks.clips import OURS, Clips, clip_parser, prepared
from benchmarks.measure import Result
from data_tools.extract_frames import extract_videos
from fedvssl.files.environment import num_cores

PUBLISHED = 2400.0  # frames/s of the plain way on a Zen 4 core
REPEATS, NUM_VIDEOS, VIDEOS_PER_CORE = 2, 16, 32
QUALITY = 95


@dataclass(frozen=True)
class Extraction:
    """Frames per second while all processes work, and of the whole call; bytes per frame."""

    rate: float
    rate_of_call: float
    frame_bytes: float


def measure(clips: Clips) -> Result:
    """Frames per second of both sides, run in turn on the same videos."""
    raws = clips.raw[:: max(1, len(clips.raw) // NUM_VIDEOS)][:NUM_VIDEOS]  # of all classes
    ours, plain = [], []
    for repeat in range(-1, REPEATS):
        for run, found in ((extract, ours), (extract_plainly, plain)):
            with tempfile.TemporaryDirectory() as folder:
                extraction = run(raws, Path(folder))
            if repeat >= 0:
                found.append(extraction)
    rates = ([one.rate for one in side] for side in (ours, plain))
    note = (
        f"{num_cores()} processes, {median(one.rate_of_call for one in ours):.0f} frames/s with their start; "
        f"{ours[0].frame_bytes / 1024:.1f} and {plain[0].frame_bytes / 1024:.1f} KiB per frame"
    )
    return Result("preprocess", "frames/s", *rates, more_is_better=True, published=PUBLISHED, note=note)


def extract(raws: list[Path], folder: Path) -> Extraction:
    """Run the data tool on enough copies of the videos to keep all cores busy."""
    copies = -(-VIDEOS_PER_CORE * num_cores() // len(raws))
    videos = {f"{copy}/{number}": raw for copy in range(copies) for number, raw in enumerate(raws)}
    called = time.time()
    extract_videos(videos, folder, frames=OURS, num_workers=num_cores())
    zips = sorted(folder.rglob("*.zip"), key=lambda path: path.stat().st_mtime_ns)
    middle = len(zips) // 2
    started, ended = (zips[place].stat().st_mtime_ns / 1e9 for place in (middle - 1, -1))
    counts = [count_frames(path) for path in zips]
    num_bytes = sum(path.stat().st_size for path in zips)
    return Extraction(sum(counts[middle:]) / (ended - started), sum(counts) / (ended - called), num_bytes / sum(counts))


def extract_plainly(raws: list[Path], folder: Path) -> Extraction:
    """Run the straightforward baseline."""
    started = time.perf_counter()
    count = 0
    for number, raw in enumerate(raws):
        capture = cv2.VideoCapture(str(raw), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        with zipfile.ZipFile(folder / f"{number}.zip", "w") as archive:
            while (read := capture.read())[0]:
                count += 1
                _, jpeg = cv2.imencode(".jpg", read[1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
                archive.writestr(f"img_{count:05d}.jpg", jpeg.tobytes())
    rate = count / (time.perf_counter() - started)
    return Extraction(rate, rate, sum(path.stat().st_size for path in folder.iterdir()) / count)


def count_frames(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        return len(archive.namelist())


def main() -> None:
    """The command."""
    parser = clip_parser(__doc__)
    parser.set_defaults(max_videos=NUM_VIDEOS)
    with prepared(parser.parse_args()) as clips:
        print(measure(clips).line())


if __name__ == "__main__":
    main()
