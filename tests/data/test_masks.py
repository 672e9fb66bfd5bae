"""Objects of masks, the file that holds them, and boxes that stay inside their picture."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedvssl.data.masks import (
    encode_objects,
    filled,
    find_objects,
    main_class,
    objects_path,
    read_objects,
    tight_box,
    widened,
)
from tests.mask_set import announcing


def two_classes() -> np.ndarray:
    """Class 1: a bar of 12 pixels and a dot; class 7: two squares of 4 pixels that touch in a corner."""
    mask = np.zeros((10, 14), np.uint8)
    mask[1:3, 1:7] = 1
    mask[8, 0] = 1
    mask[4:6, 4:6] = mask[6:8, 6:8] = 7
    return mask


def test_objects_are_components_of_a_class_with_a_least_area() -> None:
    objects = find_objects(two_classes(), least_area=2)
    assert objects.classes.tolist() == [1, 7]
    assert [int(objects.mask(n).sum()) for n in (1, 2)] == [12, 8] and objects.numbers[8, 0] == 0
    assert len(find_objects(two_classes(), least_area=1)) == 3
    assert len(find_objects(two_classes(), least_area=13)) == 0
    assert main_class(objects) == 1
    assert main_class(find_objects(np.array([[5, 0, 3, 3]], np.uint8), least_area=1)) == 3


def test_a_file_holds_objects_and_classes(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[::2, ::2] = 1  # 600 objects, more than a byte counts
    mask[1, 1] = 0
    objects = find_objects(mask, least_area=1)
    picture = tmp_path / "a.b.png"
    assert objects_path(picture).name == "a.b.objects.png"
    objects_path(picture).write_bytes(encode_objects(objects))
    again = read_objects(picture)
    assert len(again) == 600 and np.array_equal(again.numbers, objects.numbers)
    assert np.array_equal(again.classes, objects.classes)


@pytest.mark.parametrize("content", [None, b"", b"no picture", "empty"])
def test_a_missing_damaged_or_empty_file_is_named(content: bytes | str | None, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    if content == "empty":
        content = encode_objects(find_objects(np.zeros((4, 4), np.uint8), least_area=1))
    if isinstance(content, bytes):
        objects_path(picture).write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.objects\.png .*data_tools\.masks"):
        read_objects(picture)


def test_a_file_that_announces_more_pixels_than_memory_has_is_refused_unread(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    objects_path(picture).write_bytes(announcing(100_000, 100_000))
    with pytest.raises(ValueError, match=r"a\.objects\.png announces more than"):
        read_objects(picture)


@given(
    st.integers(1, 50), st.integers(1, 50), st.lists(st.integers(0, 19), min_size=4, max_size=4), st.integers(0, 2**31)
)
def test_a_widened_box_stays_inside_and_holds_the_tight_one(
    height: int, width: int, shifts: list[int], seed: int
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.05
    mask[height // 2, width // 2] = True
    x0, y0, x1, y1 = tight_box(mask)
    a, b, c, d = widened((x0, y0, x1, y1), shifts, height=height, width=width)
    assert 0 <= a <= x0 and 0 <= b <= y0 and x1 <= c <= width and y1 <= d <= height
    assert (x0 - a, c - x1) <= (shifts[0], shifts[1]) and (
        mask <= filled((x0, y0, x1, y1), height=height, width=width)
    ).all()


def test_the_filled_box_of_a_disc_has_an_iou_of_a_quarter_of_pi() -> None:
    y, x = np.mgrid[:201, :201]
    disc = (y - 100) ** 2 + (x - 100) ** 2 <= 99.5**2
    box = filled(tight_box(disc), height=201, width=201)
    assert (disc & box).sum() / (disc | box).sum() == pytest.approx(np.pi / 4, abs=2e-3)
