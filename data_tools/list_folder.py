"""All videos and pictures of a folder -> the list of one client, such as a node of a federation.

    python -m data_tools.list_folder --media_dir /data/videos --out /data/list.json

Files of any kind that can be trained on are listed, in all folders below, videos by their names without an ending. What
is hidden, or of a tool such as __MACOSX, is passed over, and so are the objects beside pictures that data_tools.masks
writes. The last folder of a file is its class, in alphabetical order; pre-training reads no class.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fedvssl.data.annotations import write_annotations
from fedvssl.data.masks import SUFFIX as OF_OBJECTS
from fedvssl.data.video import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from fedvssl.files.names import check_name

from .command import command_parser, run_command
from .list_words import some
from .lists import splits_from_names
from .walk import files_ending

SUFFIXES = {".zip", *VIDEO_SUFFIXES, *PICTURE_SUFFIXES}


def list_folder(media_dir: Path, out: Path) -> int:
    """Write the list, and return its length.

    Raises:
        ValueError: if there is no such folder, it holds nothing to train on, two files would have one name, or no
            name can be used.
    """
    if not media_dir.is_dir():
        raise ValueError(f"No folder {media_dir}: give that of the videos or pictures.")
    files = [path for path in files_ending(media_dir, SUFFIXES) if not path.name.endswith(OF_OBJECTS)]
    if not files:
        raise ValueError(f"{media_dir} holds no video and no picture.")
    stems = Counter(path.relative_to(media_dir).with_suffix("").as_posix() for path in files)
    if twice := next((stem for stem, number in stems.items() if number > 1), ""):
        raise ValueError(f"{media_dir} has several files {twice} with different endings: keep one of them.")
    names, unusable = [], []
    for path in files:
        try:
            names.append(check_name(name_of(path.relative_to(media_dir)), where=media_dir))
        except ValueError as error:
            unusable.append(str(error))
    if not names:
        raise ValueError(f"{unusable[0]} No other file is there.")
    if unusable:
        print(f"{len(unusable)} files are left out: {some(unusable)}")
    (annotations,) = splits_from_names(names).values()
    write_annotations(out, annotations)
    return len(annotations)


def name_of(path: Path) -> str:
    """Name of a file in the list. A picture keeps its ending: a folder of thousands is searched for any other name."""
    return (path if path.suffix.lower() in PICTURE_SUFFIXES else path.with_suffix("")).as_posix()


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__)
    parser.add_argument("--media_dir", type=Path, required=True, help="folder of the videos or pictures")
    parser.add_argument("--out", type=Path, required=True, help="file of the list")
    args = parser.parse_args(argv)
    print(f"{args.out}: {list_folder(args.media_dir, args.out)} samples")


if __name__ == "__main__":
    run_command(main)
