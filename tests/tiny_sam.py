"""A random Segment-Anything model, small enough for a step in milliseconds, and the settings that run it."""

import pytest

pytest.importorskip("transformers")

from fedvssl.models.sam import Sam, random_sam
from fedvssl.tasks.segment import Segment
from fedvssl.training.loop import seed_torch

FROZEN = ("vision_encoder.*", "prompt_encoder.*", "shared_image_embedding.*")
SMALL = ("model.width=16", "model.channels=16", "model.depth=1", "model.heads=2")
RUN = (
    *("experiment=fedsam_small", "data.name=shapes", *SMALL, "engine=local", "rounds=2", "training.local_epochs=1"),
    "training.num_workers=0",
)


def tiny_sam(*, seed: int = 0, lora: dict | None = None) -> Sam:
    seed_torch((seed,))
    sizes = {"image_size": 64, "patch_size": 8, "width": 16, "depth": 1, "heads": 2, "window": 4, "channels": 16}
    return random_sam(**sizes, decoder_heads=2, lora=lora)


def tiny_task(*, seed: int = 0, cache_dir: str | None = None) -> Segment:
    return Segment(tiny_sam(seed=seed), cache_dir=cache_dir)
