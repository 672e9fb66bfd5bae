"""The motion probe on textures made in the test: what solves it, what does not, and its clips."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from fedvssl import building, config
from fedvssl.data.annotations import Annotation, read_annotations
from fedvssl.data.dataset import LabellingSample, SampleDataset, evaluation_datasets
from fedvssl.data.geometry import resize_to
from fedvssl.evaluation import features
from fedvssl.evaluation.features import Features, compute, extract, fingerprint, load
from fedvssl.evaluation.motion_probe import ARROWS, NUM_DIRECTIONS, MotionProbe, MotionSample, logistic_regression
from fedvssl.models.r3d import R3D
from fedvssl.training.loop import build_fabric
from tests.action_set import write_action_set
from tests.videos import ArrayVideo

PROBE: MotionProbe = building.build(config.compose("motion_probe", ["crop_size=32"])["protocol"])
SAMPLE = PROBE.sample
NUM_VIDEOS = 200


class PhaseCorrelation(nn.Module):
    """Hand-made features of motion: phase correlation of neighbouring frames for shifts of up to 3 pixels."""

    def forward(self, clips: Tensor) -> Tensor:
        spectrum = torch.fft.fft2(clips.mean(dim=1))
        cross = spectrum[:, 1:] * spectrum[:, :-1].conj()
        shifts = torch.fft.ifft2(cross / (cross.abs() + 1e-6)).real.mean(dim=1)
        return shifts.roll((3, 3), dims=(1, 2))[:, :7, :7].flatten(1)[..., None, None, None]


class Textures(SampleDataset):
    """Still videos of random colours in cells of 4 to 12 pixels; they change in no way but by the window."""

    def __init__(self, part: int) -> None:
        annotations = [Annotation(f"{part}/{number}", number % 4) for number in range(NUM_VIDEOS)]
        super().__init__(Path("nowhere"), annotations, SAMPLE, seed_key=(7, part))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((*self.seed_key, index, 1))
        cells = rng.integers(0, 256, (rng.integers(4, 12), rng.integers(6, 16), 3), dtype=np.uint8)
        video = ArrayVideo(np.broadcast_to(resize_to(cells, height=48, width=64), (30, 48, 64, 3)))
        return {**self.sample.read(video, self._rng(index)), "index": torch.tensor(index)}


def places(seed: int = 0, *, sample: MotionSample = SAMPLE, num_frames: int = 40) -> tuple[np.ndarray, Tensor]:
    """Top and left of the window, [N,T,2], read off frames whose pixels hold their own place; and the labels."""
    height, width = 48, 64
    frame = np.stack([*np.mgrid[:height, :width], np.zeros((height, width))], axis=-1).astype(np.uint8)
    video = ArrayVideo(np.broadcast_to(frame, (num_frames, *frame.shape)))
    frames = sample.read(video, np.random.default_rng(seed))["frames"]
    size = sample.crop_size
    assert frames.shape == (sample.num_clips, sample.clip_len, size, size, 3) and frames.dtype == torch.uint8
    assert (frames[:, :, -1, -1, :2] - frames[:, :, 0, 0, :2] == size - 1).all()
    return frames[:, :, 0, 0, :2].numpy().astype(int), sample.draw_labels(np.random.default_rng(seed))


def test_the_window_moves_as_labelled_through_the_middle_of_the_frames() -> None:
    middles = []
    for seed in range(100):
        corners, labels = places(seed)
        moved = corners[:, -1] - corners[:, 0]
        angles = np.arctan2(moved[:, 0], moved[:, 1]) / (2 * np.pi / NUM_DIRECTIONS)
        assert np.array_equal(np.rint(angles) % NUM_DIRECTIONS, labels)
        assert (abs(np.linalg.norm(moved, axis=1) - 7) < 2.5).all(), "7 steps of 1 pixel, jitter aside"
        middles.append(corners.mean(axis=1) - (8, 16))
    assert np.abs(np.concatenate(middles)).max() < 3.1
    assert ARROWS[0] == "→" and ARROWS[2] == "↓"


def test_a_short_video_repeats_its_last_frame_and_the_window_moves_on() -> None:
    assert np.array_equal(places(3, num_frames=1)[0], places(3)[0])


def test_labels_are_drawn_first_by_seed_part_and_index_and_need_no_video() -> None:
    videos = {part: [Annotation("nowhere", 0)] * 4 for part in ("train", "test")}
    assert isinstance(SAMPLE, LabellingSample)
    datasets = evaluation_datasets(Path("nowhere"), videos, SAMPLE, seed=7)
    assert datasets["test"].labels()[2].tolist() == np.random.default_rng((7, 1, 2)).integers(8, size=2).tolist()
    drawn = [datasets["train"].labels(), datasets["test"].labels()]
    drawn.append(evaluation_datasets(Path("nowhere"), videos, SAMPLE, seed=8)["test"].labels())
    assert not any(torch.equal(drawn[left], drawn[right]) for left, right in ((0, 1), (0, 2), (1, 2)))


def test_directions_are_balanced_and_independent_of_the_class() -> None:
    annotations = [Annotation("nowhere", number % 4) for number in range(2000)]
    labels = SampleDataset(Path("nowhere"), annotations, SAMPLE, seed_key=(7, 0)).labels()
    assert labels.shape == (2000, 2)
    table = np.array([[(labels[kind::4] == direction).sum() for direction in range(8)] for kind in range(4)])
    assert ((table - 125) ** 2 / 125).sum() < 54.1, "chi-square of 31 degrees of freedom, p = .006"
    assert abs((labels[:, 0] == labels[:, 1]).double().mean() - 1 / 8) < 0.02


def evaluate_pixels(of_clips) -> tuple[float, tuple[float, float]]:
    """Accuracy of features made of pixels [V,N,T,H,W,3], and its interval."""
    found = []
    for part in range(2):
        dataset = Textures(part)
        clips = torch.stack([dataset[index]["frames"] for index in range(len(dataset))]).float()
        pixels = of_clips(clips).flatten(0, 1).permute(0, 3, 1, 2)
        cells = adaptive_avg_pool2d(pixels, (6, 8)).flatten(1).unflatten(0, clips.shape[:2])
        found.append(Features(cells, cells, dataset.labels(), []))
    result = PROBE(*found)
    right = result.right["top1_acc"]
    return result.metrics["top1_acc"], result.intervals([f"v{n}" for n in range(len(right))])["top1_acc"]


def test_one_frame_alone_is_at_chance() -> None:
    for frame in (3, 4):
        accuracy, (low, high) = evaluate_pixels(lambda clips, frame=frame: clips[:, :, frame])
        assert low <= 1 / 8 <= high, f"the frame {frame} tells the direction in {100 * accuracy:.1f} %"


def test_a_backbone_that_sees_motion_solves_it() -> None:
    fabric = build_fabric(device="cpu", precision="32-true")
    found = []
    for part in range(2):
        dataset = Textures(part)
        batches = compute(fabric, PhaseCorrelation(), dataset, batch_size=20, num_workers=0)
        clips, grid = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
        found.append(Features(clips, grid, dataset.labels(), []))
    result = PROBE(*found)
    assert result.metrics["top1_acc"] > 0.8 and result.chance == {"top1_acc": 0.125}
    confusion = np.array(result.details["confusion"])
    assert confusion.sum() == NUM_VIDEOS and confusion.trace() == sum(result.right["top1_acc"])
    assert confusion.sum(axis=1).tolist() == torch.bincount(found[1].labels[:, 0], minlength=8).tolist()
    assert PROBE(*found) == result, "nothing is random"


def test_features_do_not_depend_on_workers_batches_or_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_action_set(tmp_path / "data") / "ucf101"
    videos = {part: read_annotations(data / f"annotations/{part}_split_1.json") for part in ("train", "test")}
    dataset = evaluation_datasets(data / "zips", videos, SAMPLE, seed=7)["test"]
    torch.manual_seed(0)
    backbone, fabric = R3D(10, width=4), build_fabric(device="cpu", precision="32-true")
    extract(fabric, backbone, dataset, folder=tmp_path / "a", batch_size=3, num_workers=0)
    one = load(tmp_path / "a", dataset)
    monkeypatch.setattr(features, "VIDEOS_PER_FILE", 4)
    extract(fabric, backbone, dataset, folder=tmp_path / "b", batch_size=2, num_workers=2)
    assert len(list((tmp_path / "b").iterdir())) == 3
    torch.testing.assert_close(load(tmp_path / "b", dataset).clips, one.clips)
    assert one.labels.shape == (11, 2) and torch.equal(one.labels, dataset.labels()) and len(one) == 11
    keys = [
        fingerprint(backbone, evaluation_datasets(data / "zips", videos, SAMPLE, seed=seed)["test"], precision="32")
        for seed in (7, 7, 8)
    ]
    assert keys[0] == keys[1] != keys[2], "the clips of another seed are others"


def test_constant_features_are_at_chance() -> None:
    labels = torch.arange(64).reshape(32, 2) % 8
    same = Features(torch.ones(32, 2, 5), torch.ones(32, 90), labels, [])
    result = PROBE(same, same)
    assert 0 <= result.metrics["top1_acc"] <= 0.25 and np.isfinite(result.details["confusion"]).all()


def test_the_regression_is_at_its_minimum() -> None:
    rng = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(50, 9, generator=rng, dtype=torch.float64), torch.arange(50) % 3
    weights, bias = logistic_regression(inputs, labels, num_classes=3, weight_decay=0.1)
    residual = (inputs @ weights + bias).softmax(dim=1) - torch.nn.functional.one_hot(labels, 3)
    torch.testing.assert_close(inputs.T @ residual / 50, -0.1 * weights, atol=1e-5, rtol=0)
    torch.testing.assert_close(residual.mean(dim=0), torch.zeros(3, dtype=torch.float64), atol=1e-5, rtol=0)


def test_draws_a_matrix_for_each_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.arange(8)[:, None]
    given = Features(torch.eye(8)[:, None], torch.eye(8), labels, [])
    result = PROBE(given, given)
    assert result.metrics == {"top1_acc": 1.0}
    figures, saved = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *words, **o: figures.append(self) or saved(self, *words, **o))
    PROBE.draw(tmp_path / "a.png", {"checkpoint": result, "random": result}, given, given, lambda _: np.zeros(0))
    panels = figures[0].axes
    assert len({axes.images[0].get_clim() for axes in panels}) == 1, "one scale"
    counts = np.array(result.details["confusion"]).astype(int)
    assert [text.get_text() for text in panels[0].texts] == [str(count) for count in counts.flat if count]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("sample.velocity=0.1", "needs short_side=1.87 or more, but short_side is 1.5"),
        ("sample.clip_len=32", "Raise it, or lower velocity, clip_len or a jitter"),
        ("sample.short_side=72", "count in windows of crop_size pixels"),
        ("sample.velocity=0", "give a velocity above 0"),
        ("sample.clip_len=1", "clip_len=1 must be a whole number, at least 2"),
        ("sample.num_clips=1.5", "num_clips=1.5 must be a whole number, at least 1"),
        ("sample.start_jitter=-1", "start_jitter=-1 must be a number, at least 0"),
        ("weight_decay=no", r"protocol\.weight_decay=no must be a number, at least 0"),
    ],
)
def test_mistakes_are_told(word: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as raised:
        building.build(config.compose("motion_probe", [f"protocol.{word}"])["protocol"])
    assert "cannot be built" not in str(raised.value)
