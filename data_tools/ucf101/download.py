"""Fetch and unpack UCF-101: `<out_dir>/raw` (videos, 7 GB) and `<out_dir>/lists` (split lists).

    python -m data_tools.ucf101.download --out_dir data/ucf101

Resumes after a stop. The archives stay in `<out_dir>/downloads` and may be deleted afterwards; archives that were
fetched by hand and put there are taken. What is unpacked already is not fetched again.
"""

from collections.abc import Sequence
from pathlib import Path

from ..archive import rar_tool, unpack
from ..command import command_parser, run_command
from ..download import DiskSpaceError, DownloadError, Source, check_disk_space, download
from .sources import LISTS, VIDEOS

PARTS = {"lists": LISTS, "raw": VIDEOS}


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
                rar_tool()  # before 7 GB are fetched in vain
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


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__)
    parser.add_argument("--out_dir", type=Path, default=Path("data/ucf101"), help="folder for raw/, lists/, downloads/")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS), help="what to fetch")
    args = parser.parse_args(argv)
    for part in args.parts:
        fetch(PARTS[part], args.out_dir / part, args.out_dir / "downloads")


if __name__ == "__main__":
    run_command(main)
