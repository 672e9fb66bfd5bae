"""Catch-the-Patch from a video to a loss: what a worker ships, what the device makes of it, that it learns."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedvssl import building, config
from fedvssl.data import geometry
from fedvssl.data.annotations import Annotation
from fedvssl.data.dataset import SampleDataset, train_loader
from fedvssl.models.r3d import R3D
from fedvssl.tasks.ctp import CtP, CtPSample
from fedvssl.training.loop import build_fabric, set_up, train_epoch
from tests.parity.reference import load_json
from tests.videos import ArrayVideo, moving_square, write_frames

SMALL = [
    "task.sample.crop_size=32",
    "task.sample.short_sides=[32,36]",
    "task.sample.patches.scales=[6,8,12]",
    "task.sample.patches.loc_velocity=1",
    "model.width=8",
    "task.module.hidden_channels=32",
]


@pytest.fixture(scope="module")
def small() -> dict:
    return config.compose("base", SMALL)


def draw_batch(sample: CtPSample, count: int, *, seed: int = 0) -> dict[str, torch.Tensor]:
    video = ArrayVideo(moving_square(num_frames=40, height=48, width=64))
    items = [{**sample.read(video, np.random.default_rng([seed, i])), "index": torch.tensor(i)} for i in range(count)]
    return torch.utils.data.default_collate(items)


def test_sample_has_the_promised_shapes(small: dict) -> None:
    batch = draw_batch(building.build_sample(small), 2)
    assert batch["frames"].shape == (2, 16, 32, 32, 3) and batch["frames"].dtype == torch.uint8
    assert batch["boxes"].shape == (2, 3, 16, 4)
    assert {name: tuple(batch[name].shape) for name in ("flip", "hue", "brightness", "opacity")} == {
        "flip": (2,),
        "hue": (2,),
        "brightness": (2, 16),
        "opacity": (2, 3, 16),
    }
    assert all(value.dtype != torch.float64 for value in batch.values())


def test_sample_depends_on_its_generator_only(small: dict) -> None:
    sample = building.build_sample(small)
    first, again, other = (draw_batch(sample, 2, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["boxes"], other["boxes"])


def test_a_crop_larger_than_the_frames_is_refused() -> None:
    bad = config.compose("base", [*SMALL, "task.sample.crop_size=40"])
    with pytest.raises(ValueError, match=r"crop_size=40.*short_sides"):
        building.build_sample(bad)


def test_a_clip_length_the_backbone_cannot_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"clip_len=20 must be a multiple of 8"):
        building.build_task(config.compose("base", [*SMALL, "task.sample.clip_len=20"]))


@pytest.mark.parametrize(("strides", "stride"), [((1, 2, 2, 1), 8), ((1, 2, 2, 2), 16), ((1, 1, 2, 1), 4)])
def test_patches_are_looked_up_by_the_strides_of_the_backbone(strides: tuple, stride: int) -> None:
    backbone = R3D(10, width=4, spatial_strides=strides)
    assert backbone(torch.zeros(1, 3, 8, 32, 32)).shape[-1] == 32 // stride
    task = CtP(backbone, clip_len=8, hidden_channels=4, roi_size=2, target_stds=(1, 1, 1, 1))
    assert task.head.spatial_stride == stride


def test_a_clip_need_only_fit_the_strides_in_time() -> None:
    backbone = R3D(10, width=4, temporal_strides=(1, 2, 2, 1))
    task = CtP(backbone, clip_len=4, hidden_channels=4, roi_size=2, target_stds=(1, 1, 1, 1))
    assert task.head(backbone(torch.zeros(1, 3, 4, 32, 32)), torch.tensor([[[2.0, 2, 9, 9]]])).shape == (1, 1, 4, 4)


def test_a_backbone_that_hides_its_strides_is_refused() -> None:
    backbone = nn.Conv3d(3, 4, 1)
    backbone.out_channels = 4
    with pytest.raises(ValueError, match="Conv3d needs the whole numbers out_channels, temporal_stride"):
        CtP(backbone, clip_len=8, hidden_channels=4, roi_size=2, target_stds=(1, 1, 1, 1))


def test_flip_and_short_side_are_drawn_as_published() -> None:
    stored = load_json("transform_param_stats")
    sample = building.build_sample(config.compose("base", []))
    video = ArrayVideo(np.zeros((20, 144, 192, 3), np.uint8))
    sides: list[int] = []
    rng, random_crop = np.random.default_rng(0), geometry.random_crop
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "random_crop", lambda side, *a, **k: sides.append(side) or random_crop(144, *a, **k))
        flips = [bool(sample.read(video, rng)["flip"]) for _ in range(3000)]
    assert abs(np.mean(flips) - stored["flip_freq_p0_5"]) < 0.03
    for side, share in zip((112, 128, 144), sorted(stored["scale_choice_freq_240x320"].items()), strict=True):
        assert abs(sides.count(side) / 3000 - share[1]) < 0.03


def test_augment_pastes_patches_inside_their_boxes_only(small: dict) -> None:
    quiet = config.compose("base", [*SMALL, *(f"task.sample.{n}_prob=0" for n in ("hue", "brightness", "contrast"))])
    batch = draw_batch(building.build_sample(quiet), 4)
    task = building.build_task(quiet)
    done = task.augment(batch)
    plain = task.augment({**batch, "pasted": torch.zeros_like(batch["pasted"])})
    changed = (done["clips"] - plain["clips"]).abs().sum(1) > 0
    covered = torch.zeros_like(changed)
    for clip, frame, patch in np.ndindex(4, 16, 3):
        if batch["pasted"][clip, patch, frame]:
            x1, y1, x2, y2 = batch["boxes"][clip, patch, frame].tolist()
            covered[clip, frame, y1:y2, x1:x2] = True
    assert changed.any() and not (changed & ~covered).any()
    assert done["clips"].shape == (4, 3, 16, 32, 32)
    assert done["clips"].is_contiguous(memory_format=torch.channels_last_3d)


def test_augment_flips_before_it_pastes(small: dict) -> None:
    """The boxes are drawn in the flipped picture, so that mirroring the input and the flag changes nothing."""
    batch = draw_batch(building.build_sample(small), 2)
    task = building.build_task(small)
    mirrored = {**batch, "frames": batch["frames"].flip(3), "flip": ~batch["flip"]}
    assert torch.equal(task.augment(batch)["clips"], task.augment(mirrored)["clips"])


def test_colour_parameters_are_distributed_as_published() -> None:
    stored = load_json("transform_param_stats")
    sample = building.build_sample(config.compose("base", []))
    rng = np.random.default_rng(0)
    draws = [sample.draw_colour(rng) for _ in range(8000)]
    joined = {name: np.stack([draw[name] for draw in draws]) for name in draws[0]}
    levels = stored["quantile_levels"][1:-1]
    assert abs(joined["hue_applied"].mean() - stored["hue_applied"]) < 0.02
    np.testing.assert_allclose(np.quantile(joined["hue"], levels), stored["hue_delta_q"][1:-1], atol=0.5)
    np.testing.assert_allclose(np.quantile(joined["saturation"], levels), stored["sat_q"][1:-1], atol=0.005)
    for name, identity, tolerance in (("bright", 0.0, 1.5), ("contrast", 1.0, 0.01)):
        curves = joined["brightness" if name == "bright" else name]
        applied = curves[(curves != identity).any(axis=1)]
        assert abs(len(applied) / len(curves) - stored[f"{name}_applied"]) < 0.02
        np.testing.assert_allclose(np.quantile(applied, levels), stored[f"{name}_q"][1:-1], atol=tolerance)
        spans = np.quantile(np.ptp(applied, axis=1), levels)
        np.testing.assert_allclose(spans, stored[f"{name}_range_q"][1:-1], atol=tolerance)
    applied = joined["brightness"][(joined["brightness"] != 0).any(axis=1)]
    np.testing.assert_allclose(applied.std(0), stored["bright_mean_per_frame_std"], rtol=0.05)


def test_gradients_reach_every_parameter(small: dict) -> None:
    task = building.build_task(small)
    task(task.augment(draw_batch(building.build_sample(small), 2)))["loss"].backward()
    for name, parameter in task.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_initial_loss_falls_on_four_clips(small: dict) -> None:
    torch.manual_seed(0)
    batch = draw_batch(building.build_sample(small), 4)
    fabric = build_fabric(device="cpu", precision="32-true")
    task = building.build_task(config.compose("base", [*SMALL, "task.module.hidden_channels=128"]))
    optimizer = torch.optim.SGD(task.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    task, optimizer = set_up(fabric, task, optimizer)
    losses = [train_epoch(fabric, task, optimizer, [batch], max_norm=40).metrics["loss"] for _ in range(120)]
    assert np.mean(losses[-5:]) < 0.1 * losses[0]


def test_mixed_precision_does_not_round_boxes_and_targets(small: dict) -> None:
    """Fabric turns the floating-point inputs of a module into bfloat16; odd coordinates above 256 would not survive."""
    fabric = build_fabric(device="cpu", precision="bf16-mixed")
    task = building.build_task(small)
    seen = {}
    task.head.loss = lambda predictions, boxes: (
        seen.update(boxes=boxes) or {"loss_ctr": predictions.sum(), "loss_size": 0}
    )
    batch = task.augment(draw_batch(building.build_sample(small), 1))
    batch["boxes"] = batch["boxes"] + 501
    fabric.setup(task)(batch)
    assert torch.equal(seen["boxes"], batch["boxes"].float())


def test_clips_do_not_depend_on_the_number_of_workers(small: dict, tmp_path: Path) -> None:
    annotations = [Annotation(f"Square/clip{number}", 0) for number in range(5)]
    for number, annotation in enumerate(annotations):
        frames = moving_square(num_frames=30, height=40, width=48, seed=number)
        write_frames(tmp_path / f"{annotation.name}.zip", frames)
    dataset = SampleDataset(tmp_path, annotations, building.build_sample(small), seed_key=(7, 1, 0, 0))
    alone, *others = (list(train_loader(dataset, batch_size=2, num_workers=number)) for number in (0, 1, 2))
    for batches in others:
        for expected, batch in zip(alone, batches, strict=True):
            assert expected.keys() == batch.keys()
            assert all(torch.equal(expected[name], batch[name]) for name in batch)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_augment_agrees_between_cpu_and_gpu(small: dict) -> None:
    """Within 1e-4, but for the few values that hue's rounding to whole grey levels sends to the other side."""
    batch = draw_batch(building.build_sample(small), 4)
    task = building.build_task(small)
    there = task.augment({name: value.cuda() for name, value in batch.items()})["clips"].cpu()
    difference = (there - task.augment(batch)["clips"]).abs()
    assert (difference <= 1e-4).float().mean() > 0.999
    assert difference.max() <= 1 / 255 / 0.224 + 1e-3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_nothing_waits_for_the_gpu(small: dict) -> None:
    """From the copied batch to the gradients; the first time constants are brought to the device."""
    task = building.build_task(small).cuda()
    batch = {name: value.cuda() for name, value in draw_batch(building.build_sample(small), 4).items()}
    task(task.augment(batch))["loss"].backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        task(task.augment(batch))["loss"].backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
