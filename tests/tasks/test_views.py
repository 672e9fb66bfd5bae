"""Two views: what a worker draws, and that a batch depends on nothing else."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from fedvssl import building, config
from fedvssl.data.annotations import Annotation
from fedvssl.data.dataset import SampleDataset, train_loader
from fedvssl.tasks.views import TwoClips, TwoViews, ViewDraw, Views
from tests.videos import ArrayVideo, moving_square

STRONG = {
    **{"crop_scale": (0.08, 1.0), "crop_ratio": (3 / 4, 4 / 3), "flip_prob": 0.5, "jitter": (0.8, 0.8, 0.8, 0.2)},
    **{"jitter_prob": 0.8, "grey_prob": 0.2, "blur_prob": 0.5, "blur_sigma": (0.1, 2.0)},
}
NEVER = {name: 0.0 for name in ("flip_prob", "jitter_prob", "grey_prob", "blur_prob")}


def draw(**settings) -> ViewDraw:
    return ViewDraw(**{**STRONG, **settings})


def draws(count: int, *, height: int = 32, width: int = 32, **settings) -> dict[str, np.ndarray]:
    rng, own = np.random.default_rng(0), draw(**settings)
    drawn = [own(rng, height=height, width=width) for _ in range(count)]
    return {name: np.stack([each[name] for each in drawn]) for name in drawn[0]}


def write_pictures(folder: Path, count: int, *, side: int = 32) -> list[Annotation]:
    annotations = [Annotation(f"a/{number}", number % 2) for number in range(count)]
    rng = np.random.default_rng(0)
    for annotation in annotations:
        path = folder / f"{annotation.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (side, side, 3), np.uint8))
    return annotations


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 96)])
def test_boxes_are_distributed_as_torchvisions(height: int, width: int) -> None:
    torch.manual_seed(0)
    picture = torch.zeros(3, height, width)
    transform = v2.RandomResizedCrop(32, scale=STRONG["crop_scale"], ratio=STRONG["crop_ratio"])
    theirs = [transform.make_params([picture]) for _ in range(6000)]
    theirs = np.array([[each[name] for name in ("top", "left", "height", "width")] for each in theirs])
    ours = draws(6000, height=height, width=width)["box"]
    assert (ours[:, :2] >= 0).all() and (ours[:, 0] + ours[:, 2] <= height).all()
    assert (ours[:, 1] + ours[:, 3] <= width).all() and (ours[:, 2:] > 0).all()
    levels = np.linspace(0.05, 0.95, 10)
    for column in range(4):
        expected = np.quantile(theirs[:, column], levels)
        np.testing.assert_allclose(np.quantile(ours[:, column], levels), expected, atol=0.035 * max(height, width))
        assert abs(ours[:, column].mean() - theirs[:, column].mean()) < 0.03 * max(height, width)


def test_a_picture_that_is_too_narrow_gives_the_middle() -> None:
    boxes = draws(50, height=4, width=400, crop_scale=(0.9, 1.0))["box"]
    assert (boxes == [0, (400 - 5) // 2, 4, 5]).all()
    assert (draws(50, height=400, width=4, crop_scale=(0.9, 1.0))["box"] == [(400 - 5) // 2, 0, 5, 4]).all()


def test_shares_and_ranges_of_the_other_parameters() -> None:
    drawn = draws(8000)
    factors, order = drawn["factors"], drawn["order"]
    jittered = (factors != [1, 1, 1, 0]).any(axis=1)
    shares = [drawn["flip"].mean(), jittered.mean(), drawn["grey"].mean(), (drawn["sigma"] > 0).mean()]
    np.testing.assert_allclose(shares, [0.5, 0.8, 0.2, 0.5], atol=0.02)
    levels = np.linspace(0.1, 0.9, 9)
    for column, (low, high) in enumerate([(0.2, 1.8)] * 3 + [(-0.2, 0.2)]):
        values = factors[jittered, column]
        assert low <= values.min() and values.max() <= high + 1e-6
        np.testing.assert_allclose(np.quantile(values, levels), low + levels * (high - low), atol=0.03)
    sigma = drawn["sigma"][drawn["sigma"] > 0]
    np.testing.assert_allclose(np.quantile(sigma, levels), 0.1 + levels * 1.9, atol=0.05)
    seen, counts = np.unique(order, axis=0, return_counts=True)
    assert len(seen) == 24 and counts.min() > 8000 / 24 * 0.8 and counts.max() < 8000 / 24 * 1.2
    for values in (factors[:, 0], drawn["sigma"], drawn["box"][:, 0]):
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.05


def test_a_change_of_more_than_all_stops_at_black() -> None:
    factors = draws(2000, jitter=(1.5, 0, 0, 0), jitter_prob=1.0)["factors"]
    assert 0 <= factors[:, 0].min() < 0.05 and 2.4 < factors[:, 0].max() <= 2.5


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"crop_scale": (0.0, 1.0)},
            "task.sample.draw.crop_scale=.* must be two ascending numbers, above 0",
        ),
        ({"crop_scale": (0.9, 0.2)}, "task.sample.draw.crop_scale"),
        ({"jitter": (0.8, 0.8, 0.8)}, "task.sample.draw.jitter=.* must be 4 numbers, at least 0"),
        ({"jitter": (0.8, 0.8, 0.8, 0.6)}, r"task.sample.draw.jitter\[3\]=.* at most 0.5"),
        ({"flip_prob": 1.2}, "task.sample.draw.flip_prob=.* must be a number, at least 0 and at most 1"),
    ],
)
def test_numbers_out_of_range_are_refused(settings: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        draw(**settings)


def test_a_batch_is_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    annotations = write_pictures(tmp_path, 12)
    batches = []
    for num_workers in (0, 1, 2):
        dataset = SampleDataset(tmp_path, annotations, TwoViews(max_side=32, draw=draw()), seed_key=(7, 1, 0, 0))
        batches.append(list(train_loader(dataset, batch_size=5, num_workers=num_workers)))
    for others in batches[1:]:
        for one, other in zip(batches[0], others, strict=True):
            assert one.keys() == other.keys()
            assert all(torch.equal(one[name], other[name]) for name in one)
    later = SampleDataset(tmp_path, annotations, TwoViews(max_side=32, draw=draw()), seed_key=(7, 2, 0, 0))
    assert not torch.equal(later[0]["box"], dataset[0]["box"])


def test_each_view_of_each_picture_has_parameters_of_its_own(tmp_path: Path) -> None:
    annotations = write_pictures(tmp_path, 8)
    dataset = SampleDataset(tmp_path, annotations, TwoViews(max_side=32, draw=draw(jitter_prob=1.0)), seed_key=(7,))
    batch = next(iter(train_loader(dataset, batch_size=8, num_workers=0)))
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        **{"frames": (8, 32, 32, 3), "box": (8, 2, 4), "flip": (8, 2), "factors": (8, 2, 4), "order": (8, 2, 4)},
        **{"grey": (8, 2), "sigma": (8, 2), "label": (8,), "index": (8,)},
    }
    assert len(batch["factors"].flatten(0, 1)[:, 0].unique()) == 16


def test_views_are_torchvisions_with_the_drawn_parameters(tmp_path: Path) -> None:
    """The whole chain, in SimCLR's order. Float32 arithmetic in another order; measured: 1e-5 after normalisation."""
    annotations, sample = write_pictures(tmp_path, 16, side=40), TwoViews(max_side=40, draw=draw())
    mean, std = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]
    views = Views(crop_size=32, draw=draw(), mean=mean, std=std)
    dataset = SampleDataset(tmp_path, annotations, sample, seed_key=(7,))
    batch = next(iter(train_loader(dataset, batch_size=16, num_workers=0)))
    done = views(batch)
    assert torch.equal(done["index"], batch["index"])
    colours = (
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
        functional.adjust_hue,
    )
    for row, number in np.ndindex(16, 2):
        own = {name: batch[name][row, number] for name in ("box", "flip", "factors", "order", "grey", "sigma")}
        x = batch["frames"][row].permute(2, 0, 1).float() / 255
        x = functional.resized_crop(x, *own["box"].tolist(), [32, 32], antialias=True)
        x = functional.horizontal_flip(x) if own["flip"] else x
        for kind in own["order"].tolist():
            x = colours[kind](x, float(own["factors"][kind]))
        x = functional.rgb_to_grayscale(x, num_output_channels=3) if own["grey"] else x
        x = functional.gaussian_blur(x, [13, 13], [float(own["sigma"])] * 2) if own["sigma"] else x
        torch.testing.assert_close(
            done[f"view{number + 1}"][row], functional.normalize(x, mean, std), rtol=0, atol=1e-4
        )


