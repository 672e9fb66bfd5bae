"""Samples of an evaluation kept in memory, so that the next evaluation need not decode them again."""

from torch import Tensor
from torch.utils.data import Dataset, Subset

from fedvssl.data.dataset import SampleDataset
from fedvssl.tasks.task import Batch


class Room:
    """Bytes that several datasets may fill together."""

    def __init__(self, num_bytes: int) -> None:
        self.left = num_bytes

    def takes(self, sample: Batch) -> bool:
        """Take the bytes of a sample from what is left; False, and nothing is taken, if it does not fit."""
        needed = sum(value.nbytes for value in sample.values())
        fits = needed <= self.left
        self.left -= needed if fits else 0
        return fits


def kept(dataset: SampleDataset, room: Room) -> Subset[Batch]:
    """All samples of a dataset, each made once and then kept as far as there is room.

    Only for samples that are the same each time, read in this process (num_workers=0).
    """
    return Subset(_Kept(dataset, room), range(len(dataset)))


class _Kept(Dataset[Batch]):
    def __init__(self, dataset: SampleDataset, room: Room) -> None:
        self.dataset, self.room = dataset, room
        self.samples: dict[int, dict[str, Tensor]] = {}

    def __getitem__(self, index: int) -> Batch:
        if index in self.samples:
            return self.samples[index]
        sample = self.dataset[index]
        if self.room.takes(sample):
            self.samples[index] = sample
        return sample
