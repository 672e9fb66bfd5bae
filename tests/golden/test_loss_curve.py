"""Five CPU steps of Catch-the-Patch with a fixed seed: any change of the numbers is on purpose or a mistake.

After a change on purpose: python -m tests.golden.test_loss_curve prints the new curve; say why in CHANGELOG.md.
"""

import tempfile
from pathlib import Path

import numpy as np

from fedvssl import building, config
from fedvssl.data.annotations import Annotation
from fedvssl.data.dataset import SampleDataset, train_loader
from fedvssl.training.loop import build_fabric, seed_torch, set_up, train_epoch
from tests.tasks.test_ctp import SMALL
from tests.videos import moving_square, write_frames

GOLDEN = [12.857919692993164, 8.926923751831055, 12.727212905883789, 10.894338607788086, 11.325489044189453]


def loss_curve(folder: Path) -> list[float]:
    cfg = config.compose("base", SMALL)
    annotations = [Annotation(f"Square/clip{i}", 0) for i in range(10)]
    for i, annotation in enumerate(annotations):
        write_frames(folder / f"{annotation.name}.zip", moving_square(num_frames=30, height=40, width=48, seed=i))
    seed_torch((7,))
    fabric = build_fabric(device="cpu", precision="32-true")
    task = building.build_task(cfg)
    task, optimizer = set_up(fabric, task, building.build_optimizer(cfg["training"], task, on_gpu=False))
    dataset = SampleDataset(folder, annotations, building.build_sample(cfg), seed_key=(7, 1, 0, 0))
    curve = []
    for batch in train_loader(dataset, batch_size=2, num_workers=0):
        curve.append(train_epoch(fabric, task, optimizer, [batch], max_norm=40).metrics["loss"])
    return curve


def test_loss_curve_is_the_golden_one(tmp_path: Path) -> None:
    np.testing.assert_allclose(loss_curve(tmp_path), GOLDEN, rtol=1e-4)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(loss_curve(Path(folder)))
