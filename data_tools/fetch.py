"""Fetch and unpack a data set: `<out_dir>/raw` (videos or pictures) and `<out_dir>/lists` (split lists of videos).

    python -m data_tools.fetch ucf101 --out_dir data/ucf101      7 GB
    python -m data_tools.fetch hmdb51 --out_dir data/hmdb51      4 GB
    python -m data_tools.fetch cifar10 --out_dir data/cifar10    170 MB; cifar100 likewise

The URLs are in data_tools/sources.py. A repeated command resumes after a stop and does not fetch unpacked parts again.
The archives stay in `<out_dir>/downloads` and may be deleted afterwards; archives put there by hand are used.
"""

from collections.abc import Sequence
from pathlib import Path

from fedvssl.files.lock import owned

from .archive import rar_tool, unpack
from .command import command_parser, run_command
from .download import DiskSpaceError, DownloadError, Source, check_disk_space, download
from .sources import SOURCES


def fetch(sources: Sequence[Source], folder: Path, downloads: Path) -> Path:
    """Unpack the first available source into `folder`.

    Raises:
        DownloadError: if none is available; the message has the reason of each.
    """
    if folder.is_dir():
        print(f"{folder} is there already.")
        return folder
    reasons = []
    largest = max(source.size or 0 for source in sources)
    for source in sources:
        try:
            if source.file_name.endswith(".rar"):
                rar_tool()  # before gigabytes are fetched in vain
            downloads.mkdir(parents=True, exist_ok=True)
            there = sum(path.stat().st_size for path in downloads.glob(f"{source.file_name}*"))
            check_disk_space(downloads, 2 * (source.size or largest) - there)  # the archive and its contents
            return unpack(download(source, downloads), folder)
        except DiskSpaceError:
            raise  # another source would not fit either
        except ValueError as error:
            print(f"{source.url}: {error}")
            reasons.append(str(error))
    raise DownloadError(" ".join(reasons))


def main(argv: Sequence[str] | None = None) -> None:
    """The command: each part goes to `<out_dir>/<part>`, the archives to `<out_dir>/downloads`."""
    parser = command_parser(__doc__)
    parser.add_argument("dataset", help=f"one of: {', '.join(SOURCES)}")
    parser.add_argument("--out_dir", type=Path, required=True, help="folder for raw/, lists/, downloads/")
    parser.add_argument("--parts", nargs="+", choices=("lists", "raw"), help="what to fetch; all by default")
    args = parser.parse_args(argv)
    if args.dataset not in SOURCES:
        raise ValueError(
            f"{args.dataset} is not downloaded here ({', '.join(SOURCES)} are): give its videos as --raw_dir and its "
            "lists as --ann_dir to data_tools.prepare or its script."
        )
    for part in args.parts or SOURCES[args.dataset]:
        if part not in SOURCES[args.dataset]:
            raise ValueError(f"{args.dataset} has no {part}: its {' and '.join(SOURCES[args.dataset])} can be fetched.")
        with owned(args.out_dir / "downloads"):
            fetch(SOURCES[args.dataset][part], args.out_dir / part, args.out_dir / "downloads")


if __name__ == "__main__":
    run_command(main)