def test_pictures_of_several_sizes_make_a_batch_without_their_margin(tmp_path: Path) -> None:
    for number, (height, width) in enumerate([(20, 48), (64, 30), (32, 32)]):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((height, width, 3), 200, np.uint8))
    settings = draw(**NEVER)
    dataset = SampleDataset(
        tmp_path, [Annotation(str(n), 0) for n in range(3)], TwoViews(max_side=32, draw=settings), seed_key=(7,)
    )
    batch = next(iter(train_loader(dataset, batch_size=3, num_workers=0)))
    views = Views(crop_size=32, draw=settings, mean=[0, 0, 0], std=[1, 1, 1])(batch)
    for name in ("view1", "view2"):
        torch.testing.assert_close(views[name], torch.full((3, 3, 32, 32), 200 / 255))


def test_what_is_never_drawn_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("jitter", "to_grey", "blur"):
        monkeypatch.setattr(f"fedvssl.data.image_augment.{name}", None)
    batch = {"frames": torch.zeros(1, 32, 32, 3, dtype=torch.uint8), "index": torch.zeros(1)}
    drawn = draw(**NEVER)(np.random.default_rng(0), height=32, width=32)
    batch |= {name: torch.from_numpy(np.stack([value, value]))[None] for name, value in drawn.items()}
    views = Views(crop_size=16, draw=draw(**NEVER), mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])(batch)
    torch.testing.assert_close(views["view2"], torch.full((1, 3, 16, 16), -1.0))


