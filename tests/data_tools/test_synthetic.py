import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.lists import read_splits
from data_tools.synthetic import BURST, MOTIONS, SyntheticSet, in_bursts, main, make_video, write_dataset
from fedvssl.data.video import open_video

SEEDS = range(5)
SIZES: dict[str, Any] = {"width": 96, "height": 72, "num_frames": 36}  # of the default set
FOR_TASKS: dict[str, Any] = {"sky": True, "bursts": True}
SIZE = SyntheticSet(width=64, height=48, num_frames=16, train_videos=12, test_videos=6)
Split = tuple[np.ndarray, np.ndarray]  # uint8 [n,T,H,W,3] and labels [n]


@pytest.fixture(scope="module", params=["default", pytest.param("for_tasks", marks=pytest.mark.slow)])
def sets(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Split, Split]]:
    """Training and test videos of five data sets, read back from their .avi files."""
    looks: dict[str, Any] = {"default": {}, "for_tasks": FOR_TASKS}[request.param]
    return [_read(tmp_path_factory.mktemp(f"seed{seed}"), replace(SIZE, seed=seed, **looks)) for seed in SEEDS]


def _read(folder: Path, spec: SyntheticSet) -> tuple[Split, Split]:
    write_dataset(folder, spec)
    loaded = []
    for split in ("train_split_1", "test_split_1"):
        annotations = read_splits(folder / "lists")[split]
        videos = [open_video(folder / "raw" / f"{a.name}.avi") for a in annotations]
        frames = np.stack([video.read(range(len(video))) for video in videos])
        loaded.append((frames, np.array([a.label for a in annotations])))
    return loaded[0], loaded[1]


def ridge_accuracy(train: Split, test: Split) -> float:
    """Test accuracy of a linear classifier on standardised features [n,D] (ridge regression on one-hot labels)."""
    (x, labels), (x_test, test_labels) = train, test
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
    x, x_test = (x - mean) / deviation, (x_test - mean) / deviation
    gram = x @ x.T
    weights = np.linalg.solve(gram + 0.1 * gram.diagonal().mean() * np.eye(len(x)), np.eye(labels.max() + 1)[labels])
    return float(((x_test @ x.T @ weights).argmax(axis=1) == test_labels).mean())


