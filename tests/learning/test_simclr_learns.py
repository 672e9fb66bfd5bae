"""FedSimCLR of two clients tells apart within some hundred steps what a random encoder does not."""

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
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

SIDE, CLASSES, NOISE = 16, 6, 20
WORDS = (
    *("task=simclr", "model=resnet18", "strategy=fedavg", "engine=local", "pool_size=2", "strategy.min_fit_clients=2"),
    *("model.width=8", f"task.sample.max_side={SIDE}", "task.sample.draw.crop_scale=[0.5,1.0]"),
    *("task.module.projector.hidden_channels=64", "task.module.projector.out_channels=32"),
    *("task.module.temperature=0.2", "rounds=12", "training.local_epochs=4", "training.batch_size=32"),
    *("training.lr=0.1", "training.weight_decay=5e-4", "training.precision=32-true", "seed=11"),
    "client_resources={num_gpus: 0, num_cpus: 1}",
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute with one thread: another number adds in another order, and learns otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def grating(rng: np.random.Generator, label: int) -> np.ndarray:
    """Grey stripes of one of three directions, coarse or fine, of any phase and contrast, in noise: uint8 [H,W,3]."""
    y, x = np.mgrid[:SIDE, :SIDE]
    angle, waves = (label % 3) * math.pi / 4, (2, 4)[label // 3]
    wave = np.sin(2 * math.pi * (waves / SIDE * (x * math.cos(angle) + y * math.sin(angle)) + rng.random()))
    grey = 128 + rng.uniform(20, 60) * wave[..., None] + rng.normal(0, NOISE, (SIDE, SIDE, 3))
    return np.clip(grey, 0, 255).astype(np.uint8)


def write(folder: Path, rng: np.random.Generator, part: str, count: int) -> list[Annotation]:
    annotations = [Annotation(f"{part}/{number}", number % CLASSES) for number in range(count)]
    for annotation in annotations:
        path = folder / f"zips/{annotation.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), grating(rng, annotation.label)[..., ::-1])
    return annotations


def features(backbone: torch.nn.Module, folder: Path, annotations: list[Annotation]) -> Features:
    pictures = np.stack([read_picture(folder / f"zips/{annotation.name}.png") for annotation in annotations])
    with torch.no_grad():
        pooled = backbone.eval()(augment.normalize(torch.from_numpy(pictures).float())).mean((2, 3))
    labels = torch.tensor([annotation.label for annotation in annotations])
    return Features(pooled.unsqueeze(1), pooled, labels, [annotation.name for annotation in annotations])


def accuracy(backbone: torch.nn.Module, folder: Path, gallery: list[Annotation], queries: list[Annotation]) -> float:
    parts = [features(backbone, folder, listed) for listed in (gallery, queries)]
    return KNN(ks=[10], temperature=0.1)(*parts).metrics["k=10"]


def test_the_loss_falls_and_neighbours_are_of_the_same_class(tmp_path: Path) -> None:
    """Seeds 3, 5, 7, 11: last loss 3.30, 3.80, 2.85, 2.67; accuracy .88, .87, 1, 1, of random weights .42."""
    rng = np.random.default_rng(0)
    lists = [write(tmp_path, rng, part, 240) for part in ("gallery", "queries")]
    for client in range(2):
        own = write(tmp_path, rng, f"client{client}", 96)
        write_annotations(tmp_path / f"lists/client_dist{client + 1}.json", own)
    places = (f"data.media_dir={tmp_path / 'zips'}", f"partition_dir={tmp_path / 'lists'}")
    cfg = compose("base", [*WORDS, *places])
    (tmp_path / "run").mkdir()
    run(cfg, run_dir=tmp_path / "run")
    rounds = [record for record in read_records(tmp_path / "run/metrics.jsonl") if "num_clients" in record]
    losses, chance = [record["loss"] for record in rounds], rounds[0]["trivial_chance"]
    assert chance == pytest.approx(math.log(2 * 32 - 1), abs=1e-5) and abs(losses[0] - chance) < 0.15
    assert losses[-1] < chance - 0.15 and rounds[-1]["embedding_std"] > 0.3
    seed_torch((7,))
    backbone = building.build(cfg["model"])
    random = accuracy(backbone, tmp_path, *lists)
    load_backbone(backbone, tmp_path / "run/round-12-weights.npz")
    assert accuracy(backbone, tmp_path, *lists) > random + 0.25
