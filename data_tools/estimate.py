"""Estimate of the time and disk use of an extraction: reported before it begins, rejected if the disk is too small."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av

from fedvssl.files.environment import free_bytes
from fedvssl.files.progress import clock, show_bytes

NUM_SAMPLES, FRAMES_PER_SAMPLE = 3, 100

Encode = Callable[[Path], Iterator[bytes]]  # raw video -> the JPEG of each frame


@dataclass(frozen=True)
class Estimate:
    """Estimate of an extraction: sizes in bytes, time in seconds."""

    num_videos: int
    raw_bytes: int
    frame_bytes: float
    seconds: float
    num_processes: int

    def __str__(self) -> str:
        """ "13320 videos, 7.21 GB of raw video: about 24.60 GB of frames in 4:10 with 8 processes" """
        return (
            f"{self.num_videos} videos, {show_bytes(self.raw_bytes)} of raw video: about "
            f"{show_bytes(self.frame_bytes)} of frames in {clock(self.seconds)} with {self.num_processes} processes"
        )


@dataclass(frozen=True)
class Sample:
    """Raw size of one video in bytes, and the bytes and seconds of one process for all its frames."""

    raw_bytes: int
    frame_bytes: float
    seconds: float


def estimate(raws: Sequence[Path], encode: Encode, *, num_processes: int) -> Estimate | None:
    """Encode the first frames of a few videos and extrapolate by the bytes of all; nothing is written.

    Returns:
        None if none of them can be decoded.
    """
    samples = [sample for raw in choose(raws) if (sample := take_sample(raw, encode))]
    if not samples:
        return None
    raw_bytes = sum(raw.stat().st_size for raw in raws)
    factor = raw_bytes / sum(sample.raw_bytes for sample in samples)
    frame_bytes = factor * sum(sample.frame_bytes for sample in samples)
    seconds = factor * sum(sample.seconds for sample in samples) / num_processes
    return Estimate(len(raws), raw_bytes, frame_bytes, seconds, num_processes)


def choose(raws: Sequence[Path]) -> list[Path]:
    """Videos of medium size: the smallest are short, still or damaged, and say little about the rest."""
    by_size = sorted(raws, key=lambda raw: raw.stat().st_size)
    return [by_size[len(raws) * place // (NUM_SAMPLES + 1)] for place in range(1, NUM_SAMPLES + 1)]


def take_sample(raw: Path, encode: Encode) -> Sample | None:
    """Encode at most `FRAMES_PER_SAMPLE` frames and extrapolate to the whole video; None if that fails."""
    started = time.perf_counter()
    try:
        sizes = [len(jpeg) for jpeg in islice(encode(raw), FRAMES_PER_SAMPLE)]
        seconds = time.perf_counter() - started
        factor = max(1.0, count_packets(raw) / len(sizes)) if len(sizes) == FRAMES_PER_SAMPLE else 1.0
    except Exception:  # the extraction will report the fault of this video
        return None
    return Sample(raw.stat().st_size, factor * sum(sizes), factor * seconds)


def count_packets(raw: Path) -> int:
    """Number of video packets of a file, about its number of frames; nothing is decoded."""
    with av.open(str(raw), metadata_errors="ignore") as container:
        return sum(packet.size > 0 for packet in container.demux(video=0))


def check_disk(expected: Estimate, out_dir: Path) -> None:
    """Compare the expected size with the free space.

    Raises:
        ValueError: if the frames do not fit.
    """
    free = free_bytes(out_dir)
    if expected.frame_bytes > free:
        raise ValueError(
            f"The frames of {expected.num_videos} videos need about {show_bytes(expected.frame_bytes)} in {out_dir}, "
            f"{show_bytes(free)} are free: lower --short_side or --quality, or choose an --out_dir on another disk."
        )