def test_two_clips_of_a_video() -> None:
    video = ArrayVideo(moving_square(num_frames=40, height=36, width=48))
    sample = TwoClips(clip_len=6, strides=[1, 2], crop_size=24, draw=draw(jitter_prob=0, grey_prob=0, blur_prob=0))
    item = sample.read(video, np.random.default_rng(0))
    assert item["frames"].shape == (2, 6, 24, 24, 3) and item["frames"].dtype == torch.uint8 and "box" not in item
    assert not torch.equal(item["frames"][0], item["frames"][1])
    again = sample.read(video, np.random.default_rng(0))
    assert all(torch.equal(item[name], again[name]) for name in item)
    batch = {**{name: value[None] for name, value in item.items()}, "index": torch.zeros(1)}
    views = Views(crop_size=24, draw=sample.draw, mean=[0, 0, 0], std=[1, 1, 1])(batch)
    for number in range(2):
        expected = item["frames"][number].permute(3, 0, 1, 2).float() / 255
        expected = expected.flip(-1) if item["flip"][number] else expected
        torch.testing.assert_close(views[f"view{number + 1}"][0], expected)


def test_the_two_clips_are_drawn_apart_and_all_frames_of_one_have_one_box() -> None:
    """A still video: every frame of a clip shows the same part of it."""
    still = ArrayVideo(np.repeat(moving_square(num_frames=1, height=36, width=48), 40, axis=0))
    sample = TwoClips(clip_len=4, strides=[2], crop_size=16, draw=draw())
    frames = sample.read(still, np.random.default_rng(1))["frames"]
    assert all(torch.equal(clip[0], frame) for clip in frames for frame in clip)
    assert not torch.equal(frames[0, 0], frames[1, 0])


