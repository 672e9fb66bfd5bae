#!/usr/bin/env python3
"""Draw one sample of a task as a PNG: what the network sees and must answer, or what it has learned.

    python scripts/show_task.py data/ucf101/zips/Archery/v_Archery_g08_c01.zip --output ctp.png
    python scripts/show_task.py clip.avi task=vcop
    python scripts/show_task.py clip.avi --seed 3 task.sample.crop_size=56 'task.sample.short_sides=[56,64]'
    python scripts/show_task.py run=last
    python scripts/show_task.py checkpoint=outputs/<DATE>/<TIME>/fedvssl_results/round-20-weights.npz

Catch-the-Patch: boxes of the patches, solid where the patch is pasted, dashed where it is not. vcop, speed, rot3d,
memdpc: the clips or blocks of one video with the answer. Tasks of two views: both views.
With a checkpoint: the losses of the sample before training and after it, by the settings of the run and the head of its
first client; the video is by default the first of that client. Of Catch-the-Patch the true boxes solid and the
predicted ones dashed, before (upper rows) and after (lower rows). The picture is <task>.png, with a checkpoint in the
run's folder, where the report finds ctp.png.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
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
from fedvssl.tasks.vcop import ORDERS
from fedvssl.trained_run import read_trained

COLOURS = ("tab:red", "tab:cyan", "tab:olive", "tab:pink", "tab:green", "tab:orange")
FRAMES_IN_A_LINE = 8
Normalisation = tuple[Sequence[float], Sequence[float]]  # means and standard deviations of red, green, blue from 0 to 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?", help="zip of frames, or any video file; a picture for tasks on pictures")
    parser.add_argument("--output", type=Path, help="default: <task>.png, with a checkpoint in the folder of its run")
    parser.add_argument("--seed", type=int, default=0, help="another sample")
    args, words = parser.parse_known_args()
    if args.video and "=" in args.video and not Path(args.video).exists():
        args.video, words = None, [args.video, *words]
    return exit_code(lambda: draw(args, words))


def draw(args: argparse.Namespace, words: list[str]) -> None:
    """Draw what the command line asks for.

    Raises:
        ValueError: if it names neither a video nor a round.
    """
    words = with_run("show_task", words)
    given = [word for word in words if word.removeprefix("--").startswith("checkpoint=")]
    named, overrides = [word.partition("=")[2] for word in given], parse_overrides([w for w in words if w not in given])
    if named:
        figure, output = draw_learned(Path(named[-1]).expanduser(), args.video, seed=args.seed, overrides=overrides)
    elif args.video:
        figure, output = draw_input(Path(args.video), seed=args.seed, overrides=overrides)
    else:
        raise ValueError("Name a video, or a round of a run with checkpoint=<run>/round-<N>-weights.npz.")
    save(figure, args.output or output)
    print(args.output or output)


@dataclass
class Row:
    """Frames that belong together.

    Args:
        title: stands above the first.
        pictures: [T,H,W,3] in 0..1.
        boxes: boxes [P,T,4] in pixels, and where they are solid, bool [P,T].
    """

    title: str
    pictures: np.ndarray
    boxes: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)


def draw_input(video: Path, *, seed: int, overrides: list[str]) -> tuple[Figure, Path]:
    """Figure of one sample as in training, and the name of its file."""
    cfg = settle(config.compose("base", overrides))
    batch = draw_batch(cfg, video, seed=seed)
    task = building.build_task({**cfg, "model": {**cfg["model"], "width": 4}})
    rows, answer = rows_of(cfg, task, task.augment(batch))
    if "boxes" in batch:
        rows[0].boxes.append((batch["boxes"][0], batch["pasted"][0]))
    return frames_figure(rows, f"{video.name}, seed {seed}: {answer}"), Path(f"{name_of(cfg)}.png")


def draw_learned(checkpoint: Path, video: str | None, *, seed: int, overrides: list[str]) -> tuple[Figure, Path]:
    """Figure of what the initial model and a round of a run make of a sample, and its file in the run's folder.

    Raises:
        ValueError: as `read_trained`.
    """
    run = read_trained(checkpoint, overrides)
    cfg = run.config
    path = Path(video) if video else first_video(cfg)
    batch = draw_batch(cfg, path, seed=seed)
    found = [predict(cfg, arrays, batch) for arrays in (run.initial, run.of_clients[0])]
    rows, answer = rows_of(cfg, found[1]["task"], found[1]["ready"])
    losses = " -> ".join(f"{shown['loss']:.3g}" for shown in found)
    trivial = ", ".join(f"{name} {float(loss):.3g}" for name, loss in found[1]["trivial"].items())
    title = f"{answer}; loss {losses} after round {run.server_round} ({trivial})"
    if "boxes" in batch:
        true = (batch["boxes"][0], torch.ones(batch["boxes"].shape[1:3]))
        own = [(shown["boxes"], torch.zeros(shown["boxes"].shape[:2])) for shown in found]
        titles = ("before", f"after round {run.server_round}")
        rows = [Row(name, rows[0].pictures, [true, boxes]) for name, boxes in zip(titles, own, strict=True)]
        ious = " -> ".join(f"{shown['iou']:.2f}" for shown in found)
        title = f"true boxes solid, predicted dashed; IoU {ious}, standing still {found[0]['iou_still']:.2f}"
    return frames_figure(rows, f"{path.name}: {title}"), checkpoint.parent / f"{name_of(cfg)}.png"


def name_of(cfg: config.Config) -> str:
    """Name of the task's file, such as "ctp"."""
    return cfg["task"]["module"]["_target_"].split(".")[-2]


