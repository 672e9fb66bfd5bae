"""Milliseconds per training sample on one core, from the zip to the uint8 batch, and for the pixel arithmetic.

    python -m benchmarks.loader [--real_dir ../clips --ann_dir ../lists]

Baseline: all work per sample of `benchmarks.plain`, from the zip of full-size frames to the normalised float clip.
Ours does less in a worker and the rest in `CtP.augment`; a second line adds both. One thread, CPU time.
"""

import time
import zipfile

import cv2
import numpy as np
import simplejpeg
import torch

from benchmarks.clips import OURS, Clips, clip_parser, prepared
from benchmarks.measure import Result, alternate, spread
from benchmarks.plain import PlainSample
from fedvssl.building import build_sample, build_task
from fedvssl.config import compose
from fedvssl.data import geometry, sampling
from fedvssl.data.container import Container
from fedvssl.data.dataset import SampleDataset, train_loader
from fedvssl.data.video import open_video
from fedvssl.training.memory import keep_freed_memory

PUBLISHED = 13.9  # ms per sample and core of the public code on a Zen 4 core
REPEATS, BATCH_SIZE = 7, 4


def measure(clips: Clips) -> tuple[Result, Result]:
    """Milliseconds per sample: of the loader, and of loader and augmentation together."""
    torch.set_num_threads(1)
    keep_freed_memory()
    settings = build_sample(compose("base", []))
    task = build_task(compose("base", ["model.width=8"]))  # its backbone is not used
    plain = PlainSample(settings)
    dataset = SampleDataset(clips.ours, clips.annotations, settings, seed_key=(7, 1, 0, 0))
    batches = list(train_loader(dataset, batch_size=BATCH_SIZE, num_workers=0))

    def ours() -> None:
        for _ in train_loader(dataset, batch_size=BATCH_SIZE, num_workers=0):
            pass

    def augment() -> None:
        with torch.no_grad():
            for batch in batches:
                task.augment(batch)

    def baseline() -> None:
        for index, name in enumerate(clips.names):
            plain(clips.plain / f"{name}.zip", np.random.default_rng([7, index]))

    sides = {"ours": ours, "augment": augment, "baseline": baseline}
    taken = alternate(sides, repeats=REPEATS, clock=time.process_time)
    seconds = {name: [1e3 * value / len(clips.names) for value in values] for name, values in taken.items()}
    common = {"unit": "ms/sample", "baseline": seconds["baseline"], "published": PUBLISHED}
    both = [a + b for a, b in zip(seconds["ours"], seconds["augment"], strict=True)]
    return (
        Result("loader", ours=seconds["ours"], target=5, **common),
        Result("loader+augment", ours=both, target=3, note=f"augment {spread(seconds['augment'])}", **common),
    )


def profile(clips: Clips) -> str:
    """Medians and quartiles in ms of the steps of `CtPSample`, one after the other."""
    settings = build_sample(compose("base", []))
    seconds: dict[str, list[float]] = {}

    def tick(stage: str, started: float) -> float:
        now = time.perf_counter()
        seconds.setdefault(stage, []).append(1e3 * (now - started))
        return now

    for repeat in range(REPEATS):
        for index, name in enumerate(clips.names):
            rng, now = np.random.default_rng([repeat, index]), time.perf_counter()
            video = open_video(clips.ours / f"{name}.zip")
            now = tick("open", now)
            clip = sampling.random_clip(len(video), rng, clip_len=16, strides=settings.strides, jitter=True)
            now = tick("draw the frames", now)
            video.read(clip, geometry.random_crop(128, rng, size=settings.crop_size))
            now = tick("read, decode, resize, crop", now)
            settings.patches.draw(rng, num_frames=16, height=settings.crop_size, width=settings.crop_size)
            settings.draw_colour(rng)
            tick("draw patches and colour", now)
    return "\n".join(f"{stage:28}{spread(values)} ms" for stage, values in seconds.items())


def quality(clips: Clips) -> str:
    """Size and quality of the small frames: bytes, and PSNR against the resized frame before JPEG."""
    sizes, ratios = [], []
    for raw, name in list(zip(clips.raw, clips.names, strict=True))[:8]:
        with zipfile.ZipFile(clips.ours / f"{name}.zip") as archive:
            for number, frame in enumerate(Container(raw).frames()):
                if number % 20 == 0:
                    jpeg = archive.read(f"img_{number + 1:05d}.jpg")
                    ratios.append(cv2.PSNR(geometry.resize(frame, 144), simplejpeg.decode_jpeg(jpeg)))
                    sizes.append(len(jpeg))
    kib, psnr = np.mean(sizes) / 1024, np.mean(ratios)
    return f"JPEG quality {OURS.quality}: {kib:.1f} KiB per frame, PSNR {psnr:.1f} dB against the resized original"


def main() -> None:
    """The command."""
    with prepared(clip_parser(__doc__).parse_args()) as clips:
        print(quality(clips))
        for result in measure(clips):
            print(result.line())
        print(profile(clips))


if __name__ == "__main__":
    main()
