"""Samples, loss and logits of supervised recognition of pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from fedvssl.data.image_augment import normalize, to_planes
from fedvssl.models.recognizer import Recognizer
from fedvssl.models.resnet import ResNet
from fedvssl.tasks.picture_recognition import PictureRecognition, TrainPicture
from fedvssl.tasks.picture_recognition import TestPicture as Middle

TRAIN = {"short_side": 8, "padding": 2, "crop_size": 8, "flip_prob": 0.5}


@pytest.fixture(scope="module")
def task() -> PictureRecognition:
    torch.manual_seed(0)
    return PictureRecognition(ResNet(18, width=2), recognizer=lambda backbone: Recognizer(backbone, num_classes=5))


def write(path: Path, picture: np.ndarray) -> Path:
    cv2.imwrite(str(path), picture[..., ::-1])
    return path


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (height, width, 3), np.uint8)


def test_a_picture_of_the_asked_size_is_tested_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", noise(8, 8))
    frames = Middle(short_side=8, crop_size=8)(path, np.random.default_rng(0))["frames"]
    assert frames.dtype == torch.uint8 and np.array_equal(frames.numpy(), noise(8, 8)[None])


@pytest.mark.parametrize(("height", "width"), [(8, 12), (12, 8)])
def test_of_an_oblong_picture_the_middle_is_tested(tmp_path: Path, height: int, width: int) -> None:
    picture = noise(height, width)
    frames = Middle(short_side=8, crop_size=6)(write(tmp_path / "a.png", picture), np.random.default_rng(0))["frames"]
    top, left = (height - 6) // 2, (width - 6) // 2
    assert np.array_equal(frames[0].numpy(), picture[top : top + 6, left : left + 6])


def test_a_larger_picture_is_shrunk_first(tmp_path: Path) -> None:
    picture = np.full((40, 60, 3), (10, 200, 90), np.uint8)
    frames = Middle(short_side=8, crop_size=8)(write(tmp_path / "a.png", picture), np.random.default_rng(0))["frames"]
    assert frames.shape == (1, 8, 8, 3) and (frames == torch.tensor([10, 200, 90])).all()


def test_a_training_crop_is_a_random_part_of_the_padded_picture(tmp_path: Path) -> None:
    picture, path = noise(8, 8), write(tmp_path / "a.png", noise(8, 8))
    padded, places, flips = np.pad(picture, ((2, 2), (2, 2), (0, 0))), set(), 0
    for seed in range(300):
        item = TrainPicture(**TRAIN)(path, np.random.default_rng(seed))
        found = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if np.array_equal(padded[top : top + 8, left : left + 8], item["frames"].numpy())
        ]
        assert len(found) == 1
        places.add(found[0])
        flips += int(item["flip"])
    assert len(places) == 25 and 120 < flips < 180


def test_the_device_mirrors_the_flagged_pictures_and_normalises_as_pretraining_does(task: PictureRecognition) -> None:
    frames = torch.from_numpy(np.stack([noise(8, 8), noise(8, 8)[::-1].copy()]))
    flip, index = torch.tensor([False, True]), torch.arange(2)
    batch = task.augment({"frames": frames, "flip": flip, "label": index, "index": index})
    planes = to_planes(frames)
    expected = torch.stack([planes[0], functional.horizontal_flip(planes[1])])
    expected = normalize(expected, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    torch.testing.assert_close(batch["clips"], expected, atol=1e-5, rtol=1e-5)


def test_loss_and_logits_are_those_of_the_recognizer(task: PictureRecognition) -> None:
    frames = torch.from_numpy(np.stack([noise(16, 16)] * 3))
    label = torch.tensor([0, 1, 4])
    batch = task.augment({"frames": frames, "flip": torch.zeros(3, dtype=torch.bool), "label": label, "index": label})
    with torch.no_grad():
        logits = task.eval().video_logits(frames[:, None])
        loss = task(batch)["loss"]
    assert logits.shape == (3, 5)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, label))


def test_logits_are_told_apart_in_bfloat16_too(task: PictureRecognition) -> None:
    frames = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (4, 1, 16, 16, 3), np.uint8))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = task.eval().video_logits(frames)
    assert logits.dtype == torch.float32 and not torch.equal(logits, logits.bfloat16().float())
    with torch.no_grad():
        torch.testing.assert_close(logits, task.video_logits(frames), atol=0.003, rtol=0.05)


def test_a_recognizer_of_ones_own_need_only_map_pictures_to_logits() -> None:
    class Own(torch.nn.Module):
        num_classes = 5

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return pictures.mean(dim=(1, 2, 3))[:, None] * torch.arange(5)

    task = PictureRecognition(ResNet(18, width=2), recognizer=lambda _: Own())
    frames = torch.from_numpy(np.stack([noise(16, 16)] * 3))[:, None]
    assert task.eval().video_logits(frames).shape == (3, 5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"crop_size": 13}, "train_sample: a crop of 13 pixels does not fit into pictures of 12"),
        ({"padding": -1}, "train_sample.padding=-1 must be a whole number, at least 0"),
        ({"short_side": 0}, "train_sample.short_side=0 must be a whole number, at least 1"),
        ({"crop_size": True}, "train_sample.crop_size=True must be a whole number"),
        ({"flip_prob": 1.5}, "train_sample.flip_prob=1.5 must be a number from 0 to 1"),
    ],
)
def test_mistakes_get_a_sentence(change: dict, sentence: str) -> None:
    TrainPicture(**{**TRAIN, "crop_size": 12})
    with pytest.raises(ValueError, match=sentence):
        TrainPicture(**{**TRAIN, **change})
    with pytest.raises(ValueError, match="test_sample: a crop of 9 pixels does not fit into pictures of 8"):
        Middle(short_side=8, crop_size=9)