# Rows of the published table: (jitter, probability of a blur).
PIPELINES = {
    "simclr": ((0.8, 0.8, 0.8, 0.2), 0),
    "byol": ((0.8, 0.8, 0.8, 0.2), 0),
    "simsiam": ((0.8, 0.8, 0.8, 0.2), 0),
    "moco_v2": ((0.8, 0.8, 0.8, 0.2), 0),
    "moco_v1": ((0.4, 0.4, 0.4, 0.1), 0),
}


@pytest.mark.parametrize("task", PIPELINES)
def test_the_files_have_the_published_views(task: str) -> None:
    cfg = config.compose("base", [f"task={task}", "model=resnet18", "model.width=4"])
    sample, module = building.build_sample(cfg), building.build_task(cfg)
    own = sample.draw
    assert module.views.draw == own and module.views.crop_size == sample.max_side == 32
    assert (tuple(own.jitter), own.blur_prob) == PIPELINES[task]
    assert (own.flip_prob, own.jitter_prob, own.grey_prob) == (0.5, 0.8, 0.2)
    assert tuple(own.crop_scale) == (0.08, 1) and tuple(own.crop_ratio) == pytest.approx((3 / 4, 4 / 3))


def test_the_views_of_mocosfl_can_be_chosen_for_any_task() -> None:
    cfg = config.compose("base", ["task=simclr", "views@task=mocosfl", "model=resnet18"])
    own, views = building.build_sample(cfg).draw, cfg["task"]["module"]["views"]
    assert (tuple(own.jitter), own.blur_prob, tuple(own.blur_sigma)) == ((0.4, 0.4, 0.4, 0.1), 0.5, (0.1, 2.0))
    assert (views["mean"], views["std"]) == ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010])


def test_the_side_of_the_stored_pictures_is_that_of_the_views() -> None:
    cfg = config.compose("base", ["task=simclr", "task.sample.max_side=64", "model=resnet18"])
    assert cfg["task"]["module"]["views"]["crop_size"] == 64 and math.isclose(building.build_sample(cfg).max_side, 64)


MOCO = {"queue_length": 4096, "momentum": 0.99, "symmetric": True, "reset_keys": True}
JITTER = {"strong": [0.8, 0.8, 0.8, 0.2], "moco_v1": [0.4, 0.4, 0.4, 0.1], "mocosfl": [0.4, 0.4, 0.4, 0.1]}


@pytest.mark.parametrize("views", JITTER)
def test_published_pipelines(views: str) -> None:
    draw = config.compose("base", ["task=simclr", "model=resnet18", f"views@task={views}"])["task"]["sample"]["draw"]
    assert draw["crop_scale"] == [0.08, 1.0] and draw["crop_ratio"] == pytest.approx([3 / 4, 4 / 3])
    probabilities = [draw[f"{name}_prob"] for name in ("flip", "jitter", "grey", "blur")]
    assert probabilities == [0.5, 0.8, 0.2, 0.5 if views == "mocosfl" else 0]
    assert draw["jitter"] == JITTER[views] and draw["blur_sigma"] == [0.1, 2.0]


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("simclr", {"temperature": 0.5}),
        ("byol", {"momentum": 0.99}),
        (
            "moco_v1",
            {"temperature": 0.07, "queue_length": 4096, "momentum": 0.99, "symmetric": True, "reset_keys": True},
        ),
        (
            "moco_v2",
            {"temperature": 0.2, "queue_length": 4096, "momentum": 0.99, "symmetric": True, "reset_keys": True},
        ),
    ],
)
def test_published_settings_of_the_tasks(task: str, expected: dict) -> None:
    module = config.compose("base", [f"task={task}", "model=resnet18"])["task"]["module"]
    assert {name: module[name] for name in expected} == expected
    heads = {name: [module[name]["hidden_channels"], module[name]["out_channels"]] for name in module if "ctor" in name}
    wide = {name: [4096, 2048] for name in heads}
    assert heads == {"moco_v1": {"projector": [None, 128]}, "moco_v2": {"projector": ["input", 128]}}.get(task, wide)
