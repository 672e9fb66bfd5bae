"""A prepared set of pictures with masks: rings and L shapes of two owners."""

from pathlib import Path

from data_tools.masks import MaskFormat, prepare_masks
from data_tools.shapes import write_shapes


def prepare_shapes(out_dir: Path, *, number: int = 24, seed: int = 0) -> Path:
    """`out_dir`/pictures and `out_dir`/annotations."""
    write_shapes(out_dir / "raw", number=number, seed=seed)
    form = MaskFormat(kind="classes", least_area=20, test_share=0.3)
    prepare_masks(out_dir / "raw/images", out_dir / "raw/masks", out_dir, form=form)
    return out_dir
