"""Features of videos or pictures, the input of all protocols, kept on disk so that nothing is computed twice.

Shapes: V videos, N clips per video, D features (512 for R3D-18), T frames, H W pixels. Pictures have no T.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_avg_pool3d, normalize
from torch.utils.data import Subset

from fedvssl.data import augment
from fedvssl.data.dataset import NumWorkers, SampleDataset, test_loader
from fedvssl.data.media import content_key, find_media
from fedvssl.files.arrays import load_arrays, save_arrays
from fedvssl.files.atomic import remove_leftovers
from fedvssl.files.tensors import to_arrays
from fedvssl.training.memory import release_freed_memory

GRID = (2, 3, 3)  # of the authors' retrieval: 2 x 3 x 3 x 512 = 9216 values
VIDEOS_PER_FILE = 64  # upper bound on the videos that an interrupted process loses
QUERIES_AT_ONCE = 1024
ABANDONED_SECONDS = 3600.0  # a file of features is written in far less


@dataclass(frozen=True)
class Features:
    """The features of a list of videos, in the order of the list.

    Args:
        clips: float32 [V,N,D], the global average of the last stage for each clip.
        grid: float32 [V,18*D], the last stage pooled to 2x3x3 (`GRID`), flattened, and averaged over the clips; of
            pictures [V,9*D].
        labels: of the videos, int64 [V], zero-based; of the clips, int64 [V,N], where a `LabellingSample` draws them.
        names: of the videos.
    """

    clips: Tensor
    grid: Tensor
    labels: Tensor
    names: list[str]

    def __len__(self) -> int:
        return len(self.labels)


def extract(
    fabric: Fabric,
    backbone: nn.Module,
    dataset: SampleDataset,
    *,
    folder: Path,
    batch_size: int,
    num_workers: NumWorkers,
    report: Callable[[int], None] | None = None,
) -> None:
    """Compute the features that `folder` lacks and save them there as they come; `load` reads them.

    Several commands may do so at a time: they write equal files, each under a name of its own until it is whole.

    Args:
        fabric: gives device and precision; its processes divide the files among them.
        backbone: on the device. It is set to eval mode.
        dataset: videos with the clips of `TestSample`, or any sample with "frames" uint8 [N,T,H,W,3], or [N,H,W,3].
        folder: of these features alone, see `fingerprint`.
        batch_size: videos per step and process.
        num_workers: decoding processes for each process; see `test_loader`.
        report: called with the number of videos done, estimated from this process's share.
    """
    remove_abandoned(folder)
    missing = [start for start, path in _files(folder, dataset).items() if not path.is_file()]
    fabric.barrier()  # no process writes before all have looked, so all divide the same list
    done = len(dataset) - sum(min(VIDEOS_PER_FILE, len(dataset) - start) for start in missing)
    for start in missing[fabric.global_rank :: fabric.world_size]:
        # A subset and not a dataset of its own: what a sample draws depends on the index in the whole list.
        part = Subset(dataset, range(start, min(start + VIDEOS_PER_FILE, len(dataset))))
        batches = []
        for batch in compute(fabric, backbone, part, batch_size=batch_size, num_workers=num_workers):
            batches.append(batch)
            done += len(batch[0]) * fabric.world_size
            if report is not None:
                report(min(done, len(dataset)))
        clips, grid = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
        save_arrays(_files(folder, dataset)[start], {"clips": clips.numpy(), "grid": grid.numpy()})
    fabric.barrier()


def remove_abandoned(folder: Path) -> None:
    """Remove what killed commands have left half written in a folder of features, which has no owner."""
    with contextlib.suppress(OSError):  # another command removes it too, or a shared folder may only be read
        remove_leftovers(folder, "*.npz", older_than=ABANDONED_SECONDS)


def load(folder: Path, dataset: SampleDataset) -> Features:
    """The features that `extract` has saved in `folder`, on the CPU."""
    parts = [load_arrays(path) for path in _files(folder, dataset).values()]
    return Features(
        clips=torch.cat([torch.from_numpy(part["clips"]) for part in parts]),
        grid=torch.cat([torch.from_numpy(part["grid"]) for part in parts]),
        labels=dataset.labels(),
        names=[annotation.name for annotation in dataset.annotations],
    )


def _files(folder: Path, dataset: SampleDataset) -> dict[int, Path]:
    """Index of the first video of each file -> the file."""
    return {start: folder / f"videos-{start:06d}.npz" for start in range(0, len(dataset), VIDEOS_PER_FILE)}


def compute(
    fabric: Fabric, backbone: nn.Module, dataset: SampleDataset | Subset, *, batch_size: int, num_workers: NumWorkers
) -> Iterator[tuple[Tensor, Tensor]]:
    """`Features.clips` and `Features.grid` of the videos, batch by batch, on the CPU."""
    backbone.eval()
    for maps, num_clips in clip_maps(fabric, backbone, dataset, batch_size=batch_size, num_workers=num_workers):
        clips = maps.mean(dim=tuple(range(2, maps.ndim))).unflatten(0, (-1, num_clips))
        pooled = adaptive_avg_pool3d(maps, GRID) if maps.ndim == 5 else adaptive_avg_pool2d(maps, GRID[1:])
        grid = pooled.flatten(1).unflatten(0, (-1, num_clips)).mean(dim=1)
        yield clips.cpu(), grid.cpu()


def clip_maps(
    fabric: Fabric, backbone: nn.Module, dataset: SampleDataset | Subset, *, batch_size: int, num_workers: NumWorkers
) -> Iterator[tuple[Tensor, int]]:
    """Last stage of all clips of a batch of videos, float32 [B*N,D,(t,)h,w] on the device without gradients, and N."""
    loader = test_loader(dataset, batch_size=batch_size, num_workers=num_workers, on_gpu=fabric.device.type == "cuda")
    release_freed_memory(loader)
    for batch in loader:
        frames = fabric.to_device(batch["frames"])
        with torch.no_grad(), fabric.autocast():
            maps = backbone(augment.normalize(frames.flatten(0, 1).float())).float()
        yield maps, frames.shape[1]


def fingerprint(backbone: nn.Module, dataset: SampleDataset, *, precision: str) -> str:
    """Hash of all that decides the features: weights, layers, strides, clips and seeds, precision, names, contents."""
    digest = hashlib.sha256()
    for name, array in to_arrays(backbone).items():
        digest.update(name.encode())
        digest.update(array.tobytes())
    settings = [repr(backbone), repr(dataset.sample), precision, contents(dataset), *dataset.seed_key]
    digest.update(json.dumps(settings).encode())
    return digest.hexdigest()[:16]


def contents(dataset: SampleDataset) -> list[tuple[str, str]]:
    """Name and key of the content of each video."""
    names = [annotation.name for annotation in dataset.annotations]
    return [(name, content_key(find_media(dataset.media_dir, name))) for name in names]


def contents_digest(datasets: Iterable[SampleDataset]) -> str:
    """Digest of names and contents of the videos of an evaluation."""
    return hashlib.sha256(json.dumps([contents(dataset) for dataset in datasets]).encode()).hexdigest()[:16]


def neighbours(gallery: Tensor, queries: Tensor, *, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of the gallery for each query by cosine, nearest first.

    Args:
        gallery, queries: float [G,F] and [Q,F].
        k: number of neighbours, at most G.

    Returns:
        cosines, float [Q,min(k,G)], and indices in the gallery, int64 [Q,min(k,G)].
    """
    gallery, k = normalize(gallery, dim=1), min(k, len(gallery))
    parts = [(part @ gallery.T).topk(k, dim=1) for part in normalize(queries, dim=1).split(QUERIES_AT_ONCE)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])