def motion_histogram(frames: np.ndarray, *, reach: int = 2, block: int = 8) -> np.ndarray:
    """Which shift of up to `reach` pixels explains the blocks that change best, as shares: [(2*reach+1)**2]."""
    grey = frames.astype(np.float32).mean(axis=-1)
    shifts = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)]
    errors = np.stack([np.abs(grey[1:] - np.roll(grey[:-1], shift, axis=(1, 2))) for shift in shifts])
    count, t, h, w = errors.shape
    errors = errors.reshape(count, t, h // block, block, w // block, block).mean(axis=(3, 5))
    best = errors.argmin(axis=0)[errors[shifts.index((0, 0))] > 8]
    return np.bincount(best, minlength=count) / max(1, len(best))


@pytest.fixture(scope="module")
def accuracy(sets: list[tuple[Split, Split]]):
    def of(feature) -> np.ndarray:
        results = []
        for train, test in sets:
            (x, labels), (x_test, test_labels) = train, test
            results.append(ridge_accuracy((feature(x), labels), (feature(x_test), test_labels)))
        return np.array(results)

    return of


def pixels(images: np.ndarray) -> np.ndarray:
    return images[:, ::2, ::2].reshape(len(images), -1).astype(np.float64)


def within_two_deviations_of_chance(accuracies: np.ndarray) -> bool:
    """The mean over all seeds against the binomial distribution of guessing."""
    chance, num_videos = 1 / len(MOTIONS), len(accuracies) * len(MOTIONS) * SIZE.test_videos
    return abs(accuracies.mean() - chance) <= 2 * np.sqrt(chance * (1 - chance) / num_videos)


@pytest.mark.parametrize("sets", ["default"], indirect=True)
@pytest.mark.parametrize("frame", [0, 5, 10, 15])
def test_no_single_frame_tells_the_class(accuracy, frame: int) -> None:
    assert within_two_deviations_of_chance(accuracy(lambda videos: pixels(videos[:, frame])))


def test_all_frames_together_do_not_tell_the_class(accuracy) -> None:
    """One frame may leave the bound by luck; an average over all frames must not be drawn to either side."""
    every = [accuracy(lambda videos, t=t: pixels(videos[:, t])).mean() for t in range(SIZE.num_frames)]
    assert within_two_deviations_of_chance(np.array([np.mean(every)] * len(SEEDS)))


@pytest.mark.slow
def test_no_first_frame_of_videos_for_tasks_tells_the_class() -> None:
    """Thirty sets, since one of four frames of five sets leaves the bound by luck in one of six trials."""
    size: dict[str, Any] = {"width": SIZE.width, "height": SIZE.height, "num_frames": 1}
    accuracies = []
    for seed in range(30):
        frames = [
            [make_video(motion, np.random.default_rng((seed, label, number)), **size, **FOR_TASKS)[0]
             for number in range(SIZE.train_videos + SIZE.test_videos)]
            for label, motion in enumerate(MOTIONS)
        ]  # fmt: skip
        labels = np.arange(len(MOTIONS)).repeat(SIZE.train_videos), np.arange(len(MOTIONS)).repeat(SIZE.test_videos)
        parts = np.split(np.array(frames), [SIZE.train_videos], axis=1)
        train, test = (pixels(part.reshape(-1, *part.shape[2:])) for part in parts)
        accuracies.append(ridge_accuracy((train, labels[0]), (test, labels[1])))
    assert within_two_deviations_of_chance(np.array(accuracies))


def test_the_mean_frame_does_not_tell_the_class(accuracy) -> None:
    assert within_two_deviations_of_chance(accuracy(lambda videos: pixels(videos.mean(axis=1))))


def test_motion_tells_the_class(accuracy) -> None:
    accuracies = accuracy(lambda videos: np.stack([motion_histogram(video) for video in videos]))
    assert accuracies.min() > 0.7


def test_the_classifier_would_see_a_difference_in_look(sets: list[tuple[Split, Split]]) -> None:
    """The tests above can fail: a corner that is 40 grey levels brighter in one half of the classes is found."""
    tinted = []
    for frames, labels in sets[0]:
        features = frames[:, 0].astype(np.float64)
        features[labels % 2 == 0, :16, :16] += 40
        tinted.append((pixels(features), labels % 2))
    assert ridge_accuracy(*tinted) > 0.8


def test_places_are_uniform_in_every_class_and_frame() -> None:
    """The sprites' mean position does not drift: the mean of many videos is flat in the first and the last frame."""
    for motion in MOTIONS:
        videos = [
            make_video(motion, np.random.default_rng(seed), width=48, height=32, num_frames=6) for seed in range(150)
        ]
        for frame in (0, -1):
            mean = np.mean([video[frame] for video in videos], axis=0).mean(axis=-1)
            halves = [mean[:16].mean(), mean[16:].mean(), mean[:, :24].mean(), mean[:, 24:].mean()]
            assert np.ptp(halves) < 6, f"{motion}: {halves}"


def test_the_default_videos_stay_as_they_are() -> None:
    """Results of the quickstart are of these frames."""
    digest = hashlib.sha256()
    for label, motion in enumerate(MOTIONS):
        digest.update(make_video(motion, np.random.default_rng((0, label, 7, 1)), **SIZES).tobytes())
    assert digest.hexdigest() == "ade2c9a63051b206a8007e29828740a7906c0caf07654eb68004d2cb0f8cc21b"


def test_a_frame_with_a_sky_shows_where_up_is() -> None:
    for seed, motion in enumerate(MOTIONS):
        plain, sky = (make_video(motion, np.random.default_rng(seed), **SIZES, sky=sky) for sky in (False, True))
        above, below = (half.mean(axis=(1, 2, 3)) for half in np.split(sky.astype(float), 2, axis=1))
        assert (above - below).min() > 30, motion
        upper, lower = (half.mean() for half in np.split(plain.astype(float), 2, axis=1))
        assert abs(upper - lower) < 30, "without it the halves are alike"


def test_bursts_start_suddenly_and_die_away() -> None:
    t = np.arange(0, 5 * BURST + 0.25, 0.25)
    slowed = in_bursts(t)
    assert np.allclose(slowed[:: 4 * BURST], t[:: 4 * BURST]), "the mean speed is kept"
    speeds = np.diff(slowed).reshape(5, -1)
    assert (np.diff(speeds, axis=1) < 0).all() and np.allclose(speeds, speeds[0]) and speeds.min() > 0


def test_backwards_a_video_with_bursts_speeds_up_where_it_slowed_down() -> None:
    """Changes from frame to frame fall more often than they rise, and of a video without bursts as often."""

    def falling(*, bursts: bool) -> float:
        shares = []
        for seed in range(4):
            video = make_video("Drift", np.random.default_rng(seed), **SIZES, bursts=bursts).astype(float)
            changes = np.abs(np.diff(video, axis=0)).mean(axis=(1, 2, 3))
            shares.append((np.diff(changes) < 0).mean())
        return float(np.mean(shares))

    assert falling(bursts=True) > 0.75
    assert 0.3 < falling(bursts=False) < 0.7


def test_the_command_passes_sky_and_bursts_on(tmp_path: Path) -> None:
    size = ["--num_classes", "2", "--train_videos", "1", "--test_videos", "1", "--num_frames", "3"]
    main(["--out_dir", str(tmp_path / "tasks"), *size, "--num_workers", "1", "--sky", "--bursts"])
    frames = open_video(tmp_path / "tasks/raw/Drift/v_Drift_g01_c01.avi").read([0, 1, 2]).astype(float)
    own: dict[str, Any] = {"width": 96, "height": 72, "num_frames": 3}
    meant = make_video("Drift", np.random.default_rng((0, 1, 1, 1)), **own, **FOR_TASKS).astype(float)
    other = make_video("Drift", np.random.default_rng((0, 1, 1, 1)), **own, sky=True).astype(float)
    assert np.abs(frames - meant).mean() < np.abs(frames - other).mean()


def test_files_are_named_and_listed_as_in_ucf101(tmp_path: Path) -> None:
    main(["--out_dir", str(tmp_path), "--num_classes", "2", "--train_videos", "4", "--test_videos", "2",
          "--num_frames", "3", "--width", "48", "--height", "32"])  # fmt: skip
    assert (tmp_path / "lists/classInd.txt").read_bytes() == b"1 Circle\r\n2 Drift\r\n"
    train = (tmp_path / "lists/trainlist01.txt").read_text().split("\n")
    assert train[0] == "Circle/v_Circle_g02_c01.avi 1" and train[3] == "Circle/v_Circle_g03_c01.avi 1"
    splits = read_splits(tmp_path / "lists")
    assert [len(splits[name]) for name in ("train_split_1", "test_split_1")] == [8, 4]
    groups = [{a.name.split("_g")[1][:2] for a in split} for split in splits.values()]
    assert groups[0].isdisjoint(groups[1]), "no group crosses from training to test"
    listed = {f"{a.name}.avi" for split in splits.values() for a in split}
    assert {p.relative_to(tmp_path / "raw").as_posix() for p in tmp_path.rglob("*.avi")} == listed
    video = open_video(tmp_path / "raw/Drift/v_Drift_g01_c02.avi")
    assert len(video) == 3 and video.read([0]).shape == (1, 32, 48, 3)


def test_the_number_of_processes_does_not_change_a_video(tmp_path: Path) -> None:
    size = ["--num_classes", "2", "--train_videos", "2", "--test_videos", "1", "--num_frames", "3"]
    for number in ("1", "2"):
        main(["--out_dir", str(tmp_path / number), *size, "--width", "48", "--height", "32", "--num_workers", number])
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / number).rglob("*.avi")} for number in ("1", "2"))
    assert one == two and len(one) == 6


def test_the_seed_decides() -> None:
    first, again, other = (
        make_video("Spin", np.random.default_rng(seed), width=48, height=32, num_frames=2) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("mistake", [{"num_classes": 7}, {"num_classes": 1}, {"test_videos": 0}, {"width": 33}])
def test_impossible_sizes(mistake: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"classes|at least 1|even"):
        SyntheticSet(**mistake)
