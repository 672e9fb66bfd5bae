"""Test of a recognizer: seconds per video of 10 clips, R3D-18 at 16x112x112.

    python -m benchmarks.clip_test [--real_dir ../clips --ann_dir ../lists]

Ours: `predict`, with clips of several videos in one batch, the precision of the machine, and decoding in parallel.
Baseline: one video at a time in float32 on contiguous tensors, first decoded (from zips of full-size frames at quality
95), then computed, with freed memory returned to the system. The sides take turns, each in its own process.
"""

import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.clips import Clips, clip_parser, prepared
from benchmarks.measure import Result
from benchmarks.plain import scale, to_tensor
from fedvssl.building import build, build_task
from fedvssl.config import compose
from fedvssl.data.annotations import Annotation
from fedvssl.data.dataset import SampleDataset
from fedvssl.data.sampling import uniform_clips
from fedvssl.evaluation.prediction import predict
from fedvssl.training.loop import build_fabric, seed_torch

PUBLISHED = 5.74  # seconds per video on two Zen 4 cores
ROUNDS, NUM_VIDEOS = 2, {"ours": 6, "plain": 3}


def measure(clips: Clips) -> Result:
    """Seconds per video."""
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(ROUNDS):
        for side, found in seconds.items():
            names = clips.names[: NUM_VIDEOS[side]]
            folder = clips.ours if side == "ours" else clips.plain
            command = [sys.executable, "-m", "benchmarks.clip_test", "--side", side, "--folder", str(folder), *names]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found.append(json.loads(output.splitlines()[-1]))
    return Result(
        "test", unit="s/video", ours=seconds["ours"], baseline=seconds["plain"], target=2.2, published=PUBLISHED
    )


def recognizer() -> Any:
    seed_torch((7,))
    return build_task(compose("test", [])).eval()


def ours(folder: Path, names: list[str]) -> float:
    """Seconds per video of `predict`."""
    config = compose("test", [])
    fabric = build_fabric()
    task = recognizer().to(fabric.device)
    annotations = [Annotation(name, 0) for name in names]

    def test(videos: list[Annotation]) -> None:
        dataset = SampleDataset(folder, videos, build(config["test_sample"]))
        predict(fabric, task, dataset, batch_size=config["test_batch_size"], num_workers="auto")

    test(annotations[:2])
    started = time.perf_counter()
    test(annotations)
    return (time.perf_counter() - started) / len(names)


@torch.no_grad()
def plain(folder: Path, names: list[str]) -> float:
    """Seconds per video of the baseline, one video at a time in float32."""
    model = recognizer().recognizer

    def test(name: str) -> None:
        with zipfile.ZipFile(folder / f"{name}.zip") as archive:
            members = sorted(archive.namelist())
            indices = uniform_clips(len(members), num_clips=10, clip_len=16, stride=2)
            clips = [decode_clip([archive.read(members[index]) for index in clip]) for clip in indices]
        model(torch.stack(clips)).mean(dim=0)

    test(names[0])
    started = time.perf_counter()
    for name in names:
        test(name)
    return (time.perf_counter() - started) / len(names)


def decode_clip(jpegs: list[bytes]) -> torch.Tensor:
    frames = [np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)) for jpeg in jpegs]
    frames = scale(frames, 128)
    height, width = frames[0].shape[:2]
    top, left = (height - 112) // 2, (width - 112) // 2
    return to_tensor([frame[top : top + 112, left : left + 112].astype(np.float32) for frame in frames])


def main() -> None:
    """The command."""
    parser = clip_parser(__doc__)
    parser.add_argument("--side", choices=list(NUM_VIDEOS), help="measure one side only, as JSON")
    parser.add_argument("--folder", type=Path, help="zips for --side")
    parser.add_argument("names", nargs="*", help="videos for --side")
    args = parser.parse_args()
    if args.side:
        print(json.dumps({"ours": ours, "plain": plain}[args.side](args.folder, args.names)))
        return
    with prepared(args) as clips:
        print(measure(clips).line())


if __name__ == "__main__":
    main()
