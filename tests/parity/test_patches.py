"""Patches against the executed reference: pasting bit for bit, rendering against OpenCV, distributions."""

import cv2
import numpy as np
import pytest
import torch

from fedvssl.data.augment import IMAGENET_STD
from fedvssl.tasks.patches import (
    ELLIPSE,
    RHOMBUS,
    PatchGenerator,
    paste,
    paste_order,
    paste_patches,
    patch_mask,
    render_patches,
    to_pixels,
)
from tests.parity.reference import load_json, load_npz

CASES = load_json("patchmask_apply_meta")
STATS = load_json("patchmask_stats")


def paper_generator(**changes) -> PatchGenerator:
    config = STATS["cfg"]
    region = config["region_sampler"]
    values = {
        "num_patches": region["num_rois"],
        "scales": region["scales"],
        "ratios": region["ratios"],
        "scale_jitter": region["scale_jitter"],
        "key_frame_probs": config["key_frame_probs"],
        "loc_velocity": config["loc_velocity"],
        "size_velocity": config["size_velocity"],
        "paste_prob": config["label_prob"],
    }
    return PatchGenerator(**{**values, **changes})


def stored_layers(case: str) -> dict[str, np.ndarray]:
    """The stored patches and alphas of one case, scattered onto whole frames: [P,T,H,W,3] and [P,T,H,W,1]."""
    stored = {k.removeprefix(f"{case}/"): v for k, v in load_npz("patchmask_apply").items() if k.startswith(f"{case}/")}
    boxes, frames = stored["traj_rois"], stored["frames"]
    patches = np.zeros((len(boxes), *frames.shape), stored["patches"].dtype)
    alphas = np.zeros((*patches.shape[:-1], 1))
    start = 0
    for patch, track in enumerate(boxes):
        for frame, (x1, y1, x2, y2) in enumerate(track):
            shape, size = (y2 - y1, x2 - x1), (y2 - y1) * (x2 - x1)
            patches[patch, frame, y1:y2, x1:x2] = stored["patches"][3 * start : 3 * (start + size)].reshape(*shape, 3)
            if stored["traj_labels"][patch, frame]:
                alphas[patch, frame, y1:y2, x1:x2, 0] = stored["alphas"][start : start + size].reshape(shape)
            start += size
    return {**stored, "patches": patches, "alphas": alphas}


@pytest.mark.parametrize("case", CASES)
def test_pasting_is_bit_exact_in_float64(case: str) -> None:
    stored = stored_layers(case)
    order = paste_order(stored["traj_rois"])
    assert order.tolist() == CASES[case]["paste_order"]
    frames = torch.from_numpy(stored["frames"].astype(CASES[case]["dtype_in"]))
    for patch in order:
        frames = paste(frames, torch.from_numpy(stored["patches"][patch]), torch.from_numpy(stored["alphas"][patch]))
    np.testing.assert_array_equal(frames.numpy(), stored["out"])


@pytest.mark.parametrize("case", CASES)
def test_pasting_in_float32_is_within_one_level_per_patch(case: str) -> None:
    stored = stored_layers(case)
    frames = torch.from_numpy(stored["frames"]).float()
    for patch in paste_order(stored["traj_rois"]):
        layer, alpha = stored["patches"][patch], stored["alphas"][patch]
        frames = paste(frames, torch.from_numpy(layer).float(), torch.from_numpy(alpha).float())
    overlapping = (stored["alphas"] > 0).sum(axis=0)
    assert (np.abs(frames.numpy() - stored["out"]) <= overlapping + 1e-3).all()


