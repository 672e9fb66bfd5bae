"""Microseconds per picture of 32x32, from its file to the uint8 batch, through the training loader on one core.

    python -m benchmarks.pictures [--media_dir data/cifar10/pictures]

Ours reads the files that `data_tools.prepare` stores for small pictures. Baseline: the same loader on one memory-mapped
array of all pictures. Neither draws views. Further lines compare other forms of the files. One thread, CPU time.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.measure import Result, alternate
from data_tools.picture_format import encode
from fedvssl.data.annotations import Annotation
from fedvssl.data.dataset import SampleDataset, train_loader
from fedvssl.tasks.task import Batch

NUM_PICTURES, SIDE, BATCH_SIZE, REPEATS = 5000, 32, 128, 7


def read_picture(path: Path) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture is not None, path
    return picture


class WholePicture:
    """A Sample that only reads and decodes."""

    def __call__(self, path: Path, rng: np.random.Generator) -> Batch:
        """Returns "frames" uint8 [H,W,3]."""
        return {"frames": torch.from_numpy(read_picture(path))}


class MappedPictures(SampleDataset):
    """The same samples from a memory-mapped array uint8 [V,H,W,3]."""

    def __init__(self, pictures: np.ndarray, annotations: list[Annotation], *, seed_key: tuple[int, ...]) -> None:
        super().__init__(Path(), annotations, WholePicture(), seed_key=seed_key)
        self.pictures = pictures

    def __getitem__(self, index: int) -> Batch:
        self._rng(index)
        label = torch.tensor(self.annotations[index].label)
        return {"frames": torch.from_numpy(self.pictures[index].copy()), "label": label, "index": torch.tensor(index)}


def write_pictures(folder: Path, pictures: np.ndarray) -> dict[str, list[Annotation]]:
    """Write every picture as it is stored, as PNG and as JPEG. Returns the list of each form."""
    lists: dict[str, list[Annotation]] = {"stored": [], ".png": [], ".jpg": []}
    (folder / "a").mkdir()
    for number, picture in enumerate(pictures):
        stored, content = encode(picture)
        files = {"stored": (stored, content)}
        for suffix in (".png", ".jpg"):
            files[suffix] = (suffix, cv2.imencode(suffix, picture[..., ::-1])[1].tobytes())
        for form, (suffix, content) in files.items():
            name = f"a/{form.strip('.')}{number:05d}{suffix}"
            (folder / name).write_bytes(content)
            lists[form].append(Annotation(name, number % 10))
    return lists


def measure(pictures: np.ndarray, folder: Path) -> list[Result]:
    """One result for each form of the files: microseconds per picture."""
    torch.set_num_threads(1)
    np.save(folder / "pictures.npy", pictures)
    lists = write_pictures(folder, pictures)
    key = (7, 1, 0, 0)
    mapped = MappedPictures(np.load(folder / "pictures.npy", mmap_mode="r"), lists["stored"], seed_key=key)
    datasets: Mapping[str, SampleDataset] = {"baseline": mapped} | {
        form: SampleDataset(folder, listed, WholePicture(), seed_key=key) for form, listed in lists.items()
    }

    def read(dataset: SampleDataset) -> None:
        for _ in train_loader(dataset, batch_size=BATCH_SIZE, num_workers=0):
            pass

    sides = {form: lambda dataset=dataset: read(dataset) for form, dataset in datasets.items()}
    taken = alternate(sides, repeats=REPEATS, clock=time.process_time)
    values = {form: [1e6 * seconds / len(pictures) for seconds in found] for form, found in taken.items()}
    baseline = values.pop("baseline")
    return [Result(f"pictures {form}", "us/picture", ours=found, baseline=baseline) for form, found in values.items()]


def smooth_pictures(rng: np.random.Generator) -> np.ndarray:
    """Random pictures with about the detail of photographs, uint8 [V,H,W,3]."""
    coarse = rng.integers(0, 256, (NUM_PICTURES, SIDE // 4, SIDE // 4, 3), dtype=np.uint8)
    enlarged = np.stack([cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for picture in coarse])
    return np.clip(enlarged + rng.normal(0, 4, enlarged.shape), 0, 255).astype(np.uint8)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media_dir", type=Path, help="folder with prepared pictures of one size; default: made up")
    args = parser.parse_args()
    if args.media_dir:
        files = sorted(path for path in args.media_dir.rglob("*.*") if path.suffix != ".json")[:NUM_PICTURES]
        pictures = np.stack([read_picture(file) for file in files])
    else:
        pictures = smooth_pictures(np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as folder:
        for result in measure(pictures, Path(folder)):
            print(result.line())


if __name__ == "__main__":
    main()
