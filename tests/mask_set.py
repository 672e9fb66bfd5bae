"""Pictures with masks on disk, as people have them, and a prepared set of two owners with rings and L shapes."""

from pathlib import Path

import cv2
import numpy as np

from data_tools.masks import MaskFormat, prepare_masks

SIDE = 64


def ring_or_l(rng: np.random.Generator, *, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """A noisy picture, uint8 [side,side,3], and its mask of a ring (1) or an L (2), uint8 [side,side]."""
    mask = np.zeros((side, side), np.uint8)
    size = int(rng.integers(side * 5 // 16, side * 5 // 8))
    x, y = (int(v) for v in rng.integers(2, side - size - 2, 2))
    thickness = max(3, size // 5)
    if rng.random() < 0.5:
        centre = (x + size // 2, y + size // 2)
        cv2.circle(mask, centre, size // 2 - thickness // 2, 1, thickness)
    else:
        turned = np.zeros((size, size), np.uint8)
        turned[:, :thickness] = turned[-thickness:] = 2
        mask[y : y + size, x : x + size] = np.rot90(turned, int(rng.integers(4)))
    picture = rng.integers(0, 90, (side, side, 3)).astype(np.uint8)
    picture[mask > 0] += rng.integers(80, 160, 3).astype(np.uint8)
    return picture, mask


def write_shapes(folder: Path, *, number: int, seed: int = 0) -> Path:
    """`folder`/images and `folder`/masks of two owners, ids of classes in the masks."""
    rng = np.random.default_rng(seed)
    for index in range(number):
        picture, mask = ring_or_l(rng)
        for part, pixels in (("images", picture[..., ::-1]), ("masks", mask)):
            path = folder / part / f"owner{index % 2 + 1}" / f"{index:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), pixels)
    return folder


def prepare_shapes(out_dir: Path, *, number: int = 24, seed: int = 0) -> Path:
    """The same, prepared: `out_dir`/pictures and `out_dir`/annotations."""
    raw = write_shapes(out_dir / "raw", number=number, seed=seed)
    form = MaskFormat(kind="classes", least_area=20, test_share=0.3)
    prepare_masks(raw / "images", raw / "masks", out_dir, form=form)
    return out_dir
