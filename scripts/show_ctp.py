#!/usr/bin/env python3
"""Draw one augmented Catch-the-Patch clip as a PNG: what the network sees, or what it has learned.

    python scripts/show_ctp.py data/ucf101/zips/Archery/v_Archery_g08_c01.zip --output ctp.png
    python scripts/show_ctp.py clip.avi --seed 3 task.sample.crop_size=56 'task.sample.short_sides=[56,64]'
    python scripts/show_ctp.py run=last
    python scripts/show_ctp.py checkpoint=outputs/<DATE>/<TIME>/fedvssl_results/round-20-weights.npz

Without a checkpoint: the boxes of the patches, solid where the patch is pasted, dashed where it is not. With one: true
boxes solid and predicted ones dashed, before training (upper rows) and after it (lower rows), by the settings of the
run and the head of its first client; the video is by default the first of that client, and the picture is ctp.png in
the run's folder, where the report finds it.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from fedvssl import building, config
from fedvssl.chosen_run import with_run
from fedvssl.data.annotations import read_annotations
from fedvssl.data.augment import IMAGENET_MEAN, IMAGENET_STD
from fedvssl.data.media import find_media
from fedvssl.files.atomic import atomic_path
from fedvssl.files.ending import exit_code
from fedvssl.files.lock import owned_output
from fedvssl.files.tensors import load_arrays_into
from fedvssl.overrides import parse_overrides
from fedvssl.preflight import settle
from fedvssl.trained_run import read_trained

COLOURS = ("tab:red", "tab:cyan", "tab:olive", "tab:pink", "tab:green", "tab:orange")
FRAMES_IN_A_ROW = 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?", help="zip of frames, or any video file")
    parser.add_argument("--output", type=Path, help="default: ctp.png, with a checkpoint in the folder of its run")
    parser.add_argument("--seed", type=int, default=0, help="another clip, other patches")
    args, words = parser.parse_known_args()
    if args.video and "=" in args.video and not Path(args.video).exists():
        args.video, words = None, [args.video, *words]
    return exit_code(lambda: draw(args, words))


def draw(args: argparse.Namespace, words: list[str]) -> None:
    """Draw what the command line asks for.

    Raises:
        ValueError: if it names neither a video nor a round.
    """
    words = with_run("show_ctp", words)
    given = [word for word in words if word.removeprefix("--").startswith("checkpoint=")]
    named, overrides = [word.partition("=")[2] for word in given], parse_overrides([w for w in words if w not in given])
    checkpoint = Path(named[-1]).expanduser() if named else None
    output = args.output or (checkpoint.parent if checkpoint else Path()) / "ctp.png"
    if checkpoint:
        draw_learned(checkpoint, args.video, output, seed=args.seed, overrides=overrides)
    elif args.video:
        draw_input(Path(args.video), output, seed=args.seed, overrides=overrides)
    else:
        raise ValueError("Name a video, or a round of a run with checkpoint=<run>/round-<N>-weights.npz.")
    print(output)


def draw_input(video: Path, output: Path, *, seed: int, overrides: list[str]) -> None:
    """Draw one clip as in training, with the boxes of its patches."""
    cfg = settle(config.compose("base", overrides))
    batch = draw_batch(cfg, video, seed=seed)
    augmented = building.build_task({**cfg, "model": {**cfg["model"], "width": 4}}).augment(batch)
    figure, axes = frames_figure(to_pictures(augmented["clips"][0]), repeats=1)
    for frame, axis in enumerate(axes[0]):
        draw_boxes(axis, batch["boxes"][0, :, frame], solid=batch["pasted"][0, :, frame])
    figure.suptitle(f"{video.name}, seed {seed}: solid where the patch is pasted")
    save(figure, output)


def draw_learned(checkpoint: Path, video: str | None, output: Path, *, seed: int, overrides: list[str]) -> None:
    """Draw the boxes that the initial model and a round of a run predict, beside the true ones.

    Raises:
        ValueError: as `read_trained`.
    """
    run = read_trained(checkpoint, overrides)
    cfg = run.config
    path = Path(video) if video else first_video(cfg)
    batch = draw_batch(cfg, path, seed=seed)
    found = [predict(cfg, arrays, batch) for arrays in (run.initial, run.of_clients[0])]
    figure, axes = frames_figure(found[0]["pictures"], repeats=2)
    for row, (title, shown) in enumerate(zip(("before", f"after round {run.server_round}"), found, strict=True)):
        for frame, axis in enumerate(axes[row]):
            patches = len(shown["boxes"])
            draw_boxes(axis, batch["boxes"][0, :, frame], solid=torch.ones(patches))
            draw_boxes(axis, shown["boxes"][:, frame], solid=torch.zeros(patches))
            axis.set_title(f"{title}, frame {frame}", fontsize=8)
    ious = " -> ".join(f"{shown['iou']:.2f}" for shown in found)
    figure.suptitle(
        f"{path.name}: true boxes solid, predicted dashed; IoU {ious}, standing still {found[0]['still']:.2f}"
    )
    save(figure, output)


def first_video(cfg: config.Config) -> Path:
    """First video of the run's first client."""
    listed = read_annotations(Path(cfg["partition_dir"]) / "client_dist1.json")
    return find_media(Path(cfg["data"]["media_dir"]), listed[0].name)


