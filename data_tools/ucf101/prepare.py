"""`data_tools.prepare` with the folders of UCF-101 as defaults, by the name of the published script.

python -m data_tools.ucf101.prepare --raw_dir data/ucf101/raw --ann_dir data/ucf101/lists --out_dir data/ucf101
"""

from functools import partial
from pathlib import Path

from .. import prepare
from ..command import run_command

main = partial(prepare.main, folder=Path("data/ucf101"))

if __name__ == "__main__":
    run_command(main)
