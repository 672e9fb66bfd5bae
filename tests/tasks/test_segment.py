"""Segmentation from boxes: samples of any shape of picture, the loss, what is frozen, predictions, kept embeddings."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from fedvssl.building import freeze
from fedvssl.data.annotations import Annotation
from fedvssl.data.dataset import SampleDataset, stack
from fedvssl.data.masks import encode_objects, find_objects, low_resolution, objects_path
from fedvssl.tasks.segment import AllObjects, Prompts, Segment, dice_and_bce, overlap
from fedvssl.training.loop import metric_names
from tests.mask_set import prepare_shapes
from tests.tiny_sam import FROZEN, tiny_sam, tiny_task

SIZES = {"side": 64, "patch_size": 8, "max_shift": 3}


def write(folder: Path, mask: np.ndarray, *, name: str = "a.png") -> Path:
    """A picture whose object is bright, and its objects."""
    path = folder / name
    cv2.imwrite(str(path), np.where(mask[..., None] > 0, 220, 30).astype(np.uint8).repeat(3, axis=2))
    objects_path(path).write_bytes(encode_objects(find_objects(mask, least_area=1)))
    return path


def batch_of(folder: Path, sample: object, names: list[str]) -> dict:
    dataset = SampleDataset(folder, [Annotation(name, 0) for name in names], sample, seed_key=(0,))  # pyright: ignore
    return stack([dataset[index] for index in range(len(dataset))])


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_shapes(tmp_path_factory.mktemp("shapes"), number=12) / "pictures"


def names_in(folder: Path, number: int) -> list[str]:
    found = [path for path in sorted(folder.rglob("*.bmp")) if "objects" not in path.name]
    return [path.relative_to(folder).as_posix() for path in found[:number]]


@pytest.mark.parametrize(("height", "width"), [(60, 120), (120, 60), (50, 50), (31, 17)])
def test_boxes_and_masks_follow_the_picture_into_the_corner_of_the_square(
    height: int, width: int, tmp_path: Path
) -> None:
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 3 : width * 2 // 3] = 1
    sample = Prompts(num_boxes=2, side=64, patch_size=8, max_shift=0)(write(tmp_path, mask), np.random.default_rng(0))
    factor = 64 / max(height, width)
    x, y = width // 3 * factor, height // 4 * factor
    assert sample["boxes"].tolist() == sample["boxes"][:1].tolist() * 2, "one object is shown twice, without a shift"
    assert sample["boxes"][0, :2].tolist() == pytest.approx([x, y], abs=1e-4)
    assert sample["size"].tolist() == [int(height * factor + 0.5), int(width * factor + 0.5)]
    rows, columns = np.nonzero(sample["masks"][0].numpy())
    assert abs(columns.min() - x / 2) <= 1 and abs(rows.min() - y / 2) <= 1, "masks have half of the side"
    bright = sample["picture"][..., 0] > 125
    assert abs(int(bright.sum()) - 4 * int(sample["masks"][0].sum())) <= 0.2 * int(bright.sum())
    square = sample["picture"].numpy()
    assert not square[sample["size"][0] :].any() and not square[:, sample["size"][1] :].any()


def test_training_draws_other_objects_and_shifts_and_the_test_has_all(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    for number in range(6):
        mask[10 * number : 10 * number + 6, 8:40] = 1 + number % 2
    path, sample = write(tmp_path, mask), Prompts(num_boxes=4, **SIZES)
    drawn = [sample(path, np.random.default_rng(seed))["boxes"] for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert len({tuple(box) for box in (drawn[0] // 10).tolist()}) == 4, "none is repeated where there are enough"
    whole = AllObjects(**SIZES)(path, np.random.default_rng(0))
    assert whole["classes"].tolist() == [1, 1, 1, 2, 2, 2] and whole["boxes"].shape == (6, 4)
    assert (whole["drawn"] >= 0).all() and (whole["drawn"] <= 64).all()


def test_low_resolution_of_the_whole_is_whole() -> None:
    found = low_resolution(np.ones((20, 40), bool), 32)
    assert found[:16].all() and not found[16:].any()


def test_only_the_decoder_gets_gradients(shapes: Path) -> None:
    task = tiny_task()
    freeze(task, FROZEN)
    batch = batch_of(shapes, Prompts(num_boxes=2, **SIZES), names_in(shapes, 3))
    names = metric_names(task, batch)
    assert {"loss", "dice_loss", "bce_loss", "mask_iou", "trivial_filled_box", "grad_norm"} <= {*names}
    scalars = task(task.augment(batch))
    scalars["loss"].backward()
    graded = {name.partition(".")[0] for name, weight in task.named_parameters() if weight.grad is not None}
    assert graded == {"mask_decoder"}
    loss, dice, bce = (float(scalars[name].detach()) for name in ("loss", "dice_loss", "bce_loss"))
    assert loss == pytest.approx(dice + bce)


def test_the_trivial_loss_is_that_of_filled_boxes(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 1
    write(tmp_path, mask)
    task = tiny_task()
    batch = task.augment(batch_of(tmp_path, Prompts(num_boxes=1, side=64, patch_size=8, max_shift=0), ["a.png"]))
    assert float(task.trivial(batch)["filled_box"]) < 0.2, "the box is nearly the object"
    mask[20:44, 20:44] = 0  # a frame: the box is mostly wrong
    write(tmp_path, mask)
    batch = task.augment(batch_of(tmp_path, Prompts(num_boxes=1, side=64, patch_size=8, max_shift=0), ["a.png"]))
    assert float(task.trivial(batch)["filled_box"]) > 0.5


def test_pictures_of_another_side_than_the_models_get_a_sentence(shapes: Path) -> None:
    batch = batch_of(shapes, Prompts(num_boxes=1, side=128, patch_size=16, max_shift=0), names_in(shapes, 1))
    with pytest.raises(ValueError, match="set side=64 and patch_size=8"):
        tiny_task().augment(batch)


@pytest.mark.parametrize(("height", "width"), [(50, 90), (90, 50)])
def test_predictions_have_the_resolution_and_place_of_the_picture(height: int, width: int, tmp_path: Path) -> None:
    mask = np.zeros((height, width), np.uint8)
    mask[20:40, 10:45] = 3
    write(tmp_path, mask)
    task = tiny_task()

    def right(embeddings: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Logits of the true mask, as a perfect decoder gives them."""
        return torch.from_numpy(low_resolution(mask > 0, 32))[None, None].float() * 20 - 10

    task.sam.decode = right
    batch = task.augment(batch_of(tmp_path, AllObjects(side=64, patch_size=8, max_shift=0), ["a.png"]))
    (row,) = task.predict(batch)
    assert row["class"] == 3 and row["mask"].shape == (height, width) and row["box"] == [10, 20, 44, 39]
    assert row["iou"] > 0.8 and row["box_iou"] == 1 and row["box_dice"] == 1


