"""Samples kept from one evaluation to the next: the same ones, made once, and no more than there is room for."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fedvssl.data import dataset as loaders
from fedvssl.data.annotations import Annotation
from fedvssl.data.dataset import SampleDataset
from fedvssl.data.kept import Room, kept

BYTES = 600 + 8 + 8  # of one sample: frames, label and index


class Counted:
    """A sample of 600 bytes drawn at random, which counts how often one is made."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, path: Path, rng: np.random.Generator) -> dict[str, Tensor]:
        self.made += 1
        return {"frames": torch.from_numpy(rng.integers(0, 256, (2, 10, 10, 3), dtype=np.uint8))}


def videos(folder: Path, sample: Counted, *, seed: int) -> SampleDataset:
    folder.mkdir(exist_ok=True)
    names = [f"video{number}" for number in range(5)]
    for name in names:
        (folder / f"{name}.mp4").touch()
    return SampleDataset(folder, [Annotation(name, 0) for name in names], sample, seed_key=(seed,))


def frames(dataset: object) -> Tensor:
    loader = loaders.test_loader(dataset, batch_size=2, num_workers=0)  # pyright: ignore[reportArgumentType]
    return torch.cat([batch["frames"] for batch in loader])


def test_what_is_kept_is_what_the_dataset_makes_and_is_made_once(tmp_path: Path) -> None:
    sample = Counted()
    made = videos(tmp_path, sample, seed=1)
    samples, expected = kept(made, Room(5 * BYTES)), frames(made)
    assert sample.made == len(samples) == 5
    for _ in range(3):
        assert torch.equal(frames(samples), expected)
    assert sample.made == 10


def test_datasets_share_the_room_and_what_does_not_fit_is_made_each_time(tmp_path: Path) -> None:
    one, other = Counted(), Counted()
    room = Room(7 * BYTES + 1)
    first, second = kept(videos(tmp_path, one, seed=1), room), kept(videos(tmp_path, other, seed=2), room)
    for _ in range(3):
        frames(first)
        frames(second)
    assert (one.made, other.made) == (5, 2 + 3 * 3) and room.left == 1
    without = Counted()
    nothing = kept(videos(tmp_path, without, seed=1), Room(0))
    assert torch.equal(frames(nothing), frames(nothing)) and without.made == 10
