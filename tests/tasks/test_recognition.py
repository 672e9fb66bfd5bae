"""Clips, loss and logits of supervised recognition."""

from functools import partial

import numpy as np
import pytest
import torch

from fedvssl.data import augment, geometry, sampling
from fedvssl.data.video import Step, whole
from fedvssl.models.r3d import R3D
from fedvssl.models.recognizer import Recognizer
from fedvssl.tasks.recognition import RecognitionTask, TrainSample
from fedvssl.tasks.recognition import TestSample as Clips
from fedvssl.training.loop import seed_torch
from tests.parity.reference import load_npz
from tests.videos import ArrayVideo

TRAIN = {
    **{"clip_len": 16, "frame_stride": 2, "sizes": [(24, 18), (30, 20)], "crop_size": 16},
    **{"flip_prob": 0.35, "brightness_prob": 0.2, "brightness": 32, "contrast_prob": 0.2, "contrast": 0.2},
    **{"hue_prob": 0.2, "hue": 12, "saturation": 0.1},
}
TEST = {"num_clips": 10, "clip_len": 16, "frame_stride": 2, "size": (24, 18), "crop_size": 16}


class CountedVideo(ArrayVideo):
    """Remembers which frames were asked for. Every pixel of frame t has the value t."""

    def __init__(self, num_frames: int, height: int = 18, width: int = 24) -> None:
        frames = np.arange(num_frames, dtype=np.uint8)[:, None, None, None]
        super().__init__(np.tile(frames, (1, height, width, 3)))
        self.asked: list[int] = []

    def read(self, indices: np.ndarray, then: Step = whole) -> np.ndarray:
        self.asked += list(indices)
        return super().read(indices, then)


def batch_of(sample: TrainSample, *, size: int, labels: list[int]) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    video = ArrayVideo(rng.integers(0, 256, (40, 18, 24, 3), dtype=np.uint8))
    items = [sample.read(video, np.random.default_rng(i)) for i in range(size)]
    batch = {name: torch.stack([item[name] for item in items]) for name in items[0]}
    return {**batch, "label": torch.tensor(labels), "index": torch.arange(size)}


def tiny_task(num_classes: int = 3, dropout: float = 0.5) -> RecognitionTask:
    seed_torch((1,))
    return RecognitionTask(R3D(10, width=4), recognizer=partial(Recognizer, num_classes=num_classes, dropout=dropout))


def with_logits(logits: torch.Tensor) -> RecognitionTask:
    """A task whose network answers with these rows, whatever it is shown."""
    task = tiny_task(logits.shape[1])
    task.recognizer.forward = lambda clips: logits
    return task


def test_a_training_clip_has_every_second_frame_from_a_random_start() -> None:
    starts = set()
    for seed in range(30):
        item = TrainSample(**TRAIN).read(CountedVideo(50), np.random.default_rng(seed))
        assert item["frames"].shape == (16, 16, 16, 3) and item["frames"].dtype == torch.uint8
        values = item["frames"][:, 0, 0, 0].int()
        assert (values.diff() == 2).all()
        starts.add(int(values[0]))
    assert len(starts) > 10 and min(starts) >= 0 and max(starts) <= 19


def test_every_size_is_drawn_and_portrait_videos_are_turned() -> None:
    shapes = set()
    resize = geometry.resize
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "resize", lambda *a: shapes.add((r := resize(*a)).shape[:2]) or r)
        for seed in range(20):
            TrainSample(**TRAIN).read(CountedVideo(40), np.random.default_rng(seed))
            TrainSample(**TRAIN).read(CountedVideo(40, height=24, width=18), np.random.default_rng(seed))
    assert shapes == {(18, 24), (20, 30), (24, 18), (30, 20)}


def test_augmentation_is_drawn_as_often_and_as_strongly_as_published() -> None:
    sample = TrainSample(**{**TRAIN, "clip_len": 2})
    video = CountedVideo(8)
    items = [sample.read(video, np.random.default_rng(seed)) for seed in range(2000)]
    drawn = {name: torch.stack([item[name] for item in items]).float() for name in items[0] if name != "frames"}
    assert drawn["flip"].mean() == pytest.approx(0.35, abs=0.04)
    assert drawn["recolour"].mean() == pytest.approx(0.2, abs=0.04)
    for name, neutral in (("brightness", 0.0), ("contrast", 1.0)):
        values = drawn[name]
        assert (values[:, 0] == values[:, 1]).all()  # one value for the whole clip, not a curve
        assert (values[:, 0] != neutral).float().mean() == pytest.approx(0.2, abs=0.04)
    assert 30 < drawn["brightness"].max() <= 32 and -32 <= drawn["brightness"].min() < -30
    assert drawn["contrast"].log().abs().max() == pytest.approx(0.2, abs=0.01)
    assert drawn["hue"].abs().max() == pytest.approx(12, abs=0.1)
    assert drawn["saturation"].log().abs().max() == pytest.approx(0.1, abs=0.001)


