"""Instruments of Catch-the-Patch: the trivial predictor, the signs of life, the measured settings."""

import logging
import math

import numpy as np
import pytest
import torch

from fedvssl import building, config
from fedvssl.preflight import settle
from fedvssl.tasks.boxes import box_iou, box_targets
from fedvssl.training.loop import build_fabric, set_up, train_epoch
from tests.tasks.test_ctp import SMALL, draw_batch


def compose(*words: str) -> dict:
    return config.compose("base", [*SMALL, *words])


@pytest.fixture(scope="module")
def small() -> dict:
    return compose()


def test_standing_still_is_the_loss_of_a_head_that_predicts_nothing(small: dict) -> None:
    task = building.build_task(small)
    batch = task.augment(draw_batch(building.build_sample(small), 3))
    for parameter in task.head.pred_head.parameters():
        torch.nn.init.zeros_(parameter)
    scalars = task(batch)
    assert task.trivial(batch)["still"].item() == pytest.approx(scalars["loss"].item(), rel=1e-6)
    assert scalars["iou"].item() == pytest.approx(scalars["iou_still"].item(), rel=1e-6)
    boxes = batch["boxes"].float()
    assert scalars["iou_still"].item() == pytest.approx(box_iou(boxes[:, :, :1], boxes).mean().item())


def test_standing_still_needs_no_picture(small: dict) -> None:
    task = building.build_task(small)
    batch = task.augment(draw_batch(building.build_sample(small), 2))
    assert task.trivial({"boxes": batch["boxes"]})["still"] == task.trivial(batch)["still"]


def test_health_tells_a_living_from_a_dead_head(small: dict) -> None:
    task = building.build_task(small)
    batch = task.augment(draw_batch(building.build_sample(small), 2))
    task(batch)["loss"].backward()
    alive = task.health()
    norms = [weight.grad.norm() for weight in task.backbone.parameters()]
    assert 0.2 < alive["active_share"] < 0.8
    assert alive["backbone_grad_norm"].item() == pytest.approx(torch.stack(norms).norm().item(), rel=1e-5)
    torch.nn.init.constant_(task.head.fc1.bias, -100.0)
    task.zero_grad()
    task(batch)["loss"].backward()
    dead = task.health()
    assert dead["active_share"] == 0 and dead["backbone_grad_norm"] == 0


def test_instruments_are_logged_as_means_per_clip(small: dict) -> None:
    task, fabric = building.build_task(small), build_fabric(device="cpu", precision="32-true")
    batches = [draw_batch(building.build_sample(small), size, seed=size) for size in (3, 1)]
    still = [task.trivial(batch)["still"].item() for batch in batches]
    wrapped, optimizer = set_up(fabric, task, torch.optim.SGD(task.parameters(), lr=1e-6))
    metrics = train_epoch(fabric, wrapped, optimizer, batches, max_norm=40).metrics  # pyright: ignore
    assert metrics["trivial_still"] == pytest.approx((3 * still[0] + still[1]) / 4, rel=1e-6)
    assert 0 < metrics["active_share"] < 1 and 0 < metrics["backbone_grad_norm"] <= metrics["grad_norm"]


def test_the_hidden_layer_of_the_kaiming_head_has_larger_weights(small: dict) -> None:
    published, kaiming = (
        building.build_task(compose(f"task.module.head_init={name}")) for name in ("published", "kaiming")
    )
    fan_in = published.head.fc1.in_features
    assert published.head.fc1.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert kaiming.head.fc1.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.05)
    assert published.head.pred_head.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert kaiming.head.pred_head.weight.std().item() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("task.module.head_init=xavier", "head_init=xavier must be one of published, kaiming"),
        ("task.module.target_stds=auto", "target_stds=auto: fedvssl.main measures it"),
        ("task.module.target_stds=[1,1]", r"target_stds=\[1, 1\] must be auto or a list of 4"),
        ("task.module.target_stds=[1,1,0,1]", r"target_stds=\[1, 1, 0, 1\] must be auto or a list of 4"),
    ],
)
def test_a_head_that_cannot_be_built_gets_a_sentence(word: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        building.build_task(compose(word))


def test_automatic_deviations_are_measured_on_draws_and_told(caplog: pytest.LogCaptureFixture) -> None:
    cfg = compose("task.module.target_stds=auto", "task.sample.patches.size_velocity=0.15")
    with caplog.at_level(logging.INFO, logger="fedvssl"):
        stds = settle(cfg)["task"]["module"]["target_stds"]
    assert f"task.module.target_stds=auto measured: {stds}" in caplog.text
    sample, rng = building.build_sample(cfg), np.random.default_rng(99)
    draws = [sample.patches.draw(rng, num_frames=16, height=32, width=32)["boxes"] for _ in range(500)]
    targets = box_targets(torch.from_numpy(np.stack(draws)).float())[:, :, 1:]
    assert stds == pytest.approx(targets.square().mean(dim=(0, 1, 2)).sqrt().tolist(), rel=0.1)
    assert building.build_task(settle(cfg)).head.target_stds.tolist() == pytest.approx(stds)
    assert settle(cfg) == settle(cfg), "the same draws each time"


def test_patches_that_keep_their_size_are_not_scaled_by_rounding() -> None:
    """Boxes in whole pixels change by a pixel; such a deviation would make the loss of the size all noise."""
    cfg = compose("task.module.target_stds=auto", "task.sample.patches.size_velocity=0")
    *_, width, height = settle(cfg)["task"]["module"]["target_stds"]
    rng = np.random.default_rng(5)
    boxes = building.build_sample(cfg).patches.draw(rng, num_frames=16, height=32, width=32)["boxes"]
    noise = box_targets(torch.from_numpy(boxes[None]).float())[..., 2:].square().mean().sqrt().item()
    assert min(width, height) > 2 * noise


def test_a_setting_that_the_sample_does_not_measure_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"task.module.roi_size=auto: CtPSample does not measure it; give a value"):
        settle(compose("task.module.roi_size=auto"))