def test_overlaps() -> None:
    one, other = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    one[:2], other[1:3] = True, True
    assert overlap(one, other) == {"iou": 4 / 12, "dice": 8 / 16}


def test_kept_embeddings_give_the_same_masks_and_save_the_encoder(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, keeping = tiny_task(), tiny_task(cache_dir=str(tmp_path / "kept"))
    batch = batch_of(shapes, Prompts(num_boxes=2, **SIZES), names_in(shapes, 3))
    batch = plain.augment(batch)
    expected = plain.decode(batch)
    assert torch.allclose(keeping.decode(batch), expected, atol=1e-5)
    files = sorted((tmp_path / "kept").rglob("*.npy"))
    assert len(files) == 3
    monkeypatch.setattr(type(keeping.sam), "embed", lambda *_: pytest.fail("the encoder is asked again"))
    assert torch.equal(keeping.decode(batch) > 0, expected > 0)


def test_other_weights_other_pictures_and_damaged_files_are_computed_anew(shapes: Path, tmp_path: Path) -> None:
    batch = batch_of(shapes, Prompts(num_boxes=1, **SIZES), names_in(shapes, 2))
    first = tiny_task(cache_dir=str(tmp_path))
    batch = first.augment(batch)
    expected = first.decode(batch)
    other = tiny_task(seed=1, cache_dir=str(tmp_path))
    assert torch.allclose(other.decode(batch), tiny_task(seed=1).decode(batch), atol=1e-5)
    assert len(list(tmp_path.iterdir())) == 2, "a folder for each encoder"
    for path in tmp_path.rglob("*.npy"):
        path.write_bytes(path.read_bytes()[:90])
    assert torch.allclose(first.decode(batch), expected, atol=1e-5)
    with torch.no_grad():
        first.vision_encoder.get_parameter("pos_embed").add_(1.0)
    first.start_round()
    first.decode(batch)
    assert len(list(tmp_path.iterdir())) == 3, "a round looks at the weights anew"


def test_a_pattern_with_an_exclamation_mark_leaves_arrays_in_training() -> None:
    task = tiny_task()
    freeze(task, ["vision_encoder.*", "!*.neck.*", "!*.lora_*"])
    frozen = {name for name, weight in task.named_parameters() if not weight.requires_grad}
    assert frozen and all(name.startswith("vision_encoder.") and ".neck." not in name for name in frozen)


def test_a_perfect_mask_has_nearly_no_loss_and_an_inverted_one_much() -> None:
    masks = torch.zeros(1, 8, 8)
    masks[:, :4] = 1
    sure = 40 * masks - 20
    assert float(dice_and_bce(sure, masks)["loss"]) < 1e-3 < 10 < float(dice_and_bce(-sure, masks)["loss"])


def test_the_names_of_the_arrays_are_those_of_transformers() -> None:
    model = tiny_sam()
    assert {*Segment(model, cache_dir=None).state_dict()} == {*model._whole[0].state_dict()}