def rows_of(cfg: config.Config, task: Any, ready: dict[str, torch.Tensor]) -> tuple[list[Row], str]:
    """What the network sees of the first sample of a batch that a task has augmented, and the answer in words.

    Raises:
        ValueError: if the task shows the network what this script does not know.
    """
    module, sample = cfg["task"]["module"], cfg["task"]["sample"]
    to_pictures = partial(as_pictures, normalisation=normalisation_of(task))
    if "boxes" in ready:
        return [Row("", to_pictures(ready["clips"][0]))], "solid where the patch is pasted"
    if "order" in ready:
        order = [place + 1 for place in ORDERS[int(ready["order"][0])]]
        pairs = zip(order, ready["clips"], strict=True)
        rows = [Row(f"clip {place} of the video", to_pictures(clip)) for place, clip in pairs]
        return rows, f"order {order}, answer {int(ready['order'][0])} of 0 to {len(ORDERS) - 1}"
    if "blocks" in ready:
        rows = [Row(f"block {number}", to_pictures(block)) for number, block in enumerate(ready["blocks"], start=1)]
        return rows, f"features of the last {module['num_predicted']} blocks, and backwards of the first"
    if "view1" in ready:
        return [Row(name, to_pictures(ready[name][0])) for name in ("view1", "view2")], "the views must find each other"
    for name, answers in {"speed": sample.get("speeds"), "turn": [f"{90 * turn} degrees" for turn in range(4)]}.items():
        if name in ready:
            return [Row("", to_pictures(ready["clips"][0]))], f"{name} {answers[int(ready[name][0])]}"
    raise ValueError(f"show_task knows no picture for {module['_target_']}.")


def first_video(cfg: config.Config) -> Path:
    """First video of the run's first client."""
    listed = read_annotations(Path(cfg["partition_dir"]) / "client_dist1.json")
    return find_media(Path(cfg["data"]["media_dir"]), listed[0].name)


def draw_batch(cfg: config.Config, video: Path, *, seed: int) -> dict[str, torch.Tensor]:
    sample = building.build_sample(cfg)(video, np.random.default_rng(seed))
    return {name: value.unsqueeze(0) for name, value in {**sample, "index": torch.tensor(0)}.items()}


def predict(cfg: config.Config, arrays: dict[str, np.ndarray], batch: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Scalars, "trivial" losses, "task", its "ready" batch; of Catch-the-Patch the predicted "boxes" [P,T,4]."""
    task = building.build_task(cfg)
    load_arrays_into(task, arrays)
    task.eval()
    with torch.no_grad():
        ready = task.augment(batch)
        found = {**task(ready), "trivial": task.trivial(ready), "task": task, "ready": ready}
        if "boxes" in ready:
            queries = ready["boxes"][:, :, 0].float()
            found["boxes"] = task.head.predict_boxes(task.head(task.backbone(ready["clips"]), queries), queries)[0]
    return found


def normalisation_of(task: Any) -> Normalisation:
    """Means and standard deviations by which a task normalises, see `fedvssl.tasks.task.Task`."""
    owner = task if hasattr(task, "mean") else getattr(task, "views", None)
    return getattr(owner, "mean", IMAGENET_MEAN), getattr(owner, "std", IMAGENET_STD)


def as_pictures(clip: torch.Tensor, *, normalisation: Normalisation) -> np.ndarray:
    """Model input [3,T,H,W], or a picture [3,H,W], -> [T,H,W,3] in 0..1."""
    clip = clip[:, None] if clip.ndim == 3 else clip
    mean, std = (torch.as_tensor(values).flatten() for values in normalisation)
    return (clip.permute(1, 2, 3, 0) * std + mean).clamp(0, 1).numpy()


def frames_figure(rows: list[Row], title: str) -> Figure:
    """Figure of rows of frames, each in as many lines as it needs."""
    columns = min(FRAMES_IN_A_LINE, max(len(row.pictures) for row in rows))
    lines = [-(-len(row.pictures) // columns) for row in rows]
    figure, grid = plt.subplots(
        *(sum(lines), columns), figsize=(1.7 * columns, 1.9 * sum(lines)), layout="compressed", squeeze=False
    )
    for axis in grid.flat:
        axis.set_axis_off()
    for number, row in enumerate(rows):
        axes = grid[sum(lines[:number]) : sum(lines[: number + 1])].flat
        for frame, (axis, picture) in enumerate(zip(axes, row.pictures, strict=False)):
            axis.imshow(picture)
            axis.set_title(f"{row.title}{', ' * bool(row.title)}frame {frame}" if frame == 0 else f"frame {frame}")
            axis.title.set_fontsize(8)
            for boxes, solid in row.boxes:
                draw_boxes(axis, boxes[:, frame], solid=solid[:, frame])
    figure.suptitle(title)
    return figure


def draw_boxes(axis: Axes, boxes: torch.Tensor, *, solid: torch.Tensor) -> None:
    """Draw the boxes [P,4] of one frame, solid where `solid` [P] is true, dashed elsewhere."""
    for patch, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        box = Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, linewidth=1.5)
        box.set_edgecolor(COLOURS[patch % len(COLOURS)])
        box.set_linestyle("-" if solid[patch] else "--")
        axis.add_patch(box)


def save(figure: Figure, output: Path) -> None:
    with owned_output(output), atomic_path(output) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


if __name__ == "__main__":
    sys.exit(main())
