"""Datasets and loaders: reproducible samples, every video the right number of times."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedvssl.data import dataset as loaders
from fedvssl.data.annotations import Annotation
from fedvssl.data.dataset import SampleDataset, train_loader
from fedvssl.data.video import open_video
from tests.videos import moving_square, write_frames


def two_random_frames(path: Path, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    video = open_video(path)
    indices = rng.integers(0, len(video), 2)
    return {"frames": torch.from_numpy(video.read(indices)), "drawn": torch.tensor(rng.random())}


@pytest.fixture(scope="module")
def media_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zips")
    for i in range(11):
        write_frames(folder / f"A/clip{i}.zip", moving_square(num_frames=12, height=16, width=24, seed=i))
    return folder


def dataset(media_dir: Path, **options) -> SampleDataset:
    annotations = [Annotation(f"A/clip{i}", i % 3) for i in range(11)]
    return SampleDataset(media_dir, annotations, two_random_frames, **options)


def epoch(media_dir: Path, key: tuple[int, ...], **options) -> dict[str, torch.Tensor]:
    batches = list(train_loader(dataset(media_dir, seed_key=key), batch_size=4, **options))
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def test_only_large_tensors_leave_a_worker_through_shared_memory(
    media_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaders, "SMALL_TENSOR", 1000)
    batch = next(iter(train_loader(dataset(media_dir, seed_key=(0,)), batch_size=4, num_workers=1)))
    assert {name for name, tensor in batch.items() if tensor.is_shared()} == {"frames"}
    assert {*batch} == {"frames", "drawn", "label", "index"}


def test_tensors_that_numpy_does_not_know_leave_a_worker_too(media_dir: Path) -> None:
    def sample(path: Path, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        return {"half": torch.ones(2, dtype=torch.bfloat16)}

    data = SampleDataset(media_dir, [Annotation("A/clip0", 0)], sample, seed_key=(0,))
    (batch,) = train_loader(data, batch_size=1, num_workers=1)
    assert batch["half"].dtype == torch.bfloat16 and batch["half"].tolist() == [[1, 1]]


@pytest.mark.parametrize(("on_gpu", "num_cores", "num_workers"), [(False, 8, 0), (True, 8, 4), (True, 1, 1)])
def test_workers_are_for_a_gpu(
    media_dir: Path, monkeypatch: pytest.MonkeyPatch, on_gpu: bool, num_cores: int, num_workers: int
) -> None:
    monkeypatch.setattr(loaders, "num_cores", lambda: num_cores)
    for make in (loaders.train_loader, loaders.test_loader):
        loader = make(dataset(media_dir), batch_size=4, num_workers="auto", on_gpu=on_gpu)
        assert (loader.num_workers, loader.pin_memory) == (num_workers, on_gpu)


@pytest.mark.parametrize("num_workers", [1, 3])
def test_samples_do_not_depend_on_the_number_of_workers(media_dir: Path, num_workers: int) -> None:
    alone = epoch(media_dir, (7, 1, 0, 0), num_workers=0)
    shared = epoch(media_dir, (7, 1, 0, 0), num_workers=num_workers)
    assert all(torch.equal(alone[name], shared[name]) for name in alone)


@pytest.mark.parametrize("key", [(8, 1, 0, 0), (7, 2, 0, 0), (7, 1, 1, 0), (7, 1, 0, 1)])
def test_seed_round_partition_and_epoch_each_change_order_and_samples(media_dir: Path, key: tuple[int, ...]) -> None:
    before, after = epoch(media_dir, (7, 1, 0, 0), num_workers=0), epoch(media_dir, key, num_workers=0)
    assert not torch.equal(before["index"], after["index"])
    by_video = [one["drawn"][one["index"].argsort()] for one in (before, after)]
    assert not (by_video[0] == by_video[1]).any()


def test_one_process_sees_every_video_once(media_dir: Path) -> None:
    seen = epoch(media_dir, (7, 1, 0, 0), num_workers=0)
    assert sorted(seen["index"].tolist()) == list(range(11))
    assert (seen["label"] == seen["index"] % 3).all()


def test_two_processes_share_each_training_batch(media_dir: Path) -> None:
    data = dataset(media_dir, seed_key=(7, 0, 0, 0))
    halves = [list(train_loader(data, batch_size=4, num_workers=0, rank=rank, world_size=2)) for rank in (0, 1)]
    sizes = [[len(batch["index"]) for batch in half] for half in halves]
    assert sizes == [[2, 2, 2], [2, 2, 2]]
    assert {int(i) for half in halves for batch in half for i in batch["index"]} == set(range(11))


def test_a_batch_that_does_not_divide_is_refused(media_dir: Path) -> None:
    with pytest.raises(ValueError, match="batch_size=4 does not divide over 3 processes"):
        train_loader(dataset(media_dir, seed_key=(0,)), batch_size=4, num_workers=0, world_size=3)


@pytest.mark.parametrize(("least", "sizes"), [(1, [4, 4, 3]), (3, [4, 4, 3]), (4, [4, 4])])
def test_a_last_batch_of_too_few_is_left_out(media_dir: Path, least: int, sizes: list[int]) -> None:
    data = dataset(media_dir, seed_key=(0,))
    batches = list(train_loader(data, batch_size=4, least=least, num_workers=0))
    assert [len(batch["index"]) for batch in batches] == sizes
    whole = list(train_loader(data, batch_size=4, num_workers=0))
    assert all(a["index"].equal(b["index"]) for a, b in zip(batches, whole, strict=False)), "in the same order"


def test_too_few_samples_for_any_batch_are_refused(media_dir: Path) -> None:
    with pytest.raises(ValueError, match="11 samples make no batch of at least 12: give this client more"):
        train_loader(dataset(media_dir, seed_key=(0,)), batch_size=12, least=12, num_workers=0)


def test_testing_counts_every_video_once_over_the_processes(media_dir: Path) -> None:
    options = {"batch_size": 4, "num_workers": 0, "world_size": 2}
    shares = [loaders.test_loader(dataset(media_dir), rank=rank, **options) for rank in (0, 1)]
    seen = [int(i) for loader in shares for batch in loader for i in batch["index"]]
    assert sorted(seen) == list(range(11))
