"""Fetching the archives of a data set and unpacking them, from the first of its sources that works.

`data_tools.<data set>.sources` says where they are, `data_tools.<data set>.download` is the command.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .archive import rar_tool, unpack
from .command import command_parser
from .download import DiskSpaceError, DownloadError, Source, check_disk_space, download

Parts = Mapping[str, Sequence[Source]]  # "lists" or "raw" -> where that part can be had, best first


def fetch(sources: Sequence[Source], folder: Path, downloads: Path) -> Path:
    """Unpack the first source that can be had into `folder`.

    Raises:
        DownloadError: if there is none; the message has the reason of each.
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
            check_disk_space(downloads, 2 * (source.size or largest) - there)  # the archive, and what is in it
            return unpack(download(source, downloads), folder)
        except DiskSpaceError:
            raise  # another source would not fit either
        except ValueError as error:
            print(f"{source.url}: {error}")
            reasons.append(str(error))
    raise DownloadError(" ".join(reasons))


def fetch_command(parts: Parts, *, description: str | None, out_dir: Path, argv: Sequence[str] | None) -> None:
    """The command of a data set: each part goes to `<out_dir>/<part>`, the archives to `<out_dir>/downloads`.

    Args:
        description: docstring of the command.
        out_dir: default of its flag.
    """
    parser = command_parser(description)
    parser.add_argument("--out_dir", type=Path, default=out_dir, help="folder for raw/, lists/, downloads/")
    parser.add_argument("--parts", nargs="+", choices=tuple(parts), default=list(parts), help="what to fetch")
    args = parser.parse_args(argv)
    for part in args.parts:
        fetch(parts[part], args.out_dir / part, args.out_dir / "downloads")
