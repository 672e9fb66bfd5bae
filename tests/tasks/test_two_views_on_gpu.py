"""A training step of each task on pictures in bfloat16: small on a CPU, and at full size on a GPU."""

import math
from pathlib import Path

import pytest
import torch

from fedvssl.building import build_optimizer, build_sample, build_task
from fedvssl.config import compose
from fedvssl.data.dataset import SampleDataset, train_loader
from fedvssl.training.loop import build_fabric, set_up, train_epoch
from tests.tasks.test_views import write_pictures

TASKS = ("simclr", "byol", "simsiam", "moco_v1", "moco_v2")
SMALL = ("model.width=4", "task.module.projector.out_channels=8")


def step(folder: Path, *words: str, device: str, size: int, side: int) -> dict[str, float]:
    """Metrics of one step on made-up pictures; what follows each step is done too."""
    config = compose("base", list(words))
    dataset = SampleDataset(folder, write_pictures(folder, size, side=side), build_sample(config), seed_key=(7,))
    loader = train_loader(dataset, batch_size=size, num_workers=0, on_gpu=device == "cuda")
    fabric = build_fabric(device=device, precision="bf16-mixed")
    task = build_task(config)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    wrapped, optimizer = set_up(fabric, task, build_optimizer(config["training"], task, on_gpu=device == "cuda"))
    task.train()
    result = train_epoch(fabric, wrapped, optimizer, loader, max_norm=40)
    after = {name: value.cpu() for name, value in task.state_dict().items()}
    assert result.num_clips == size and len(loader) == 1
    assert not torch.equal(after["backbone.conv1.weight"], before["backbone.conv1.weight"])
    return result.metrics


@pytest.mark.parametrize("name", TASKS)
def test_a_step_in_bfloat16(name: str, tmp_path: Path) -> None:
    words = (f"task={name}", "model=resnet18", *SMALL, "task.sample.max_side=16")
    metrics = step(tmp_path, *words, device="cpu", size=8, side=16)
    assert math.isfinite(metrics["loss"]) and metrics["grad_norm"] > 0 and metrics["embedding_std"] > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("model", [("model=resnet18",), ("model=resnet50", "model.stem=imagenet")])
@pytest.mark.parametrize("name", TASKS)
def test_a_step_in_bfloat16_at_full_size(name: str, model: tuple[str, ...], tmp_path: Path) -> None:
    torch.cuda.reset_peak_memory_stats()
    metrics = step(tmp_path, f"task={name}", *model, device="cuda", size=512, side=32)
    assert math.isfinite(metrics["loss"]) and metrics["grad_norm"] > 0
    peak = torch.cuda.max_memory_allocated() / 2**30
    print(f"{name}, {' '.join(model)}: peak memory {peak:.1f} GiB, batch of 512 pictures of 32x32")
