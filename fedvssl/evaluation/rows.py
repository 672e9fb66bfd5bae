"""Rows of an evaluation: the backbone of the checkpoint, its baselines, and the features of each."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric

from fedvssl.data.dataset import NumWorkers, SampleDataset
from fedvssl.data.split import Split
from fedvssl.data.validation import check_unseen, medium_in
from fedvssl.evaluation.calibration import calibrate_once, has_initial_statistics
from fedvssl.evaluation.features import extract, fingerprint
from fedvssl.evaluation.pixels import MeanFrame
from fedvssl.files.backbone import load_backbone
from fedvssl.files.checkpoint import read_checkpoint
from fedvssl.files.given import RANDOM, given_file
from fedvssl.files.progress import Progress
from fedvssl.training.loop import seed_torch

CHECKPOINT = "checkpoint"
INITIAL = "random initial"  # the same weights with the initial statistics of BatchNorm: on pictures the stronger one
MEAN_FRAME, PIXELS = "mean frame", "pixels"  # the baseline without a network: of videos, and of pictures


def load_backbones(
    random_backbone: Callable[[], Any], *, checkpoint: str | None, data: Split, seed: int
) -> dict[str, Any]:
    """The backbone of the checkpoint, a random one, as it is too if it has BatchNorm, and the mean frame, on the CPU.

    Returns:
        The backbones by the names of their rows.

    Raises:
        ValueError: if there is no checkpoint, it is of another model, or it has seen the validation videos.
    """
    backbones = {}
    if checkpoint != RANDOM:
        path = given_file(checkpoint, command="")
        backbones[CHECKPOINT] = random_backbone()
        load_backbone(backbones[CHECKPOINT], path)
        if data.validation is not None and path.suffix != ".npz":
            check_unseen(read_checkpoint(path).content, data, path=path)
    seed_torch((seed, 0, 0, 0))  # the weights that fine-tuning from scratch starts from
    backbones[RANDOM] = random_backbone()
    if has_initial_statistics(backbones[RANDOM]):
        backbones[INITIAL] = deepcopy(backbones[RANDOM])
    backbones[MEAN_FRAME] = MeanFrame()
    return backbones


@dataclass(frozen=True)
class Extraction:
    """Settings by which features are extracted and kept.

    Args:
        fabric: gives device and precision, and joins the processes.
        feature_dir: folder of the kept features.
        batch_size: videos per step and process.
        num_workers: decoding processes, see `test_loader`.
        progress: True for lines of progress.
    """

    fabric: Fabric
    feature_dir: Path
    batch_size: int
    num_workers: NumWorkers
    progress: bool


def extract_rows(
    extraction: Extraction, backbones: dict[str, Any], datasets: dict[str, SampleDataset], *, test_part: str
) -> dict[tuple[str, str], Path]:
    """Extract the features of each row and list, and return their folders; the random row is calibrated first."""
    calibrate_once(
        extraction.fabric,
        backbones[RANDOM],
        datasets["train"],
        feature_dir=extraction.feature_dir,
        num_workers=extraction.num_workers,
    )
    dataset = datasets["test"]
    medium = medium_in(dataset.media_dir, dataset.annotations)
    shown = {"train": f"train {medium}", "test": f"{test_part} {medium}"}
    return {
        (row, part): extract_kept(extraction, backbone, dataset, label=f"{row}: {shown[part]}")
        for row, backbone in backbones.items()
        for part, dataset in datasets.items()
    }


def extract_kept(extraction: Extraction, backbone: Any, dataset: SampleDataset, *, label: str) -> Path:
    """Extract the features of one list, unless they are kept, and return their folder."""
    fabric = extraction.fabric
    folder = extraction.feature_dir / fingerprint(backbone, dataset, precision=fabric._precision.precision)
    progress = Progress(label, len(dataset), write=fabric.print)
    extract(
        fabric,
        backbone.to(fabric.device),
        dataset,
        folder=folder,
        batch_size=extraction.batch_size,
        num_workers=extraction.num_workers,
        report=progress.update if extraction.progress else None,
    )
    return folder
