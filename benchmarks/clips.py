"""Videos of the benchmarks, prepared for both sides: your own (--real_dir, --ann_dir) or synthetic ones.

Both sides read the same videos: the plain one as full-size JPEGs of quality 95, ours from `data_tools.prepare`.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_tools.extract_frames import FrameFormat, extract_videos, find_videos
from data_tools.lists import read_splits
from data_tools.synthetic import MOTIONS, make_video, write_video
from fedvssl.data.annotations import Annotation

OURS = FrameFormat()
PLAIN = FrameFormat(short_side=0, quality=95)
SYNTHETIC_VIDEOS, SYNTHETIC_FRAMES = 12, 120
GRAIN = 6.0  # standard deviation in grey levels: full-size frames then take 20-27 KiB, as in UCF-101


@dataclass(frozen=True)
class Clips:
    """Raw files of the videos, and the names and folders of their zips; `what` describes the videos."""

    raw: list[Path]
    names: list[str]
    ours: Path
    plain: Path
    what: str

    @property
    def annotations(self) -> list[Annotation]:
        return [Annotation(name, 0) for name in self.names]


def clip_parser(description: str | None) -> argparse.ArgumentParser:
    """Parser of a benchmark on videos."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real_dir", type=Path, help="folder with videos of UCF-101; without it they are synthetic")
    parser.add_argument("--ann_dir", type=Path, help="folder with the split lists of --real_dir")
    parser.add_argument("--max_videos", type=int, default=48, help="how many of them are used")
    return parser


@contextmanager
def prepared(args: argparse.Namespace) -> Iterator[Clips]:
    """Prepare the videos of the flags in a temporary folder, and print what they are."""
    with tempfile.TemporaryDirectory() as folder:
        clips = prepare_clips(Path(folder), args)
        print(clips.what)
        yield clips


def prepare_clips(folder: Path, args: argparse.Namespace) -> Clips:
    """Extract the videos for both sides into `folder`."""
    raw_dir, splits = args.real_dir, read_splits(args.ann_dir) if args.ann_dir else None
    if raw_dir is None:
        raw_dir = folder / "raw"
        if not raw_dir.is_dir():
            write_synthetic(raw_dir)
    videos = find_videos(raw_dir, splits).found
    step = max(1, len(videos) // args.max_videos)  # of all classes
    videos = dict(sorted(videos.items())[::step][: args.max_videos])
    for name, frames in (("ours", OURS), ("plain", PLAIN)):
        extract_videos(videos, folder / name, frames=frames, num_workers=2)
    names = [name for name in videos if (folder / "ours" / f"{name}.zip").exists()]
    what = f"{len(names)} {'synthetic videos' if args.real_dir is None else f'videos of {args.real_dir.name}'}"
    return Clips([videos[name] for name in names], names, folder / "ours", folder / "plain", what)


def write_synthetic(raw_dir: Path) -> None:
    """Write videos of UCF-101's size, with grain, because JPEGs of smooth pictures decode too quickly."""
    classes: Sequence[str] = sorted(MOTIONS)
    for number in range(SYNTHETIC_VIDEOS):
        rng = np.random.default_rng(number)
        motion = classes[number % len(classes)]
        frames = make_video(motion, rng, width=320, height=240, num_frames=SYNTHETIC_FRAMES)
        noise = rng.normal(0, GRAIN, frames.shape[:3])[..., None]
        frames = np.clip(frames + noise, 0, 255).astype(np.uint8)
        write_video(raw_dir / motion / f"v_{motion}_g{number:02d}_c01.avi", frames)
