"""The batched arithmetic of views against torchvision's functional transforms, picture by picture."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from fedvssl.data import image_augment as ours

COLOURS = (
    functional.adjust_brightness,
    functional.adjust_contrast,
    functional.adjust_saturation,
    functional.adjust_hue,
)
# Both compute in float32, in another order; measured: 3e-6 of a range of 1 for all colours one after the other.
TOLERANCE = {"rtol": 0.0, "atol": 1e-5}


def pictures(count: int, height: int = 32, width: int = 32, *, seed: int = 0) -> Tensor:
    """uint8 [B,H,W,3]; noise, with grey, black, white and saturated pixels in it."""
    x = torch.randint(0, 256, (count, height, width, 3), generator=torch.Generator().manual_seed(seed))
    x[:, :4] = x[:, :4, :, :1]
    x[:, -1, ::3], x[:, -1, 1::3], x[:, -1, 2::3] = 0, 255, torch.tensor([255, 0, 0])
    return x.byte()


def one(x: Tensor, number: int) -> Tensor:
    return x[number].movedim(-1, -3).float() / 255


def draw_factors(count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    factors = np.concatenate([rng.uniform(0.2, 1.8, (count, 3)), rng.uniform(-0.5, 0.5, (count, 1))], axis=1)
    factors[0], factors[1] = (1, 1, 1, 0), (0, 0, 0, 0.2)
    orders = np.stack([rng.permutation(4) for _ in range(count)])
    return torch.from_numpy(factors).float(), torch.from_numpy(orders)


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (48, 40, 32), (64, 96, 16), (20, 12, 32)])
def test_crop_is_the_resized_crop_with_antialiasing(height: int, width: int, size: int) -> None:
    rng, x = np.random.default_rng(0), pictures(24, height, width)
    boxes = np.empty((24, 4), np.int64)
    for box in boxes:
        h, w = rng.integers(1, height, endpoint=True), rng.integers(1, width, endpoint=True)
        box[:] = rng.integers(height - h, endpoint=True), rng.integers(width - w, endpoint=True), h, w
    boxes[0] = 0, 0, height, width
    flips = torch.arange(24) % 2 == 1
    found = ours.crop(ours.to_planes(x), box=torch.from_numpy(boxes), flip=flips, size=size)
    for number, box in enumerate(boxes.tolist()):
        expected = functional.resized_crop(one(x, number), *box, [size, size], antialias=True)
        expected = functional.horizontal_flip(expected) if flips[number] else expected
        torch.testing.assert_close(found[number], expected, **TOLERANCE)


def test_a_box_of_the_whole_picture_at_its_own_size_changes_nothing() -> None:
    x = ours.to_planes(pictures(2))
    box = torch.tensor([[0, 0, 32, 32]] * 2)
    torch.testing.assert_close(ours.crop(x, box=box, flip=torch.zeros(2, dtype=torch.bool), size=32), x)


def test_no_view_shows_what_lies_outside_its_box() -> None:
    x = ours.to_planes(pictures(1, 40, 40))
    changed = x.clone()
    changed[:, :, 20:], changed[:, :, :, 24:] = 1, 1
    arguments = {"box": torch.tensor([[0, 0, 20, 24]]), "flip": torch.tensor([False]), "size": 32}
    assert torch.equal(ours.crop(x, **arguments), ours.crop(changed, **arguments))


@pytest.mark.parametrize("kind", range(4))
def test_each_colour_alone(kind: int) -> None:
    x, (factors, _) = pictures(16), draw_factors(16, seed=kind)
    alone = torch.tensor([[1.0, 1, 1, 0]]).repeat(16, 1)
    alone[:, kind] = factors[:, kind]
    found = ours.jitter(ours.to_planes(x), factors=alone, order=torch.arange(4).repeat(16, 1))
    for number in range(16):
        expected = COLOURS[kind](one(x, number), float(alone[number, kind]))
        torch.testing.assert_close(found[number], expected, **TOLERANCE)


def test_colours_in_an_order_of_each_pictures_own() -> None:
    x, (factors, orders) = pictures(64), draw_factors(64, seed=7)
    found = ours.jitter(ours.to_planes(x), factors=factors, order=orders)
    for number, order in enumerate(orders.tolist()):
        expected = one(x, number)
        for kind in order:
            expected = COLOURS[kind](expected, float(factors[number, kind]))
        torch.testing.assert_close(found[number], expected, **TOLERANCE)
    assert len({tuple(order) for order in orders.tolist()}) > 15


def test_grey_of_the_flagged_pictures() -> None:
    x, flags = pictures(4), torch.tensor([True, False, True, False])
    found = ours.to_grey(ours.to_planes(x), flags)
    for number in range(4):
        picture = one(x, number)
        expected = functional.rgb_to_grayscale(picture, num_output_channels=3) if flags[number] else picture
        torch.testing.assert_close(found[number], expected, **TOLERANCE)


@pytest.mark.parametrize("size", [32, 5])
def test_blur_is_a_gaussian_with_reflected_edges(size: int) -> None:
    x, sigma = pictures(6, size, size), torch.tensor([0.1, 0.5, 1.0, 1.7, 2.0, 0.0])
    found = ours.blur(ours.to_planes(x), sigma=sigma, most=2.0)
    width = 2 * min(6, size - 1) + 1
    for number, value in enumerate(sigma.tolist()):
        expected = one(x, number)
        expected = functional.gaussian_blur(expected, [width, width], [value, value]) if value else expected
        torch.testing.assert_close(found[number], expected, **TOLERANCE)


def test_normalisation_and_the_layout_that_convolutions_want() -> None:
    x = ours.to_planes(pictures(2))
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    found = ours.normalize(x, mean=mean, std=std)
    torch.testing.assert_close(found, functional.normalize(x, list(mean), list(std)))
    assert found.is_contiguous(memory_format=torch.channels_last)
    clips = ours.normalize(x.unsqueeze(2).repeat(1, 1, 3, 1, 1), mean=mean, std=std)
    assert clips.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(clips[:, :, 1], found)


def test_all_frames_of_a_clip_are_changed_alike() -> None:
    """A clip is as many pictures with the same parameters."""
    frames = pictures(2 * 3).unflatten(0, (2, 3))
    (factors, orders), sigma = draw_factors(2, seed=3), torch.tensor([0.8, 1.5])
    flags = torch.tensor([True, False])
    found = ours.flip(ours.to_planes(frames), flags)
    found = ours.jitter(found, factors=factors, order=orders)
    found = ours.blur(ours.to_grey(found, ~flags), sigma=sigma, most=2.0)
    for number, frame in np.ndindex(2, 3):
        x = ours.to_planes(frames[number, frame][None])
        own = slice(number, number + 1)
        x = ours.jitter(ours.flip(x, flags[own]), factors=factors[own], order=orders[own])
        x = ours.blur(ours.to_grey(x, ~flags[own]), sigma=sigma[own], most=2.0)
        torch.testing.assert_close(found[number, :, frame], x[0])
