"""A training step of Segment-Anything's mask decoder: with a kept embedding, and with the frozen image encoder.

    OMP_NUM_THREADS=1 python -m benchmarks.embeddings [--side 1024] [--repeats 9]

One made-up picture with one object; ViT-B with random weights, float32: forward, backward, update. Both sides take
turns on the same weights. The step that writes the file is not counted; the first one of a round hashes the weights of
the encoder and stands on a line of its own. Needs the extra `sam`.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Result, alternate, spread
from fedvssl.building import build_optimizer, build_sample, build_task
from fedvssl.config import compose
from fedvssl.data.dataset import stack
from fedvssl.data.made_up import KINDS, write_made_up
from fedvssl.data.media import find_media
from fedvssl.files.environment import machine
from fedvssl.tasks.embeddings import Embeddings
from fedvssl.training.loop import build_fabric, seed_torch, set_up

MODEL = "sam_vit_b"
SIDE, REPEATS, FIRST_STEPS = 256, 9, 3
PRECISION = "32-true"


class Steps:
    """Steps of one task, with and without kept embeddings.

    Args:
        folder: for a picture and the embeddings.
        side: of what the encoder gets, in pixels.
    """

    def __init__(self, folder: Path, *, side: int) -> None:
        words = ["task=segment", f"model={MODEL}", "optimizer=adamw", "training.lr=1e-4", "training.weight_decay=0"]
        config: dict[str, Any] = compose("base", [*words, f"model.image_size={side}"])
        self.fabric = build_fabric(precision=PRECISION)
        seed_torch((config["seed"],))
        task = build_task(config)
        optimizer = build_optimizer(config["training"], task, on_gpu=self.fabric.device.type == "cuda")
        self.task, self.optimizer = set_up(self.fabric, task, optimizer)
        write_made_up(folder)
        sampled = build_sample(config)(find_media(folder, KINDS[1]), np.random.default_rng(config["seed"]))
        self.batch = self.fabric.to_device(stack([sampled]))
        self.files = {"encoder": Embeddings(None), "kept": Embeddings(folder / "embeddings")}

    def step(self, side: str) -> float:
        """One step as `training.loop.train_epoch` makes it; returns its loss.

        Args:
            side: "encoder", or "kept", whose first step writes the file.
        """
        self.task.module.embeddings = self.files[side]
        with torch.no_grad():
            batch = self.task.module.augment(self.batch)
        loss = self.task(batch)["loss"]
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.fabric.clip_gradients(self.task, self.optimizer, max_norm=1.0, error_if_nonfinite=False)
        self.optimizer.step()
        if self.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        return float(loss.detach())

    def first_of_a_round(self) -> None:
        """A step with a kept embedding that hashes the weights of the encoder before."""
        self.task.module.start_round()
        self.step("kept")


def measure(*, side: int = SIDE, repeats: int = REPEATS) -> tuple[Result, list[str]]:
    """Seconds of a step on both sides, and lines on the saved share, by pairs of steps, and on what it costs once."""
    with tempfile.TemporaryDirectory() as folder:
        steps = Steps(Path(folder), side=side)
        seconds = alternate({name: lambda name=name: steps.step(name) for name in steps.files}, repeats=repeats)
        (file,) = (Path(folder) / "embeddings").rglob("*.npy")
        size = file.stat().st_size / 1e6
        first = alternate({"first": steps.first_of_a_round}, repeats=FIRST_STEPS, warm_up=0)["first"]
    name, note = f"kept_{side}", f"one picture of {side} pixels, {MODEL}"
    result = Result(name, unit="s/step", ours=seconds["kept"], baseline=seconds["encoder"], note=note)
    saved = [100 * (1 - ours / whole) for ours, whole in zip(result.ours, result.baseline, strict=True)]
    return result, [
        f"saved: {spread(saved)} % of a step, by {len(saved)} pairs of steps",
        f"first step of a round: {spread(first)} s; file of a picture: {size:.1f} MB",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=SIDE, help="of the picture in pixels, a multiple of 16")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="pairs of steps")
    args = parser.parse_args(argv)
    if args.repeats < 1 or args.side < 16 or args.side % 16:
        parser.error("--repeats must be at least 1, and --side a multiple of 16.")
    result, lines = measure(side=args.side, repeats=args.repeats)
    print("\n".join([machine(PRECISION), result.line(), *lines]))


if __name__ == "__main__":
    main()
