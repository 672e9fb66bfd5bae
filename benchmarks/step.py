"""One training step of Catch-the-Patch on R3D-18: 4 clips of 16x112x112, forward, backward, update.

    python -m benchmarks.step
    python -m benchmarks.step --side bf16-mixed [--compile]     one side alone, for instance compiled

Baseline: the same model in float32 with contiguous tensors, and freed memory returned to the system, as by default. The
sides take turns, each in its own process. Also printed: the rates of single convolutions of the model, the step's rate
as a share of the best of them and of a large matrix product's, and the time share of augmenting the same batch.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmarks.measure import Result
from fedvssl.building import build_optimizer, build_sample, build_task
from fedvssl.config import compose
from fedvssl.data.video import Step
from fedvssl.training import loop
from fedvssl.training.loop import build_fabric, set_up

PUBLISHED = 6.04  # seconds of the step on two Zen 4 cores
GFLOP_PER_CLIP = 286  # forward and backward
STEPS, ROUNDS = 3, 2
MATRIX_SIZE = {"cpu": 2048, "cuda": 16384}
AUGMENT_LIMIT = {"cpu": 0.10, "cuda": 0.05}
BATCH_SIZE = 4
CONVOLUTIONS = {64: (16, 56), 128: (8, 28), 256: (4, 14)}  # channels -> frames, side in pixels


class StillVideo:
    """Video of noise, already decoded."""

    frames = np.random.default_rng(0).integers(0, 256, (60, 144, 192, 3), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, indices: np.ndarray, then: Step) -> np.ndarray:
        return np.stack([then(frame) for frame in self.frames[indices]])


def measure() -> tuple[Result, Result, dict]:
    """Seconds per step in float32 and in bfloat16, and the share of the augmentation."""
    runs: dict[str, list[dict]] = {"plain": [], "32-true": [], "bf16-mixed": []}
    for _ in range(ROUNDS):
        for side, found in runs.items():
            found.append(run_side(side))
    plain = [second for run in runs["plain"] for second in run["seconds"]]
    results = []
    for name, side, target in (("step_fp32", "32-true", 1.1), ("step_bf16", "bf16-mixed", 2.2)):
        seconds = [second for run in runs[side] for second in run["seconds"]]
        rates = [max(run["convolutions"][index] for run in runs[side]) for index in range(len(CONVOLUTIONS))]
        rate, best = GFLOP_PER_CLIP * BATCH_SIZE / statistics.median(seconds), max(rates)
        channels, each = (" ".join(f"{value:.0f}" for value in values) for values in (CONVOLUTIONS, rates))
        peak = max(run["matrix_peak"] for run in runs[side])
        note = (
            f"{rate:.0f} GFLOP/s, {rate / best:.2f} of the best convolution's; with {channels} channels: {each}; "
            f"{rate / peak:.2f} of a matrix product's {peak:.0f}"
        )
        results.append(
            Result(name, unit="s/step", ours=seconds, baseline=plain, target=target, published=PUBLISHED, note=note)
        )
    device = runs["bf16-mixed"][0]["device"]
    shares = [run["augment"] / statistics.median(run["seconds"]) for run in runs["bf16-mixed"]]
    return *results, {
        "share": statistics.median(shares),
        "limit": AUGMENT_LIMIT[device],
        "unit": "of the bfloat16 step",
    }


def run_side(side: str) -> dict:
    command = [sys.executable, "-m", "benchmarks.step", "--side", side]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def side(name: str, *, compiled: bool = False) -> dict:
    """Measure one side in this process."""
    if name == "plain":
        loop.keep_freed_memory = lambda: None
    fabric = build_fabric(precision="32-true" if name == "plain" else name)
    torch.manual_seed(0)
    config = compose("base", [])
    task = build_task(config)
    optimizer = build_optimizer(config["training"], task, on_gpu=fabric.device.type == "cuda")
    task, optimizer = set_up(fabric, task, optimizer, compiled=compiled)
    sample = build_sample(config)
    items = [sample.read(StillVideo(), np.random.default_rng(seed)) for seed in range(BATCH_SIZE)]
    batch = torch.utils.data.default_collate([{**item, "index": index} for index, item in enumerate(items)])
    batch = fabric.to_device(batch)
    ready = task.module.augment(batch)
    if name == "plain":
        ready["clips"] = ready["clips"].contiguous()

    def step() -> None:
        loss = task(ready)["loss"]
        optimizer.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(task, optimizer, max_norm=40, error_if_nonfinite=False)
        optimizer.step()

    seconds = timed(step, fabric.device, repeats=STEPS, warm_up=2)
    with torch.no_grad():
        augment = timed(lambda: task.module.augment(batch), fabric.device, repeats=9, warm_up=3)
    return {
        "seconds": seconds,
        "augment": statistics.median(augment),
        "convolutions": [] if name == "plain" else convolution_rates(fabric, mixed=name != "32-true"),
        "matrix_peak": matrix_peak(fabric, mixed=name == "bf16-mixed"),
        "device": fabric.device.type,
    }


def matrix_peak(fabric: loop.Fabric, *, mixed: bool) -> float:
    """GFLOP/s of the product of two large square matrices."""
    size = MATRIX_SIZE[fabric.device.type]
    matrix = torch.randn(size, size, device=fabric.device, dtype=torch.bfloat16 if mixed else torch.float32)
    return 2 * size**3 / min(timed(lambda: matrix.mm(matrix), fabric.device, repeats=9, warm_up=3)) / 1e9


def convolution_rates(fabric: loop.Fabric, *, mixed: bool) -> list[float]:
    """GFLOP/s of the 3x3x3 convolutions of the first three stages by themselves, forward and backward."""
    rates = []
    for channels, (frames, side_length) in CONVOLUTIONS.items():
        conv = nn.Conv3d(channels, channels, 3, padding=1, bias=False).to(fabric.device)
        x = torch.randn(BATCH_SIZE, channels, frames, side_length, side_length, device=fabric.device)
        x = x.to(memory_format=torch.channels_last_3d).requires_grad_()

        def run(conv: nn.Module = conv, x: torch.Tensor = x) -> None:
            with torch.autocast(fabric.device.type, torch.bfloat16, enabled=mixed):
                y = conv(x)
            y.backward(torch.ones_like(y))

        flop = 3 * 2 * BATCH_SIZE * channels**2 * 27 * frames * side_length**2
        rates.append(flop / min(timed(run, fabric.device, repeats=5, warm_up=2)) / 1e9)
    return rates


def timed(run: Callable[[], object], device: torch.device, *, repeats: int, warm_up: int) -> list[float]:
    """Seconds of each run, to its end on the device."""
    seconds = []
    for repeat in range(-warm_up, repeats):
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if repeat >= 0:
            seconds.append(time.perf_counter() - started)
    return seconds


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=["plain", "32-true", "bf16-mixed"], help="measure one side only, as JSON")
    parser.add_argument("--compile", action="store_true", help="let torch compile the model of --side")
    args = parser.parse_args()
    if args.compile and not args.side:
        parser.error("--compile belongs to --side")
    if args.side:
        print(json.dumps(side(args.side, compiled=args.compile)))
        return
    *results, augment = measure()
    for result in results:
        print(result.line())
    print(f"augment_share   {augment['share']:.4f} {augment['unit']}, limit {augment['limit']}")


if __name__ == "__main__":
    main()
