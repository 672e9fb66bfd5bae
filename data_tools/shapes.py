"""Small pictures of rings and L shapes with their masks, on which a filled box is a bad answer.

    python -m data_tools.shapes --out_dir data/shapes/raw
    python -m data_tools.masks --picture_dir data/shapes/raw/images --mask_dir data/shapes/raw/masks --kind classes \\
        --least_area 20 --out_dir data/shapes

Writes `<out_dir>/images/owner<N>/<number>.png` and `<out_dir>/masks/...`: noise, and on it one shape in a colour of its
own. A ring is class 1, an L, turned by right angles, class 2. Owners take turns.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from fedvssl.files.lock import owned

from .command import command_parser, run_command

MOST_NOISE = 90  # grey levels of the background


def ring_or_l(rng: np.random.Generator, *, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture, uint8 [side,side,3] RGB, and the ids of its classes, uint8 [side,side]."""
    mask = np.zeros((side, side), np.uint8)
    size = int(rng.integers(side * 5 // 16, side * 5 // 8))
    x, y = (int(place) for place in rng.integers(2, side - size - 2, 2))
    thickness = max(3, size // 5)
    if rng.random() < 0.5:
        cv2.circle(mask, (x + size // 2, y + size // 2), size // 2 - thickness // 2, 1, thickness)
    else:
        shape = np.zeros((size, size), np.uint8)
        shape[:, :thickness] = shape[-thickness:] = 2
        mask[y : y + size, x : x + size] = np.rot90(shape, int(rng.integers(4)))
    picture = rng.integers(0, MOST_NOISE, (side, side, 3)).astype(np.uint8)
    picture[mask > 0] += rng.integers(80, 160, 3).astype(np.uint8)
    return picture, mask


def write_shapes(out_dir: Path, *, number: int, side: int = 64, owners: int = 2, seed: int = 0) -> None:
    """Write the pictures and masks.

    Raises:
        ValueError: if there is nothing to write, or the folder has pictures already.
    """
    if number < owners or owners < 1 or side < 32:
        raise ValueError(f"--number {number} must be at least --owners {owners}, that 1, and --side {side} 32.")
    if (out_dir / "images").exists():
        raise ValueError(f"{out_dir / 'images'} is there already: remove it, or name another --out_dir.")
    rng = np.random.default_rng(seed)
    with owned(out_dir):
        for index in range(number):
            picture, mask = ring_or_l(rng, side=side)
            for part, pixels in (("images", picture[..., ::-1]), ("masks", mask)):
                path = out_dir / part / f"owner{index % owners + 1}" / f"{index:05}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), pixels)


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = command_parser(__doc__)
    parser.add_argument("--out_dir", type=Path, required=True, help="folder for the pictures and masks")
    parser.add_argument("--number", type=int, default=800, help="of pictures")
    parser.add_argument("--side", type=int, default=64, help="of a picture, in pixels")
    parser.add_argument("--owners", type=int, default=2, help="folders, which take turns")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    write_shapes(args.out_dir, number=args.number, side=args.side, owners=args.owners, seed=args.seed)


if __name__ == "__main__":
    run_command(main)