@pytest.mark.parametrize("num_frames", [5, 33, 90])
def test_test_clips_are_the_uniform_clips_and_each_frame_is_read_once(num_frames: int) -> None:
    video = CountedVideo(num_frames)
    frames = Clips(**TEST).read(video, np.random.default_rng(0))["frames"]
    assert frames.shape == (10, 16, 16, 16, 3) and frames.dtype == torch.uint8
    expected = sampling.uniform_clips(num_frames, num_clips=10, clip_len=16, stride=2)
    assert frames[..., 0, 0, 0].tolist() == expected.tolist()
    assert sorted(video.asked) == sorted(set(expected.ravel().tolist()))


def test_test_clips_are_cut_from_the_centre() -> None:
    ramp = np.tile(np.arange(24, dtype=np.uint8)[None, None, :, None], (40, 18, 1, 3))
    frames = Clips(**TEST).read(ArrayVideo(ramp), np.random.default_rng(0))["frames"]
    assert frames[0, 0, 0, :, 0].tolist() == list(range(4, 20))


@pytest.mark.parametrize("name", ["flip", "brightness", "contrast", "recolour"])
def test_augment_applies_each_parameter(name: str) -> None:
    batch = batch_of(TrainSample(**TRAIN), size=2, labels=[0, 1])
    neutral = {"flip": False, "brightness": 0.0, "contrast": 1.0, "recolour": False}
    for key, value in neutral.items():
        batch[key] = torch.full_like(batch[key], value)
    task = tiny_task()
    plain = task.augment(batch)["clips"]
    assert plain.shape == (2, 3, 16, 16, 16) and plain.dtype == torch.float32
    assert torch.equal(plain, augment.normalize(batch["frames"].float()))
    strong = {"flip": True, "brightness": 20.0, "contrast": 0.9, "recolour": True}
    batch[name][1] = strong[name]
    changed = (task.augment(batch)["clips"] != plain).flatten(1).any(dim=1)
    assert changed.tolist() == [False, True]


def test_loss_and_mean_logits_are_the_published_ones() -> None:
    stored = load_npz("tsn")
    logits, labels = torch.from_numpy(stored["loss_logits"]), torch.from_numpy(stored["loss_labels0"])
    task = with_logits(logits.flatten(0, 1))
    scalars = task({"clips": torch.zeros(0), "label": labels.repeat_interleave(logits.shape[1])})
    assert float(scalars["loss"]) == pytest.approx(float(stored["loss_cls"]), rel=1e-5)
    assert float(scalars["top1_acc"]) == pytest.approx(float(stored["loss_acc"]), abs=1e-6)
    scores = task.video_logits(torch.zeros(*logits.shape[:2], 2, 4, 4, 3, dtype=torch.uint8)).softmax(dim=1)
    np.testing.assert_allclose(scores, stored["avg_scores_from_loss_logits"], rtol=1e-5)


def test_a_video_is_scored_by_the_mean_of_logits_and_not_of_probabilities() -> None:
    # One very sure clip outweighs two mildly sure ones in the logits, and loses in the probabilities.
    logits = torch.tensor([[9.0, 0, 0], [0, 2.5, 0], [0, 2.5, 0]])
    assert logits.softmax(dim=1).mean(dim=0).argmax() == 1
    found = with_logits(logits).video_logits(torch.zeros(1, 3, 2, 4, 4, 3, dtype=torch.uint8))
    torch.testing.assert_close(found, logits.mean(dim=0, keepdim=True))
    assert found.argmax() == 0


def test_video_logits_keep_videos_and_clips_apart() -> None:
    task = tiny_task().eval()
    frames = torch.randint(0, 256, (3, 2, 8, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = task.video_logits(frames)
        alone = torch.stack([task.video_logits(clip[None, None])[0] for video in frames for clip in video])
    torch.testing.assert_close(together, alone.view(3, 2, -1).mean(dim=1), rtol=1e-4, atol=1e-6)


def test_gradients_reach_every_parameter() -> None:
    task = tiny_task()
    scalars = task(task.augment(batch_of(TrainSample(**TRAIN), size=2, labels=[0, 1])))
    scalars["loss"].backward()
    missing = [name for name, parameter in task.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert not missing


def test_four_clips_can_be_learnt_by_heart() -> None:
    task = tiny_task(dropout=0.0)
    batch = task.augment(batch_of(TrainSample(**TRAIN), size=4, labels=[0, 1, 2, 1]))
    optimizer = torch.optim.SGD(task.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(25):
        loss = task(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(np.log(3), abs=0.05) and losses[-1] < 0.3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"crop_size": 19}, "A crop of 19 pixels does not fit into frames of 24x18"),
        ({"crop_size": "large"}, "crop_size=large must be a whole number"),
        ({"clip_len": 0}, "clip_len=0 must be a whole number, at least 1"),
        ({"frame_stride": 1.5}, "frame_stride=1.5 must be a whole number"),
    ],
)
def test_clips_that_cannot_be_cut_are_refused_at_once(change: dict, sentence: str) -> None:
    for sample in (lambda: TrainSample(**{**TRAIN, **change}), lambda: Clips(**{**TEST, **change})):
        with pytest.raises(ValueError, match=sentence):
            sample()


def test_sizes_that_are_no_pairs_and_a_video_without_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="The size 149 must be a pair"):
        TrainSample(**{**TRAIN, "sizes": [149, 112]})
    with pytest.raises(ValueError, match="num_clips=0 must be a whole number"):
        Clips(**{**TEST, "num_clips": 0})
