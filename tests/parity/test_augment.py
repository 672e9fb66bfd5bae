"""Resizing, crops and colour against the executed reference. The fixtures are BGR, ours is RGB."""

import numpy as np
import pytest
import torch

from fedvssl.data import augment, geometry
from tests.parity.reference import load_json, load_npz

STORED = load_npz("transforms")
META = load_json("transforms_meta")


def rgb(name: str) -> np.ndarray:
    return np.ascontiguousarray(STORED[name][..., ::-1])


def batch(name: str) -> torch.Tensor:
    return torch.from_numpy(rgb(name)).float().unsqueeze(0)


def hue_saturation(frames: torch.Tensor, hue: float, saturation: float) -> torch.Tensor:
    return augment.hue_saturation(
        frames, flags=torch.tensor([True]), hue=torch.tensor([hue]), saturation=torch.tensor([saturation])
    )


def curve(name: str) -> torch.Tensor:
    return torch.from_numpy(STORED[name]).float().unsqueeze(0)


def test_hue_of_float_frames() -> None:
    """Within one level: the vector code of OpenCV, which handles the first 32 of the 52 columns, truncates.

    In the others only a value halfway between two levels, such as one of 9,120, may come out on either side.
    """
    meta = META["hue_float"]
    ours = hue_saturation(batch("hue_float_in"), meta["hue_delta"], meta["saturation_delta"])[0].numpy()
    stored = rgb("hue_float_out")
    difference = ours - stored
    assert (difference[:, :, 33:] != 0).mean() < 0.001
    assert set(np.unique(difference)) <= {0, 1}, "truncating is at most one level below rounding"


@pytest.mark.parametrize("case", ["hue0", "hue1", "hue2", "hue3", "hue4"])
def test_hue_of_8_bit_frames(case: str) -> None:
    meta = META[case]
    ours = hue_saturation(batch("frames_bgr_uint8"), meta["hue_delta"], meta["saturation_delta"])[0].numpy()
    difference = np.abs(ours - rgb(case))
    assert difference.mean() <= 0.8 and np.percentile(difference, 99) <= 5
    assert difference.max() <= 1


def test_hue_leaves_clips_without_flag_alone() -> None:
    frames = torch.cat([batch("hue_float_in")] * 2).clamp(0, 255)
    flags = torch.tensor([True, False])
    out = augment.hue_saturation(frames, flags=flags, hue=torch.full((2,), 9.0), saturation=torch.full((2,), 1.05))
    assert torch.equal(out[1], frames[1]) and not torch.equal(out[0], frames[0])


def test_brightness_and_contrast_curves() -> None:
    frames = batch("frames_bgr_uint8")
    bright = augment.brightness(frames, curve("brightness_deltas"))
    np.testing.assert_allclose(bright[0], rgb("brightness_out"), atol=1e-4)
    np.testing.assert_allclose(augment.contrast(frames, curve("contrast_factors"))[0], rgb("contrast_out"), atol=1e-4)
    both = augment.contrast(bright, curve("contrast_factors"))
    np.testing.assert_allclose(both[0], rgb("brightness_then_contrast_out"), atol=1e-4)


def test_constant_brightness_and_contrast() -> None:
    frames = batch("frames_bgr_uint8")
    delta = torch.full((1, 4), META["random_brightness"]["delta"])
    factor = torch.full((1, 4), META["random_contrast"]["delta"])
    np.testing.assert_allclose(augment.brightness(frames, delta)[0], rgb("random_brightness_out"), atol=1e-4)
    np.testing.assert_allclose(augment.contrast(frames, factor)[0], rgb("random_contrast_out"), atol=1e-4)
    chained = augment.contrast(augment.brightness(frames, delta), factor)
    chained = hue_saturation(chained, 6.0, 1.05)[0].numpy()
    assert np.abs(chained - rgb("finetune_bright_contrast_hue_out")).max() <= 1


def test_identity_parameters_change_nothing() -> None:
    frames = batch("frames_bgr_uint8")
    assert torch.equal(augment.brightness(frames, torch.zeros(1, 4)), frames)
    assert torch.equal(augment.contrast(frames, torch.ones(1, 4)), frames)
    assert torch.equal(augment.flip(frames, torch.tensor([False])), frames)


@pytest.mark.parametrize(("name", "source"), [("uint8", "frames_bgr_uint8"), ("float", "brightness_then_contrast_out")])
def test_normalize(name: str, source: str) -> None:
    ours = augment.normalize(batch(source))[0]
    np.testing.assert_allclose(ours.transpose(0, 1), STORED[f"to_tensor_{name}_in"], atol=5e-5)


def test_normalize_keeps_the_layout_that_convolutions_want() -> None:
    clips = augment.normalize(torch.rand(2, 4, 8, 8, 3))
    assert clips.is_contiguous(memory_format=torch.channels_last_3d)


def test_flip_and_crops() -> None:
    frames = rgb("frames_bgr_uint8")
    np.testing.assert_array_equal(augment.flip(batch("frames_bgr_uint8"), torch.tensor([True]))[0], rgb("flip"))
    as_they_are = 40  # the short side of the stored frames
    for crop, stored in (
        (geometry.Crop(as_they_are, size=32, place=lambda top, left: (3, 7)), "random_crop_y3_x7_32"),
        (geometry.center_crop(as_they_are, size=32), "center_crop_32x32"),
    ):
        np.testing.assert_array_equal(np.stack([crop(frame) for frame in frames]), rgb(stored))


@pytest.mark.parametrize(("height", "width", "corner"), [(33, 41, (3, 5)), (40, 52, (0, 0))])
def test_the_middle_is_that_of_the_reference_for_odd_and_no_room(height: int, width: int, corner: tuple) -> None:
    top, left = geometry.center_crop(40, size=32).place(40 - height, 52 - width)
    assert (top, left) == corner
    middle = rgb("frames_bgr_uint8")[:, top : top + height, left : left + width]
    np.testing.assert_array_equal(middle, rgb(f"center_crop_{height}x{width}"))


def test_crops_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"crop of 41 pixels does not fit into frames of 52x40"):
        geometry.center_crop(40, size=41)(rgb("frames_bgr_uint8")[0])


@pytest.mark.parametrize(("width", "height"), [(64, 48), (26, 20), (37, 29)])
def test_resize_within_one_grey_level(width: int, height: int) -> None:
    frames = rgb("frames_bgr_uint8")
    ours = np.stack([geometry.resize(frame, (width, height)) for frame in frames]).astype(int)
    assert np.abs(ours - rgb(f"scale_dsize_w{width}_h{height}")).max() <= 1


@pytest.mark.parametrize("case", load_json("group_scale_sizes")["cases"], ids=str)
def test_resized_shape(case: dict) -> None:
    scale = tuple(case["scale"]) if isinstance(case["scale"], list) else case["scale"]
    assert geometry.resized_shape(case["in_h"], case["in_w"], scale) == (case["out_h"], case["out_w"])
