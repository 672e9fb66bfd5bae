"""Clips per second of a client's epoch from the zips, next to the model alone on prepared clips.

    python -m benchmarks.end_to_end [--real_dir ../clips --ann_dir ../lists]

Both sides run `train_epoch` with R3D-18 at 16x112x112 in the precision of the machine. The baseline, an upper bound,
trains on augmented batches that lie on the device. On a CPU epochs are short and many, so that other programs slow both
sides equally. On a GPU an epoch is as long as for a client of the published UCF-101 run.
"""

from itertools import cycle, islice

import torch

from benchmarks.clips import Clips, clip_parser, prepared
from benchmarks.measure import Result, spread
from fedvssl.building import build_optimizer, build_sample, build_task
from fedvssl.config import compose
from fedvssl.data.dataset import SampleDataset, train_loader
from fedvssl.training.loop import EpochResult, build_fabric, set_up, train_epoch

BATCH_SIZE = 4
CLIPS_AND_REPEATS = {"cpu": (8, 12), "cuda": (1920, 3)}


def measure(clips: Clips) -> Result:
    """Clips per second: of the epoch (ours) and of the model alone (baseline)."""
    fabric = build_fabric()
    config = compose("base", [])
    task = build_task(config)
    on_gpu = fabric.device.type == "cuda"
    wrapped, optimizer = set_up(fabric, task, build_optimizer(config["training"], task, on_gpu=on_gpu))
    num_clips, repeats = CLIPS_AND_REPEATS[fabric.device.type]
    videos = list(islice(cycle(clips.annotations), num_clips))
    dataset = SampleDataset(clips.ours, videos, build_sample(config), seed_key=(7, 1, 0, 0))
    augment = task.augment

    def epoch() -> EpochResult:
        task.augment = augment
        loader = train_loader(dataset, batch_size=BATCH_SIZE, num_workers="auto", on_gpu=on_gpu)
        return train_epoch(fabric, wrapped, optimizer, loader, max_norm=40)

    with torch.no_grad():
        loader = train_loader(dataset, batch_size=BATCH_SIZE, num_workers=0)
        two = [augment(fabric.to_device(batch)) for batch in islice(loader, 2)]
    ready = two * (num_clips // (2 * BATCH_SIZE))

    def model_alone() -> EpochResult:
        task.augment = lambda batch: batch
        return train_epoch(fabric, wrapped, optimizer, ready, max_norm=40)  # pyright: ignore[reportArgumentType]

    epoch()
    model_alone()
    epochs, ceilings = [], []
    for _ in range(repeats):
        epochs.append(epoch())
        ceilings.append(model_alone())
    return Result(
        "end_to_end",
        unit="clips/s",
        ours=[result.clips_per_second for result in epochs],
        baseline=[result.clips_per_second for result in ceilings],
        more_is_better=True,
        target=0.9,
        note=f"waiting for data {spread([100 * result.data_share for result in epochs])} % of the epoch",
    )


def main() -> None:
    """The command."""
    with prepared(clip_parser(__doc__).parse_args()) as clips:
        print(measure(clips).line())


if __name__ == "__main__":
    main()
