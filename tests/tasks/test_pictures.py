"""A task on JPEG pictures: a Sample, a Task, a backbone and two YAML files of one's own, and no file of the core."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from fedvssl.config import compose
from fedvssl.data.annotations import Annotation, write_annotations
from fedvssl.data.dataset import SampleDataset
from fedvssl.data.media import picture_of_sample
from fedvssl.evaluation.features import extract, load
from fedvssl.evaluation.knn import KNN
from fedvssl.files.run_log import read_records
from fedvssl.main import run
from fedvssl.training.loop import build_fabric

SIDE = 16


class TurnedPicture:
    """A picture that is turned by a random number of right angles."""

    def __call__(self, path: Path, rng: np.random.Generator) -> dict[str, Tensor]:
        """Returns "frames" uint8 [H,W,3] and "turns" int64, 0 to 3."""
        turns = int(rng.integers(4))
        frames = np.ascontiguousarray(np.rot90(read(path), turns))
        return {"frames": torch.from_numpy(frames), "turns": torch.tensor(turns)}


class WholePicture:
    """For evaluation: one view of each picture."""

    def __call__(self, path: Path, rng: np.random.Generator) -> dict[str, Tensor]:
        """Returns "frames" uint8 [1,H,W,3]."""
        return {"frames": torch.from_numpy(read(path))[None]}


def read(path: Path) -> np.ndarray:
    return np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])


class SmallNet(nn.Module):
    """Backbone [B,3,H,W] -> [B,D,H/2,W/2]."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.out_channels = width
        self.conv, self.bn = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.bn(self.conv(pictures)).relu()


class Turns(nn.Module):
    """Predict by how many right angles a picture is turned (Gidaris et al., arXiv 1803.07728)."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(backbone.out_channels * SIDE**2 // 4, 4)

    def augment(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**batch, "pictures": batch["frames"].permute(0, 3, 1, 2).float() / 255 - 0.5}

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        logits = self.head(self.backbone(batch["pictures"]).flatten(1))
        loss = nn.functional.cross_entropy(logits, batch["turns"])
        return {"loss": loss, "top1_acc": (logits.argmax(1) == batch["turns"]).float().mean()}


MODEL = f"_target_: {__name__}.SmallNet\nwidth: 8\n"
TASK = f"module:\n  _target_: {__name__}.Turns\nsample:\n  _target_: {__name__}.TurnedPicture\nbackbone: {{}}\n"
SETTINGS = (
    *("model=mine", "task=turns", "optimizer=adamw", "training.lr=0.02", "training.batch_size=8", "rounds=4"),
    *("training.local_epochs=5", "training.precision=32-true", "client_resources={num_gpus: 0, num_cpus: 1}"),
    *("pool_size=2", "strategy.min_fit_clients=2", "strategy.swbeta=0", "engine=local"),
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that are bright at the top, of two colours, for two clients."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for client in range(2):
        annotations = [Annotation(f"{'red' if n % 2 else 'blue'}/p{client}_{n}", n % 2) for n in range(24)]
        for annotation in annotations:
            picture = np.linspace(220, 20, SIDE)[:, None, None] * np.ones((1, SIDE, 3))
            picture[..., 2 if annotation.label else 0] *= 0.3
            path = folder / f"zips/{annotation.name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8))
        write_annotations(folder / f"lists/client_dist{client + 1}.json", annotations)
    return folder


def compose_own(data_dir: Path, folder: Path, words: Sequence[str] = ()) -> dict[str, Any]:
    for name, text in (("model/mine", MODEL), ("task/turns", TASK)):
        path = folder / f"conf/{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    places = (f"data.media_dir={data_dir / 'zips'}", f"partition_dir={data_dir / 'lists'}")
    return compose("base", [f"hydra.searchpath=[file://{folder / 'conf'}]", *SETTINGS, *places, *words])


def test_a_task_on_pictures_learns_in_a_federation(data_dir: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    run(compose_own(data_dir, tmp_path), run_dir=run_dir)
    rounds = [record for record in read_records(run_dir / "metrics.jsonl") if "num_clients" in record]
    assert rounds[0]["loss"] > rounds[-1]["loss"] and rounds[-1]["top1_acc"] > 0.9, "chance is 0.25"


def test_features_of_pictures_go_through_the_protocols(data_dir: Path, tmp_path: Path) -> None:
    names = sorted(path.relative_to(data_dir / "zips").with_suffix("").as_posix() for path in data_dir.rglob("*.jpg"))
    annotations = [Annotation(name, int(name.startswith("red"))) for name in names]
    torch.manual_seed(0)
    fabric: Fabric = build_fabric(device="cpu", precision="32-true")
    parts = {}
    for part, listed in {"train": annotations[::2], "test": annotations[1::2]}.items():
        dataset = SampleDataset(data_dir / "zips", listed, WholePicture())
        extract(fabric, SmallNet(width=8), dataset, folder=tmp_path / part, batch_size=4, num_workers=0)
        parts[part] = load(tmp_path / part, dataset)
    assert parts["test"].clips.shape == (24, 1, 8) and parts["test"].grid.shape == (24, 9 * 8)
    assert KNN(ks=[3], temperature=0.07)(parts["train"], parts["test"]).metrics


def test_the_picture_of_a_sample_is_itself(data_dir: Path) -> None:
    picture = picture_of_sample(data_dir / "zips", "red/p0_1")
    assert picture.shape == (SIDE, SIDE, 3) and picture[..., 0].mean() < picture[..., 2].mean()
    for content in (b"no picture", b""):
        (data_dir / "zips/red/broken.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.png is not a readable picture"):
            picture_of_sample(data_dir / "zips", "red/broken")
