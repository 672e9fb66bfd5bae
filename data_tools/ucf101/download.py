"""Fetch and unpack UCF-101: `<out_dir>/raw` (videos, 7 GB) and `<out_dir>/lists` (split lists).

    python -m data_tools.ucf101.download --out_dir data/ucf101

Resumes after a stop. The archives stay in `<out_dir>/downloads` and may be deleted afterwards; archives that were
fetched by hand and put there are taken. What is unpacked already is not fetched again.
"""

from collections.abc import Sequence
from pathlib import Path

from ..command import run_command
from ..fetch import fetch_command
from .sources import LISTS, VIDEOS

PARTS = {"lists": LISTS, "raw": VIDEOS}


def main(argv: Sequence[str] | None = None) -> None:
    fetch_command(PARTS, description=__doc__, out_dir=Path("data/ucf101"), argv=argv)


if __name__ == "__main__":
    run_command(main)
