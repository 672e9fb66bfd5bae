"""Running statistics of BatchNorm for an untrained backbone, from some videos of its gallery.

Initial statistics (mean 0, variance 1) do not fit the activations of random weights: what training gains over them may
be statistics alone. With statistics of its own a random backbone is the baseline that learned features must beat.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.fabric import Fabric
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import Subset

from fedvssl.data.dataset import NumWorkers, SampleDataset
from fedvssl.data.splits import spread
from fedvssl.evaluation.features import clip_maps, fingerprint, remove_abandoned
from fedvssl.files.arrays import load_arrays, save_arrays
from fedvssl.files.tensors import load_arrays_into, to_arrays

# Fixed, because the size of a test batch must not decide the numbers.
BATCHES, VIDEOS_PER_BATCH = 20, 4


def calibrate(fabric: Fabric, backbone: nn.Module, gallery: SampleDataset, *, num_workers: NumWorkers) -> None:
    """Replace the running statistics of every BatchNorm by the mean over batches of the gallery, in place.

    Args:
        fabric: gives device and precision.
        backbone: moved to the device, in eval mode afterwards. Without BatchNorm it stays as it is.
        gallery: training videos; at most `BATCHES` batches, evenly spread over the list, are used.
        num_workers: decoding processes.
    """
    if not _layers(backbone):
        return
    parts = _parts(_chosen(gallery))
    with _averaging(backbone.to(fabric.device)):
        for part, batch_size in parts:
            for _ in clip_maps(fabric, backbone, part, batch_size=batch_size, num_workers=num_workers):
                pass  # the layers count the batches themselves


def calibrate_once(
    fabric: Fabric, backbone: nn.Module, gallery: SampleDataset, *, feature_dir: Path, num_workers: NumWorkers
) -> None:
    """Calibrate as `calibrate`, with statistics that process 0 computes once and keeps below `feature_dir`.

    All processes read the file of process 0: between two GPUs the statistics could differ by rounding, and with them
    the fingerprint that names the folder of the features.
    """
    if not _layers(backbone):
        return
    name = fingerprint(backbone, _chosen(gallery), precision=fabric._precision.precision)
    path = feature_dir / name / "statistics.npz"
    remove_abandoned(path.parent)
    if fabric.is_global_zero and not path.is_file():
        calibrate(fabric, backbone, gallery, num_workers=num_workers)
        state, buffers = to_arrays(backbone), dict(backbone.named_buffers())
        save_arrays(path, {name: array for name, array in state.items() if name in buffers})
    fabric.barrier()
    load_arrays_into(backbone, load_arrays(path))


def has_initial_statistics(backbone: nn.Module) -> bool:
    """True for a backbone whose BatchNorm has seen no batch; False if it has no BatchNorm."""
    statistics = [(layer.running_mean, layer.running_var) for layer in _layers(backbone)]
    return bool(statistics) and all(
        mean is not None and var is not None and not mean.any() and bool((var == 1).all()) for mean, var in statistics
    )


def _layers(backbone: nn.Module) -> list[_BatchNorm]:
    """Layers with running statistics."""
    return [layer for layer in backbone.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]


def _chosen(gallery: SampleDataset) -> SampleDataset:
    """Videos of the statistics."""
    videos = spread(gallery.annotations, BATCHES * VIDEOS_PER_BATCH)
    return SampleDataset(gallery.media_dir, videos, gallery.sample, seed_key=gallery.seed_key)


def _parts(chosen: SampleDataset) -> list[tuple[SampleDataset | Subset, int]]:
    """Parts of the chosen videos or pictures with the sizes of their batches: a last single picture joins four others.

    One picture has no variance where the last stage is a single pixel; a video has it over its clips and frames.
    """
    start = len(chosen) - VIDEOS_PER_BATCH - 1
    if start < 0 or start % VIDEOS_PER_BATCH or chosen[0]["frames"].ndim > 4:
        return [(chosen, VIDEOS_PER_BATCH)]
    first, last = Subset(chosen, range(start)), Subset(chosen, range(start, len(chosen)))
    return [*([(first, VIDEOS_PER_BATCH)] if start else []), (last, VIDEOS_PER_BATCH + 1)]


@contextmanager
def _averaging(backbone: nn.Module) -> Iterator[None]:
    """Let BatchNorm alone work as in training and average its statistics over all batches; eval mode afterwards."""
    backbone.eval()  # without dropout, so that nothing is random
    layers = _layers(backbone)
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        backbone.eval()
