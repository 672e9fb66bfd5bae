"""All videos and pictures of a folder -> the list of one client, such as a node of a federation.

    python -m data_tools.list_folder --media_dir /data/videos --out /data/list.json

Files of any kind that can be trained on are listed, in all folders below, by their names without an ending. The last
folder of a file is its class, in alphabetical order; pre-training reads no class.
"""

from collections.abc import Sequence
from pathlib import Path

from fedvssl.data.annotations import read_annotations, write_annotations
from fedvssl.data.video import PICTURE_SUFFIXES, VIDEO_SUFFIXES

from .command import command_parser, run_command
from .lists import splits_from_names

SUFFIXES = {".zip", *VIDEO_SUFFIXES, *PICTURE_SUFFIXES}


def list_folder(media_dir: Path, out: Path) -> int:
    """Write the list, and return its length.

    Raises:
        ValueError: if there is no such folder, it holds nothing to train on, or two files would have one name.
    """
    if not media_dir.is_dir():
        raise ValueError(f"No folder {media_dir}: give that of the videos or pictures.")
    files = [path for path in media_dir.rglob("[!.]*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not files:
        raise ValueError(f"{media_dir} holds no video and no picture.")
    names = [path.relative_to(media_dir).with_suffix("").as_posix() for path in files]
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{media_dir} has several files {twice} with different endings: keep one of them.")
    (annotations,) = splits_from_names(names).values()
    write_annotations(out, annotations)
    return len(read_annotations(out))


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__)
    parser.add_argument("--media_dir", type=Path, required=True, help="folder of the videos or pictures")
    parser.add_argument("--out", type=Path, required=True, help="file of the list")
    args = parser.parse_args(argv)
    print(f"{args.out}: {list_folder(args.media_dir, args.out)} samples")


if __name__ == "__main__":
    run_command(main)
