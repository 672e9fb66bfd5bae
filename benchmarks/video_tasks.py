"""One training step of each pretext task on videos.

    python -m benchmarks.video_tasks

From the uint8 batch on the device: augmentation, forward, backward, update and what follows the update, in float32.
Baseline: the same network with a linear classifier on the same clips, made ready before; the sides take turns. MoCo's
baseline sees one of its two clips, as the key encoder has no backward pass.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.measure import Result, alternate
from benchmarks.views import Run, finish, step_of
from fedvssl.building import build_optimizer, build_sample, build_task
from fedvssl.config import compose
from fedvssl.data.dataset import stack
from fedvssl.data.video import Step, whole
from fedvssl.tasks.task import Batch
from fedvssl.training.loop import build_fabric, set_up

TASKS = ("ctp", "vcop", "speed", "rot3d", "memdpc", "moco_clips")
CLIPS = {"vcop": "clips", "memdpc": "blocks", "moco_clips": "view1"}  # entry of the batch that the baseline takes
SIZES = {"cpu": (10, 16), "cuda": (18, 64)}  # depth and width; published ones on a GPU
BATCH = 4
SMALL = ("task.sample.draw.crop_size=56", "task.sample.draw.sizes=[[75,56],[86,64]]")
SMALLER = {  # than published, for a CPU
    "ctp": ("task.sample.crop_size=56", "task.sample.short_sides=[56,64]", "task.sample.patches.scales=[16,24]"),
    "vcop": ("task.sample.draw.crop_size=56", "task.sample.draw.sizes=[[86,64]]"),
    "speed": ("task.sample.draw.crop_size=56", "task.sample.draw.short_sides=[56,64]"),
    "moco_clips": (*SMALL, "task.module.queue_length=4096"),
}
REPEATS = 9


class Noise:
    """A video of frames that cost nothing to decode."""

    def __len__(self) -> int:
        return 200

    def read(self, indices: np.ndarray, then: Step = whole) -> np.ndarray:
        frame = np.random.default_rng(0).integers(0, 256, (144, 192, 3), dtype=np.uint8)
        return np.stack([then(frame) for _ in indices])


class Classifier(nn.Module):
    """A linear classifier on the clips of a task: the baseline of a step."""

    def __init__(self, backbone: Any, *, name: str) -> None:
        super().__init__()
        self.backbone, self.head, self.name = backbone, nn.Linear(backbone.out_channels, 10), name

    def forward(self, batch: Batch) -> Batch:
        logits = self.head(self.backbone(batch[self.name]).flatten(2).mean(2))
        return {"loss": cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))}


def sides_of(name: str, *, device: str) -> dict[str, Run]:
    """A step of the task with its augmentation, and a step of the baseline."""
    depth, width = SIZES[device]
    own = SMALLER.get(name, SMALL) if device == "cpu" else ()
    config = compose("base", [f"task={name}", f"model.depth={depth}", f"model.width={width}", *own])
    sample, task = build_sample(config), build_task(config)
    items = [sample.read(Noise(), np.random.default_rng(seed)) for seed in range(BATCH)]
    batch = stack([{**item, "index": torch.tensor(index)} for index, item in enumerate(items)])
    batch = {key: value.to(device) for key, value in batch.items()}
    classifier = Classifier(build_task(config).backbone, name=CLIPS.get(name, "clips"))
    with torch.no_grad():
        ready = task.augment(batch)
    return {
        "ours": whole_step(task, config, batch, device=device),
        "baseline": step_of(classifier, config, ready, device=device),
    }


def whole_step(task: Any, config: dict[str, Any], batch: Batch, *, device: str) -> Run:
    """One training step of a task, its augmentation included."""
    fabric = build_fabric(device=device, precision="32-true")
    optimizer = build_optimizer(config["training"], task, on_gpu=device == "cuda")
    wrapped, optimizer = set_up(fabric, task.train(), optimizer)

    def step() -> None:
        """Augmentation, forward, backward, update, and what the task does after it."""
        with torch.no_grad():
            ready = task.augment(batch)
        loss = wrapped(ready)["loss"]
        optimizer.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(wrapped, optimizer, max_norm=40, error_if_nonfinite=False)
        optimizer.step()
        if hasattr(task, "after_step"):
            task.after_step()
        finish(device)

    return step


def measure() -> list[Result]:
    """Seconds of a step of each task."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    depth, width = SIZES[device]
    note, results = f"R3D-{depth} of width {width}, {BATCH} videos, {device}", []
    for name in TASKS:
        seconds = alternate(sides_of(name, device=device), repeats=REPEATS, warm_up=2)
        own, baseline = seconds["ours"], seconds["baseline"]
        results.append(Result(f"step_{name}", "s/step", ours=own, baseline=baseline, note=note))
    return results


def main() -> None:
    """The command."""
    for result in measure():
        print(result.line())


if __name__ == "__main__":
    main()
