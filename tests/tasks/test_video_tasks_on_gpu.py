"""A training step of each pretext task on videos at full size in bfloat16, on a GPU."""

import math

import pytest
import torch

from fedvssl.building import build_optimizer, build_sample, build_task
from fedvssl.config import compose
from fedvssl.training.loop import build_fabric, set_up, train_epoch
from tests.video_tasks import SMALL, Falling, draw_batch


def long_video(seed: int) -> Falling:
    """Long enough for all tasks, and as large as they cut."""
    return Falling(seed, num_frames=140, height=144, width=192)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", SMALL)
def test_a_step_in_bfloat16_at_full_size(name: str) -> None:
    torch.cuda.reset_peak_memory_stats()
    config = compose("base", [f"task={name}"])
    batch = draw_batch(build_sample(config), 4, video=long_video)
    batch = {key: value.cuda() for key, value in batch.items()}
    task, fabric = build_task(config), build_fabric(device="cuda", precision="bf16-mixed")
    wrapped, optimizer = set_up(fabric, task, build_optimizer(config["training"], task, on_gpu=True))
    task.train()
    metrics = train_epoch(fabric, wrapped, optimizer, [batch], max_norm=40).metrics  # pyright: ignore[reportArgumentType]
    assert math.isfinite(metrics["loss"]) and metrics["grad_norm"] > 0 and metrics["embedding_std"] > 0
    peak = torch.cuda.max_memory_allocated() / 2**30
    print(f"{name}: peak memory {peak:.1f} GiB, batch of 4 videos")
