"""UCF-101 as `data_tools.ucf101.download` leaves it -> zips of frames and annotation files, with the published flags.

python -m data_tools.ucf101.prepare --raw_dir data/ucf101/raw --ann_dir data/ucf101/lists --out_dir data/ucf101
"""

from collections.abc import Sequence
from pathlib import Path

from ..command import command_parser, run_command
from ..extract_frames import FrameFormat, add_frame_flags
from ..prepare import prepare


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__)
    parser.add_argument("--raw_dir", type=Path, default=Path("data/ucf101/raw"), help="folder with the raw videos")
    parser.add_argument("--ann_dir", type=Path, default=Path("data/ucf101/lists"), help="folder with the split lists")
    parser.add_argument("--out_dir", type=Path, default=Path("data/ucf101"), help="folder for zips/ and annotations/")
    add_frame_flags(parser)
    args = parser.parse_args(argv)
    frames = FrameFormat(args.short_side, args.quality)
    prepare(args.raw_dir, args.ann_dir, args.out_dir, frames=frames, num_workers=args.num_workers)


if __name__ == "__main__":
    run_command(main)
