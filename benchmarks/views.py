"""Views of pictures on the device, and one training step of each task of two views.

    python -m benchmarks.views
    python -m benchmarks.views --widths 8 16 32     seconds of a SimCLR step for networks of several widths instead

Views: pictures of 32x32 a second, two views each, from the uint8 batch to normalised views. Baseline: the same
transforms of torchvision, picture by picture, as a loader does it. Steps: forward, backward, update and what follows
the update, of the training in float32. Baseline: the same network with a linear classifier on the same two views. The
sides take turns.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.transforms import v2

from benchmarks.measure import Result, alternate, quartiles
from benchmarks.pictures import smooth_pictures, write_pictures
from fedvssl.building import build_optimizer, build_sample, build_task
from fedvssl.config import compose
from fedvssl.data.dataset import SampleDataset, stack
from fedvssl.tasks.task import Batch
from fedvssl.training.loop import build_fabric, set_up

TASKS = ("simclr", "byol", "simsiam", "moco_v2")
SIZES = {"cpu": (16, 64), "cuda": (64, 512)}  # width and batch: those of experiment=fedsimclr_small, and of a GPU
HEADS = {"hidden_channels": 128, "out_channels": 64}
REPEATS = 9
Run = Callable[[], object]


def words(task: str, *, width: int) -> list[str]:
    heads = [f"task.module.projector.{name}={value}" for name, value in HEADS.items()]
    heads += ["task.module.predictor.hidden_channels=128"] if task in ("byol", "simsiam") else []
    return [f"task={task}", "model=resnet18", f"model.width={width}", "strategy=fedavg", *heads]


def draw_batch(config: dict[str, Any], size: int) -> Batch:
    """A batch of made-up pictures with the parameters of their views."""
    with tempfile.TemporaryDirectory() as folder:
        annotations = write_pictures(Path(folder), smooth_pictures(np.random.default_rng(0))[:size])["stored"]
        dataset = SampleDataset(Path(folder), annotations, build_sample(config), seed_key=(7,))
        return stack([dataset[index] for index in range(size)])


class Classifier(nn.Module):
    """A linear classifier on both views, one after the other: the baseline of a step."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(backbone.out_channels, 10)

    def forward(self, batch: Batch) -> Batch:
        logits = [self.head(self.backbone(batch[name]).flatten(2).mean(2)) for name in ("view1", "view2")]
        return {"loss": sum(cross_entropy(own, batch["index"] % 10) for own in logits)}  # pyright: ignore[reportReturnType]


def step_of(task: nn.Module, config: dict[str, Any], batch: Batch, *, device: str) -> Run:
    """One training step of a task on ready views."""
    fabric = build_fabric(device=device, precision="32-true")
    optimizer = build_optimizer(config["training"], task, on_gpu=device == "cuda")
    wrapped, optimizer = set_up(fabric, task.train(), optimizer)

    def step() -> None:
        """Forward, backward, update, and what the task does after it."""
        loss = wrapped(batch)["loss"]
        optimizer.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(wrapped, optimizer, max_norm=40, error_if_nonfinite=False)
        optimizer.step()
        if hasattr(task, "after_step"):
            task.after_step()  # pyright: ignore[reportCallIssue]
        finish(device)

    return step


def finish(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def measure() -> list[Result]:
    """Pictures a second of the views, and seconds of a step of each task."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    width, size = SIZES[device]
    configs = {name: compose("base", words(name, width=width)) for name in TASKS}
    tasks = {name: build_task(config) for name, config in configs.items()}
    batch = {name: value.to(device) for name, value in draw_batch(configs["simclr"], size).items()}
    sides = {
        "views": lambda: (tasks["simclr"].augment(batch), finish(device)),
        "one by one": one_by_one(batch["frames"]),
    }
    rates = {name: [size / second for second in own] for name, own in alternate(sides, repeats=REPEATS).items()}
    ready = tasks["simclr"].augment(batch)
    classifier = Classifier(build_task(configs["simclr"]).backbone)
    steps = {"classifier": step_of(classifier, configs["simclr"], ready, device=device)}
    steps |= {name: step_of(tasks[name], configs[name], ready, device=device) for name in TASKS}
    seconds = alternate(steps, repeats=REPEATS, warm_up=2)
    note = f"ResNet-18 of width {width}, batch of {size}, {device}"
    results = [
        Result(f"step_{name}", "s/step", ours=seconds[name], baseline=seconds["classifier"], note=note)
        for name in TASKS
    ]
    views = {"ours": rates["views"], "baseline": rates["one by one"], "more_is_better": True, "note": note}
    return [Result("views", "pictures/s", **views), *results]


def one_by_one(frames: Tensor) -> Run:
    """Two views of each picture by torchvision on the CPU, each picture with parameters of its own."""
    pictures = frames.cpu().permute(0, 3, 1, 2).contiguous()
    jitter = v2.ColorJitter(0.8, 0.8, 0.8, 0.2)
    steps = [
        v2.RandomResizedCrop(32),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([jitter], p=0.8),
        v2.RandomGrayscale(0.2),
    ]
    end = [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    transform = v2.Compose([*steps, *end])
    return lambda: [torch.stack([transform(picture) for picture in pictures]) for _ in range(2)]


def time_widths(widths: list[int]) -> list[str]:
    """Lines with the median seconds of a SimCLR step, by processor time on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    steps, size = {}, SIZES["cpu"][1]
    for width in widths:
        config = compose("base", words("simclr", width=width))
        task = build_task(config)
        ready = task.augment(draw_batch(config, size))
        steps[str(width)] = step_of(task, config, ready, device="cpu")
    found = alternate(steps, repeats=5, warm_up=1, clock=time.process_time)
    torch.set_num_threads(before)
    spreads = {width: " ".join(f"{value:.3f}" for value in quartiles(own)) for width, own in found.items()}
    return [f"width {w:>3}: {np.median(found[w]):.3f} [{spreads[w]}] s/step of {size} pictures" for w in found]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", help="widths of the network whose steps are timed")
    args = parser.parse_args()
    for line in time_widths(args.widths) if args.widths else [result.line() for result in measure()]:
        print(line)


if __name__ == "__main__":
    main()
