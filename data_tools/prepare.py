"""Raw videos and split lists -> `<out_dir>/zips` and `<out_dir>/annotations`: extract_frames, then build_annotations.
Raw pictures -> `<out_dir>/pictures` and `<out_dir>/annotations`.

    python -m data_tools.prepare --raw_dir my_clips --ann_dir my_lists --out_dir data/mine
    python -m data_tools.prepare --raw_dir my_pictures --out_dir data/mine

Reads the styles of lists in data_tools/lists.py. Without --ann_dir all videos make training split 1, with their folders
as classes, which is enough for pre-training. A folder without videos may hold pictures: in folders of their classes,
which may be in folders train and test, and each of these folders may be a zip; or the binary archive of CIFAR-10 or
CIFAR-100. Can be run again after a stop.
"""

from collections.abc import Sequence
from pathlib import Path

from fedvssl.data.container import MAX_LOST

from .build_annotations import build_annotations
from .command import command_parser, run_command
from .extract_frames import FrameFormat, add_frame_flags, extract_videos, find_videos
from .lists import read_splits, splits_from_names
from .pictures import prepare_pictures
from .raw_pictures import holds_pictures


def prepare(
    raw_dir: Path,
    ann_dir: Path | None,
    out_dir: Path,
    *,
    frames: FrameFormat,
    num_workers: int,
    max_lost: float = MAX_LOST,
    num_clients: int = 0,
) -> None:
    """Extract all videos, then annotate those that could be extracted.

    Raises:
        ValueError: for folders, lists or raw files that are missing or ambiguous, or fewer training videos than clients
            that will share them; before anything is extracted.
    """
    splits = read_splits(ann_dir) if ann_dir else None
    match = find_videos(raw_dir, splits)
    splits = splits or splits_from_names(match.found)
    trained = [video for video in splits.get("train_split_1", []) if video.name in match.found]
    if len(trained) < num_clients:
        raise ValueError(
            f"{len(trained)} training videos cannot be shared by {num_clients} clients: name fewer with --num_clients."
        )
    how = {"num_workers": num_workers, "max_lost": max_lost}
    report = extract_videos(match.found, out_dir / "zips", frames=frames, match=match, **how)
    report.print(missing=False)  # the lists, below, name what they leave out
    build_annotations(splits, out_dir / "zips", out_dir / "annotations", doubtful=match.doubtful, told=report.failed)


def main(argv: Sequence[str] | None = None, *, folder: Path | None = None) -> None:
    """The command. With a `folder` as `data_tools.fetch` leaves it, no flag is required."""
    raw_dir, ann_dir = (folder / "raw", folder / "lists") if folder else (None, None)
    parser = command_parser(__doc__)
    parser.add_argument("--raw_dir", type=Path, required=not folder, default=raw_dir, help="raw videos or pictures")
    parser.add_argument(
        "--ann_dir", type=Path, default=ann_dir, help="folder with the split lists; without it folders are classes"
    )
    parser.add_argument("--out_dir", type=Path, required=not folder, default=folder, help="for the files and lists")
    add_frame_flags(parser, for_pictures=True)
    parser.add_argument("--per_class", type=int, help="most pictures of a class in each part; without it all")
    parser.add_argument(
        "--num_clients",
        type=int,
        default=0,
        help="clients that will share the training videos, to tell if they are few",
    )
    args = parser.parse_args(argv)
    are_pictures = args.ann_dir is None and holds_pictures(args.raw_dir)
    usual = 0 if are_pictures else FrameFormat.short_side
    frames = FrameFormat(usual if args.short_side is None else args.short_side, args.quality)
    if are_pictures:
        prepare_pictures(
            args.raw_dir, args.out_dir, frames=frames, num_workers=args.num_workers, per_class=args.per_class
        )
    elif args.per_class is not None:
        raise ValueError("--per_class is for pictures: give lists with fewer videos, or no --per_class.")
    else:
        how = {"num_workers": args.num_workers, "max_lost": args.max_lost, "num_clients": args.num_clients}
        prepare(args.raw_dir, args.ann_dir, args.out_dir, frames=frames, **how)


if __name__ == "__main__":
    run_command(main)
