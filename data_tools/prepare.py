"""Raw videos and split lists -> `<out_dir>/zips` and `<out_dir>/annotations`: extract_frames, then build_annotations.

    python -m data_tools.prepare --raw_dir my_clips --ann_dir my_lists --out_dir data/mine

Reads the styles of lists in data_tools/lists.py. Without --ann_dir all videos make training split 1, with their folders
as classes, which is enough for pre-training. Can be run again after a stop.
"""

from collections.abc import Sequence
from pathlib import Path

from .build_annotations import build_annotations
from .command import command_parser, run_command
from .extract_frames import FrameFormat, add_frame_flags, extract_videos, find_videos
from .lists import read_splits, splits_from_names


def prepare(raw_dir: Path, ann_dir: Path | None, out_dir: Path, *, frames: FrameFormat, num_workers: int) -> None:
    """Extract all videos, then annotate those that could be extracted.

    Raises:
        ValueError: for folders, lists or raw files that are missing or ambiguous; before anything is extracted.
    """
    splits = read_splits(ann_dir) if ann_dir else None
    match = find_videos(raw_dir, splits)
    splits = splits or splits_from_names(match.found)
    extract_videos(match.found, out_dir / "zips", frames=frames, num_workers=num_workers, match=match).print()
    build_annotations(splits, out_dir / "zips", out_dir / "annotations", doubtful=match.doubtful)


def main(argv: Sequence[str] | None = None, *, folder: Path | None = None) -> None:
    """The command. With a `folder` as `data_tools.fetch` leaves it, no flag is required."""
    raw_dir, ann_dir = (folder / "raw", folder / "lists") if folder else (None, None)
    parser = command_parser(__doc__)
    parser.add_argument("--raw_dir", type=Path, required=not folder, default=raw_dir, help="folder with the raw videos")
    parser.add_argument(
        "--ann_dir", type=Path, default=ann_dir, help="folder with the split lists; without it folders are classes"
    )
    parser.add_argument("--out_dir", type=Path, required=not folder, default=folder, help="for zips/ and annotations/")
    add_frame_flags(parser)
    args = parser.parse_args(argv)
    frames = FrameFormat(args.short_side, args.quality)
    prepare(args.raw_dir, args.ann_dir, args.out_dir, frames=frames, num_workers=args.num_workers)


if __name__ == "__main__":
    run_command(main)
