"""Stripes: pictures of six kinds that a random encoder hardly tells apart, and a federation of two clients on them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from fedvssl import building
from fedvssl.config import compose
from fedvssl.data import augment
from fedvssl.data.annotations import Annotation, write_annotations
from fedvssl.data.image import read_picture
from fedvssl.evaluation.features import Features
from fedvssl.evaluation.knn import KNN
from fedvssl.files.backbone import load_backbone
from fedvssl.files.run_log import read_records
from fedvssl.main import run
from fedvssl.training.loop import seed_torch

SIDE, KINDS, NOISE = 16, 6, 20
WORDS = (
    *("engine=local", "pool_size=2", "strategy.min_fit_clients=2", "client_resources={num_gpus: 0, num_cpus: 1}"),
    *("model.width=8", f"task.sample.max_side={SIDE}", "task.sample.draw.crop_scale=[0.5,1.0]"),
    *("task.module.projector.hidden_channels=64", "task.module.projector.out_channels=32"),
    *("training.batch_size=32", "training.weight_decay=5e-4", "training.precision=32-true"),
)


def grating(rng: np.random.Generator, kind: int) -> np.ndarray:
    """Grey stripes of one of three directions, coarse or fine, of any phase and contrast, in noise: uint8 [H,W,3]."""
    y, x = np.mgrid[:SIDE, :SIDE]
    angle, waves = (kind % 3) * math.pi / 4, (2, 4)[kind // 3]
    wave = np.sin(2 * math.pi * (waves / SIDE * (x * math.cos(angle) + y * math.sin(angle)) + rng.random()))
    grey = 128 + rng.uniform(20, 60) * wave[..., None] + rng.normal(0, NOISE, (SIDE, SIDE, 3))
    return np.clip(grey, 0, 255).astype(np.uint8)


def write(folder: Path, rng: np.random.Generator, part: str, count: int) -> list[Annotation]:
    """Pictures below `folder`/zips/`part`, the kinds in turn."""
    annotations = [Annotation(f"{part}/{number}", number % KINDS) for number in range(count)]
    for annotation in annotations:
        path = folder / f"zips/{annotation.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), grating(rng, annotation.label)[..., ::-1])
    return annotations


def train(
    folder: Path, clients: Sequence[list[Annotation]], *words: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run a federation in `folder`/run.

    Args:
        folder: has the pictures; gets the lists and the run.
        clients: pictures of each client.
        words: of the command line, beside `WORDS`.

    Returns:
        Its configuration, and the records of its rounds.
    """
    for client, own in enumerate(clients, start=1):
        write_annotations(folder / f"lists/client_dist{client}.json", own)
    config = compose("base", [*WORDS, f"data.media_dir={folder / 'zips'}", f"partition_dir={folder / 'lists'}", *words])
    (folder / "run").mkdir()
    run(config, run_dir=folder / "run")
    return config, [record for record in read_records(folder / "run/metrics.jsonl") if "num_clients" in record]


def accuracies(
    folder: Path, config: dict[str, Any], lists: Sequence[list[Annotation]], *, seed: int
) -> tuple[float, float]:
    """Share of pictures whose ten nearest in another list tell their kind, by random weights and by a run's last round.

    Args:
        folder: has the pictures and the run.
        config: of the run.
        lists: the gallery and the queries.
        seed: of the random weights.
    """
    seed_torch((seed,))
    backbone = building.build(config["model"])
    random = _accuracy(backbone, folder, lists)
    load_backbone(backbone, folder / f"run/round-{config['rounds']}-weights.npz")
    return random, _accuracy(backbone, folder, lists)


def _accuracy(backbone: torch.nn.Module, folder: Path, lists: Sequence[list[Annotation]]) -> float:
    gallery, queries = (_features(backbone, folder, listed) for listed in lists)
    return KNN(ks=[10], temperature=0.1)(gallery, queries).metrics["k=10"]


def _features(backbone: torch.nn.Module, folder: Path, annotations: list[Annotation]) -> Features:
    pictures = np.stack([read_picture(folder / f"zips/{annotation.name}.png") for annotation in annotations])
    with torch.no_grad():
        pooled = backbone.eval()(augment.normalize(torch.from_numpy(pictures).float())).mean((2, 3))
    labels = torch.tensor([annotation.label for annotation in annotations])
    return Features(pooled.unsqueeze(1), pooled, labels, [annotation.name for annotation in annotations])
