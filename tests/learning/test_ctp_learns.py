"""Catch-the-Patch learns within some hundred steps, and the tests can tell a net that learns from one that does not.

One patch that moves over a static, textured picture: the smallest setting that needs the backbone. "The patch stands
still" is the predictor to beat.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate
from torch.utils.data import default_collate

from fedvssl import building, config
from fedvssl.data.annotations import Annotation, write_annotations
from fedvssl.files.run_log import read_records
from fedvssl.training.loop import build_fabric, seed_torch, set_up, train_epoch
from fedvssl.training.schedule import warm_up
from fedvssl.training.watch import LEAST_ACTIVE
from tests.federation import train
from tests.videos import write_frames

STEPS, BATCH_SIZE, LAST = 250, 8, 25
pytestmark = pytest.mark.usefixtures("one_thread")


EASY = (
    *("experiment=small", "model.width=8", "training.lr=0.004", "task.sample.patches.num_patches=1"),
    *("task.sample.patches.scales=[16]", "task.sample.patches.ratios=[1]", "task.sample.patches.scale_jitter=0"),
    *("task.sample.patches.loc_velocity=1.2", "task.sample.hue_prob=0", "task.sample.brightness_prob=0"),
    "task.sample.contrast_prob=0",
)


class Picture:
    """Video of one static picture: 12x16 random colours, enlarged."""

    def __init__(self, seed: int) -> None:
        cells = torch.rand((1, 3, 12, 16), generator=torch.Generator().manual_seed(seed))
        self.frame = (255 * interpolate(cells, size=(32, 32), mode="bilinear")[0]).byte().permute(1, 2, 0).numpy()

    def __len__(self) -> int:
        return 24

    def read(self, indices, geometry) -> np.ndarray:
        return np.repeat(self.frame[None], len(indices), axis=0)


def share_of_standing_still(*words: str, frozen: bool = False) -> tuple[float, float]:
    """Train, and return the loss of the last steps over that of standing still, and the share of active units."""
    cfg = config.compose("base", [*EASY, *words])
    training, sample = cfg["training"], building.build_sample(cfg)
    seed_torch((7,))
    task, fabric = building.build_task(cfg), build_fabric(device="cpu", precision="32-true")
    if frozen:
        task.backbone.requires_grad_(False)
    wrapped, optimizer = set_up(fabric, task, building.build_optimizer(training, task, on_gpu=False))
    metrics = []
    for step in range(STEPS):
        items = [sample.read(Picture(index), np.random.default_rng((step, index))) for index in range(BATCH_SIZE)]
        batch = default_collate([{**item, "index": index} for index, item in enumerate(items)])
        factor = warm_up(step, 10)
        result = train_epoch(
            fabric,
            wrapped,
            optimizer,
            [batch],
            max_norm=training["max_norm"],
            lr_factor=lambda _, factor=factor: factor,
        )  # pyright: ignore[reportArgumentType]
        metrics.append(result.metrics)
    loss, still, active = (
        np.mean([record[name] for record in metrics[-LAST:]]) for name in ("loss", "trivial_still", "active_share")
    )
    return float(loss / still), float(active)


def test_the_loss_falls_well_below_that_of_standing_still() -> None:
    share, active = share_of_standing_still()
    assert share <= 0.7 and active > 0.05


def test_without_a_backbone_that_learns_it_does_not() -> None:
    share, _ = share_of_standing_still(frozen=True)
    assert share > 0.7


def test_the_published_head_dies_under_adamw() -> None:
    """With one learning rate for all, as without the preset's own one of the head."""
    share, active = share_of_standing_still(
        "task.module.head_init=published", "training.optimizer.param_groups={head.*: {lr: 0.004}}"
    )
    assert share > 0.7 and active < LEAST_ACTIVE, "the warning of a dead head would not come"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_federation_of_two_clients_learns_too(tmp_path: Path) -> None:
    """FedVSSL (.9, 0) through server and clients: 14 rounds of 25 steps, each client with pictures of its own."""
    names = [[f"Class/client{client}_{number}" for number in range(20)] for client in range(2)]
    for client, own in enumerate(names):
        for number, name in enumerate(own):
            frames = Picture(100 * client + number).read(range(24), None)
            write_frames(tmp_path / "small" / "zips" / f"{name}.zip", frames)
        path = tmp_path / "small/annotations/client_distribution" / f"client_dist{client + 1}.json"
        write_annotations(path, [Annotation(name, 0) for name in own])
    words = [f"data_dir={tmp_path}", "pool_size=2", "strategy.min_fit_clients=2", "strategy.swbeta=0", "rounds=14"]
    words += ["training.local_epochs=10", "training.num_workers=0", "training.lr=0.004", "schedule=steps"]
    cfg = config.compose("base", [*EASY, *words, "training.steps=[]", "task.sample.short_sides=[32]"])
    train(cfg, tmp_path / "run")
    rounds = [record for record in read_records(tmp_path / "run" / "metrics.jsonl") if "partition_id" not in record]
    shares = [record["loss"] / record["trivial_still"] for record in rounds]
    assert shares[0] > 0.9 and shares[-1] <= 0.7, shares
    assert rounds[-1]["iou"] > rounds[-1]["iou_still"] + 0.05
