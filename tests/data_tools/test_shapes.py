"""Rings and L shapes: the shapes that are told, the same for a seed, and not the answer of a filled box."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from data_tools.shapes import main, ring_or_l
from fedvssl.data.masks import filled, tight_box


def test_a_box_around_a_shape_is_mostly_empty_and_classes_take_turns_at_random() -> None:
    rng, shares, classes = np.random.default_rng(0), [], []
    for _ in range(60):
        picture, mask = ring_or_l(rng, side=64)
        (class_id,) = set(np.unique(mask).tolist()) - {0}
        box = filled(tight_box(mask > 0), height=64, width=64)
        shares.append((mask > 0).sum() / box.sum())
        classes.append(class_id)
        assert picture[mask > 0].min() >= 80 and picture[mask == 0].max() < 90
    assert set(classes) == {1, 2} and 20 < classes.count(1) < 40
    assert 0.25 < np.mean(shares) < 0.65


def test_the_command_writes_owners_in_turns_and_refuses_a_folder_that_has_some(tmp_path: Path) -> None:
    for name in ("a", "b"):
        main([f"--out_dir={tmp_path / name}", "--number=5", "--side=40"])
    files = sorted(path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*.png"))
    assert files[0] == "images/owner1/00000.png" and len(files) == 10
    one, other = (cv2.imread(str(tmp_path / name / "images/owner2/00003.png")) for name in ("a", "b"))
    assert one.shape == (40, 40, 3) and np.array_equal(one, other)
    with pytest.raises(ValueError, match="is there already"):
        main([f"--out_dir={tmp_path / 'a'}"])
    with pytest.raises(ValueError, match="--number 1"):
        main([f"--out_dir={tmp_path / 'c'}", "--number=1"])
