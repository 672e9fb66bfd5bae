#!/usr/bin/env python3
"""Draw the input of the network as a PNG: one augmented Catch-the-Patch clip with the boxes of its patches.

    python scripts/show_ctp.py data/ucf101/zips/Archery/v_Archery_g08_c01.zip --output ctp.png
    python scripts/show_ctp.py clip.avi --seed 3 task.sample.crop_size=56 'task.sample.short_sides=[56,64]'

Solid box: the patch is pasted in this frame. Dashed box: it is not, and the network has to predict its place.
"""

import argparse
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from fedvssl import config
from fedvssl.data.augment import IMAGENET_MEAN, IMAGENET_STD
from fedvssl.data.video import open_video
from fedvssl.files.atomic import atomic_path

COLOURS = ("tab:red", "tab:cyan", "tab:olive", "tab:pink", "tab:green", "tab:orange")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, help="zip of frames, or any video file")
    parser.add_argument("--output", type=Path, default=Path("ctp.png"))
    parser.add_argument("--seed", type=int, default=0, help="another clip, other patches")
    args, overrides = parser.parse_known_args()
    try:
        draw(args.video, args.output, seed=args.seed, overrides=overrides)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.output}: solid boxes hold a patch, dashed ones do not in this frame")
    return 0


def draw(video: Path, output: Path, *, seed: int, overrides: list[str]) -> None:
    """Augment one clip as in training and write the picture."""
    cfg = config.compose("base", config.parse_overrides(overrides))
    sample = config.build_sample(cfg)(open_video(video), np.random.default_rng(seed))
    batch = {name: value.unsqueeze(0) for name, value in {**sample, "index": torch.tensor(0)}.items()}
    augmented = config.build_task({**cfg, "model": {**cfg["model"], "width": 4}}).augment(batch)
    pictures = to_pictures(augmented["clips"][0])

    rows = -(-len(pictures) // 4)
    figure, axes = plt.subplots(rows, 4, figsize=(12, 3.15 * rows), layout="compressed", squeeze=False)
    for frame, (axis, picture) in enumerate(zip(axes.flat, pictures, strict=False)):
        axis.imshow(picture)
        axis.set_axis_off()
        axis.set_title(f"frame {frame}", fontsize=9)
        draw_boxes(axis, batch["boxes"][0, :, frame], batch["pasted"][0, :, frame])
    figure.suptitle(f"{video.name}, seed {seed}")
    with atomic_path(output) as temporary:
        figure.savefig(temporary, dpi=100)


def to_pictures(clip: torch.Tensor) -> np.ndarray:
    """Model input [3,T,H,W] -> [T,H,W,3] in 0..1."""
    frames = clip.permute(1, 2, 3, 0) * torch.tensor(IMAGENET_STD) + torch.tensor(IMAGENET_MEAN)
    return frames.clamp(0, 1).numpy()


def draw_boxes(axis: Axes, boxes: torch.Tensor, pasted: torch.Tensor) -> None:
    """Draw the boxes [P,4] of one frame, solid where its flag in `pasted` [P] is true."""
    for patch, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        box = Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, linewidth=1.5)
        box.set_edgecolor(COLOURS[patch % len(COLOURS)])
        box.set_linestyle("-" if pasted[patch] else "--")
        axis.add_patch(box)


if __name__ == "__main__":
    sys.exit(main())