def draw_batch(cfg: config.Config, video: Path, *, seed: int) -> dict[str, torch.Tensor]:
    sample = building.build_sample(cfg)(video, np.random.default_rng(seed))
    return {name: value.unsqueeze(0) for name, value in {**sample, "index": torch.tensor(0)}.items()}


def predict(cfg: config.Config, arrays: dict[str, np.ndarray], batch: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Pictures [T,H,W,3] of the clip, predicted boxes [P,T,4], their IoU and that of standing still."""
    task = building.build_task(cfg)
    load_arrays_into(task, arrays)
    task.eval()
    with torch.no_grad():
        ready = task.augment(batch)
        scalars = task(ready)
        queries = ready["boxes"][:, :, 0].float()
        boxes = task.head.predict_boxes(task.head(task.backbone(ready["clips"]), queries), queries)
    pictures = to_pictures(ready["clips"][0])
    return {"pictures": pictures, "boxes": boxes[0], "iou": scalars["iou"], "still": scalars["iou_still"]}


def to_pictures(clip: torch.Tensor) -> np.ndarray:
    """Model input [3,T,H,W] -> [T,H,W,3] in 0..1."""
    frames = clip.permute(1, 2, 3, 0) * torch.tensor(IMAGENET_STD) + torch.tensor(IMAGENET_MEAN)
    return frames.clamp(0, 1).numpy()


def frames_figure(pictures: np.ndarray, *, repeats: int) -> tuple[Any, list[list[Axes]]]:
    """Figure that shows the frames `repeats` times, and the axes of the frames for each time."""
    columns = min(FRAMES_IN_A_ROW, len(pictures))
    rows = -(-len(pictures) // columns)
    figure, grid = plt.subplots(
        *(rows * repeats, columns), figsize=(1.7 * columns, 1.9 * rows * repeats), layout="compressed", squeeze=False
    )
    shown: list[list[Axes]] = []
    for repeat in range(repeats):
        axes = list(grid[repeat * rows : (repeat + 1) * rows].flat)
        for axis in axes:
            axis.set_axis_off()
        for frame, (axis, picture) in enumerate(zip(axes, pictures, strict=False)):
            axis.imshow(picture)
            axis.set_title(f"frame {frame}", fontsize=8)
        shown.append(axes[: len(pictures)])
    return figure, shown


def draw_boxes(axis: Axes, boxes: torch.Tensor, *, solid: torch.Tensor) -> None:
    """Draw the boxes [P,4] of one frame, solid where `solid` [P] is true, dashed elsewhere."""
    for patch, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        box = Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, linewidth=1.5)
        box.set_edgecolor(COLOURS[patch % len(COLOURS)])
        box.set_linestyle("-" if solid[patch] else "--")
        axis.add_patch(box)


def save(figure: Any, output: Path) -> None:
    with owned_output(output), atomic_path(output) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


if __name__ == "__main__":
    sys.exit(main())