def render_with_opencv(frames: np.ndarray, drawn: dict, patch: int) -> tuple[np.ndarray, np.ndarray]:
    """A slow reference: crop, cv2.resize, mask on the patch's own grid, one frame after the other."""
    boxes, source = drawn["boxes"][patch], drawn["source"][patch]
    x1, y1, x2, y2 = boxes[source]
    w, h = x2 - x1, y2 - y1
    x, y = np.meshgrid(np.abs(np.arange(w) - (w - 1) // 2) / w, np.abs(np.arange(h) - (h - 1) // 2) / h)
    outline, edge = drawn["outline"][patch], drawn["edge"][patch]
    distance = {ELLIPSE: np.hypot(x, y), RHOMBUS: x + y}.get(outline, np.maximum(x, y))
    mask = np.ones((h, w)) if outline == 0 else (distance < 0.5).astype(float)
    if edge > 0:
        mask *= np.clip((0.5 - distance) / edge, 0, 1)
    layer, alpha = np.zeros(frames.shape), np.zeros(frames.shape[:3])
    for frame, (a, b, c, d) in enumerate(boxes):
        if drawn["pasted"][patch, frame]:
            layer[frame, b:d, a:c] = cv2.resize(frames[source, y1:y2, x1:x2], (c - a, d - b)).reshape(d - b, c - a, 3)
            resized = cv2.resize(mask.astype(np.float32), (c - a, d - b)).reshape(d - b, c - a)
            alpha[frame, b:d, a:c] = resized * drawn["opacity"][patch, frame]
    return layer, alpha


@pytest.mark.parametrize("seed", range(6))
def test_rendering_agrees_with_opencv(seed: int) -> None:
    """The batched way of a GPU against the slow reference, and the way of a CPU against the batched one."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (2, 16, 14, 14, 3), dtype=np.uint8)
    clips = np.stack([[cv2.resize(f, (112, 112)) for f in clip] for clip in noise])
    drawn = [paper_generator().draw(rng, num_frames=16, height=112, width=112) for _ in clips]
    tensors = {name: torch.from_numpy(np.stack([one[name] for one in drawn])) for name in drawn[0]}
    tensors |= {name: tensors[name].float() for name in ("edge", "opacity")}
    layers, alphas = render(torch.from_numpy(clips), **tensors)
    frames = torch.from_numpy(clips).float()
    for patch in range(3):
        for clip, one in enumerate(drawn):
            layer, alpha = render_with_opencv(clips[clip], one, patch)
            np.testing.assert_allclose(alphas[clip, patch, ..., 0], alpha, atol=2e-3)
            inside = alpha > 0
            assert inside.any()
            assert np.abs(layers[clip, patch].numpy() - layer)[inside].max() <= 1.0
        frames = paste(frames, layers[:, patch], alphas[:, patch])
    pasted = paste_patches(torch.from_numpy(clips), **tensors)
    assert pasted.dtype == torch.float32
    np.testing.assert_allclose(pasted, frames, atol=1e-4 * 255 * min(IMAGENET_STD))  # 1e-4 in the model's input


def render(frames: torch.Tensor, *, source, outline, edge, boxes, pasted, opacity) -> tuple[torch.Tensor, torch.Tensor]:
    clip, patch = np.indices(source.shape)
    boxes_cut = boxes[clip, patch, source]
    masks = patch_mask(boxes_cut, outline=outline, edge=edge, height=frames.shape[2], width=frames.shape[3])
    cuts = frames[clip, source].float()
    return render_patches(cuts, masks, boxes_cut, boxes=boxes, pasted=pasted, opacity=opacity)


def assert_like(values: np.ndarray, stored: dict, *, mean: float = 0.06, quantile: float = 0.15) -> None:
    """Means and inner quantiles within the fixtures' suggested tolerances, in units of the stored deviation."""
    std = stored["std"]
    assert abs(values.mean() - stored["mean"]) <= mean * std
    levels = STATS["quantile_levels"][1:-1]
    np.testing.assert_allclose(np.quantile(values, levels), stored["quantiles"][1:-1], atol=quantile * std)


def test_start_boxes_are_distributed_as_published() -> None:
    rng = np.random.default_rng(3)
    boxes = np.concatenate([paper_generator().start_boxes(rng, height=112, width=112) for _ in range(8000)])
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    stored = STATS["region_sampler"]
    measured = {
        "w": w, "h": h, "x1": boxes[:, 0], "y1": boxes[:, 1], "area": w * h,
        "log_aspect_w_over_h": np.log(w / h), "x1_over_room": boxes[:, 0] / (112 - w),
    }  # fmt: skip
    for name, values in measured.items():
        assert_like(values, stored[name])
    assert abs(np.corrcoef(w, h)[0, 1] - stored["corr_w_h"]) < 0.03


def test_trajectories_are_distributed_as_published() -> None:
    rng = np.random.default_rng(4)
    generator = paper_generator()
    tracks = np.concatenate(
        [
            generator.trajectories(generator.start_boxes(rng, height=112, width=112), rng, 16, 112, 112)
            for _ in range(8000)
        ]
    )
    assert tracks.min() >= 0 and tracks.max() <= 112
    centers, sizes = (tracks[..., :2] + tracks[..., 2:]) / 2, tracks[..., 2:] - tracks[..., :2]
    steps, growth = np.diff(centers, axis=1), np.diff(np.log(sizes), axis=1)
    stored = STATS["rectangle_movement"]
    assert_like(np.linalg.norm(steps, axis=2).ravel(), stored["per_frame_center_displacement_l2"])
    assert_like(np.abs(steps).max(axis=(1, 2)), stored["max_abs_per_axis_frame_displacement"])
    assert_like((sizes[:, -1] / sizes[:, 0]).ravel(), stored["last_over_first_size_ratio"])
    assert_like(np.abs(growth).max(axis=(1, 2)), stored["max_abs_frame_log_size_change"], quantile=0.3)
    assert_like(np.linalg.norm(centers[:, -1] - centers[:, 0], axis=1), stored["first_to_last_center_distance"])
    assert_like(sizes.min(axis=(1, 2)), stored["min_side_over_clip"])


def test_paste_flags_outlines_edges_and_opacity_are_distributed_as_published() -> None:
    rng = np.random.default_rng(5)
    draws = [paper_generator().draw(rng, num_frames=16, height=112, width=112) for _ in range(4000)]
    joined = {name: np.concatenate([draw[name] for draw in draws]) for name in draws[0]}
    pasted, source, opacity, edge = joined["pasted"], joined["source"], joined["opacity"], joined["edge"]
    labels = STATS["labels"]
    assert abs(pasted.mean() - labels["expected_fraction"]) < 0.005
    np.testing.assert_allclose(pasted.mean(0), labels["fraction_pasted_per_frame"], atol=0.02)
    assert pasted[:, 0].all() and pasted[np.arange(len(source)), source].all()
    assert_like(pasted.sum(1), labels["frames_pasted_per_trajectory"])
    np.testing.assert_allclose(
        np.bincount(joined["outline"]) / len(source), STATS["mask_type_freq_rect_ellipse_rhombus"], atol=0.02
    )
    np.testing.assert_allclose(np.bincount(source) / len(source), STATS["source_frame_freq"], atol=0.02)
    assert abs((edge > 0).mean() - STATS["smooth_edge_freq"]) < 0.02
    assert_like(0.5 - edge[edge > 0], STATS["turning_point"])
    assert_like(opacity.ravel(), STATS["alpha_peak_per_frame"])
    assert_like(np.ptp(opacity, axis=1), STATS["alpha_peak_within_clip_range"])
    assert (joined["boxes"][..., 2:] > joined["boxes"][..., :2]).all()


def test_key_frames_and_easing_are_shared_by_the_patches_of_a_clip() -> None:
    """Equal start boxes far from the border, so that only displacements differ: their time courses are proportional."""
    generator = paper_generator(size_velocity=0)
    boxes = np.tile([500.0, 500.0, 540.0, 540.0], (3, 1))
    for seed in range(20):
        tracks = generator.trajectories(boxes, np.random.default_rng(seed), 16, 1040, 1040)
        kinks = np.abs(np.diff(tracks[..., 0], n=2, axis=1)) > 1e-9
        assert (kinks == kinks[0]).all()


def test_boxes_of_tiny_patches_keep_one_pixel() -> None:
    pixels = to_pixels(np.array([[3.4, 3.4, 3.45, 3.45], [31.9, 0.2, 32.0, 0.3]]), height=32, width=32)
    np.testing.assert_array_equal(pixels, [[3, 3, 4, 4], [31, 0, 32, 1]])
