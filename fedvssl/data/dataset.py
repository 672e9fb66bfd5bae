"""Samples of one owner as a PyTorch dataset, with the loaders for training and testing.

A sample depends on (seed, round, partition, epoch, index) only, not on the number of workers or the batch order.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from fedvssl.data.annotations import Annotation
from fedvssl.data.media import find_media
from fedvssl.files.environment import num_cores
from fedvssl.files.parent import end_with_parent
from fedvssl.tasks.task import Batch, Sample

WORKERS_FOR_A_GPU = 4
SMALL_TENSOR = 1 << 16  # bytes
DTYPES_OF_NUMPY = {torch.bool, torch.uint8, torch.int32, torch.int64, torch.float32, torch.float64}
NumWorkers = int | Literal["auto"]


@runtime_checkable
class LabellingSample(Sample, Protocol):
    """A Sample that draws the labels of its clips itself, so that videos need none."""

    def draw_labels(self, rng: np.random.Generator) -> Tensor:
        """Labels of the N clips of a video, int64 [N]: the first that `__call__` draws from the same generator."""
        ...


class SampleDataset(Dataset):
    """One item per file: the result of `sample`, with "label" (zero-based) and "index" (both int64 scalars).

    Args:
        media_dir: folder with the file of every annotation, see `find_media`.
        annotations: the videos or pictures; those that the sample does not select are left out.
        sample: opens a file, decodes what it needs and draws its random parameters.
        seed_key: (seed, server_round, partition_id, epoch); empty if nothing is random.

    Raises:
        ValueError: if the sample selects none.
    """

    def __init__(
        self, media_dir: Path, annotations: Sequence[Annotation], sample: Sample, *, seed_key: tuple[int, ...] = ()
    ) -> None:
        if hasattr(sample, "select"):
            annotations = [annotations[i] for i in sample.select([find_media(media_dir, a.name) for a in annotations])]  # pyright: ignore[reportAttributeAccessIssue]
        self.media_dir = media_dir
        self.annotations = annotations
        self.sample = sample
        self.seed_key = seed_key

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> Batch:
        annotation = self.annotations[index]
        sample = self.sample(find_media(self.media_dir, annotation.name), self._rng(index))
        if taken := sample.keys() & {"label", "index"}:
            raise ValueError(f"{type(self.sample).__name__} returns '{min(taken)}', which every sample gets anyway.")
        return {**sample, "label": torch.tensor(annotation.label), "index": torch.tensor(index)}

    def labels(self) -> Tensor:
        """Classes of the videos, int64 [V], or what a `LabellingSample` draws, int64 [V,N]; decodes nothing."""
        if isinstance(self.sample, LabellingSample):
            return torch.stack([self.sample.draw_labels(self._rng(index)) for index in range(len(self))])
        return torch.tensor([annotation.label for annotation in self.annotations])

    def _rng(self, index: int) -> np.random.Generator:
        return np.random.default_rng([*self.seed_key, index])


def evaluation_datasets(
    media_dir: Path, videos: Mapping[str, Sequence[Annotation]], sample: Sample, *, seed: int
) -> dict[str, SampleDataset]:
    """Dataset of each part, "train" and "test"; a `LabellingSample` draws from (seed, number of the part, index)."""
    draws = isinstance(sample, LabellingSample)
    return {
        part: SampleDataset(media_dir, annotations, sample, seed_key=(seed, number) if draws else ())
        for number, (part, annotations) in enumerate(videos.items())
    }


class BatchOrder:
    """Shuffled batches of one epoch, each split over the processes; a last one of fewer than `least` is left out.

    With several processes the last batch is filled up with the first videos of the epoch, so that all make the same
    number of steps. With one process every video comes exactly once.
    """

    def __init__(self, dataset: SampleDataset, *, batch_size: int, least: int, rank: int, world_size: int) -> None:
        order = np.random.default_rng(dataset.seed_key).permutation(len(dataset))
        if missing := -len(order) % world_size:
            order = np.concatenate([order, np.resize(order, missing)])
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        if len(batches[-1]) < least:
            batches.pop()
        self.batches = [batch[rank::world_size].tolist() for batch in batches]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


def train_loader(
    dataset: SampleDataset, *, batch_size: int, least: int = 1, rank: int = 0, world_size: int = 1, **workers: Any
) -> DataLoader:
    """One shuffled epoch, ordered by the dataset's seed_key.

    Args:
        batch_size: clips of all processes together.
        least: fewest samples of a batch; the last one is left out if it has fewer.
        rank, world_size: index of this process, and number of processes.
        workers: see `_workers`.

    Raises:
        ValueError: if a batch does not divide evenly over the processes, or none has enough samples.
    """
    if batch_size % world_size:
        raise ValueError(f"batch_size={batch_size} does not divide over {world_size} processes: choose a multiple.")
    order = BatchOrder(dataset, batch_size=batch_size, least=least, rank=rank, world_size=world_size)
    if not len(order):
        raise ValueError(f"{len(dataset)} samples make no batch of at least {least}: give this client more.")
    return DataLoader(dataset, batch_sampler=order, **_workers(**workers))


def test_loader(
    dataset: SampleDataset | Subset, *, batch_size: int, rank: int = 0, world_size: int = 1, **workers: Any
) -> DataLoader:
    """Every video once over all processes, in order; as `train_loader`, but `batch_size` is for each process."""
    own = range(rank, len(dataset), world_size)
    return DataLoader(dataset, batch_size=batch_size, sampler=own, **_workers(**workers))


def _workers(*, num_workers: NumWorkers, on_gpu: bool = False) -> dict[str, Any]:
    """Options of a DataLoader.

    Args:
        num_workers: processes that decode; 0 decodes in this one. "auto" is 4 for a GPU, fewer with fewer cores.
            It is 0 for a CPU, where decoding is a hundredth of the work and a fork costs more than it saves.
        on_gpu: batches go to a GPU, so they are put in pinned memory.
    """
    if num_workers == "auto":
        num_workers = min(WORKERS_FOR_A_GPU, num_cores()) if on_gpu else 0
    return {
        "num_workers": num_workers,
        "pin_memory": on_gpu,
        "collate_fn": stack,
        "worker_init_fn": _start_worker,
    }


class _Batch(Batch):
    """A batch that leaves a worker with its small tensors as plain bytes.

    torch sends every tensor through its own file in shared memory, which takes longer than copying a small tensor.
    """

    def __reduce__(self) -> tuple[Callable, tuple]:
        return _unpack, ({name: _pack(value) for name, value in self.items()},)


def _pack(value: Tensor) -> Tensor | np.ndarray:
    return value.detach().numpy() if value.nbytes <= SMALL_TENSOR and value.dtype in DTYPES_OF_NUMPY else value


def _unpack(packed: dict[str, Tensor | np.ndarray]) -> Batch:
    return {name: torch.as_tensor(value) for name, value in packed.items()}


def stack(samples: Sequence[Batch]) -> Batch:
    """Stack samples to a batch: every tensor gets the batch as its first dimension."""
    return _Batch({name: torch.stack([sample[name] for sample in samples]) for name in samples[0]})


def _start_worker(_worker: int) -> None:
    torch.set_num_threads(1)
    end_with_parent()
