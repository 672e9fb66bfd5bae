"""A tiny labelled set of pictures on disk, as the data tools leave it, and the settings that make a run on it quick."""

from pathlib import Path

import cv2
import numpy as np

from fedvssl.data.annotations import Annotation, write_annotations
from tests.videos import moving_square, write_frames

CLASSES = ("blue", "green", "red")
SIDE = 16
MODEL = ("model=resnet18", "model.width=4")
DATA = ("data=cifar10", "data.num_classes=3")
TINY = [*MODEL, *DATA, "input=pictures", f"crop_size={SIDE}", "num_workers=0", "device=cpu", "precision=32-true"]
PRETRAINING = (
    *(*MODEL, *DATA, "task=simclr", f"task.sample.max_side={SIDE}", "task.module.projector.hidden_channels=16"),
    *("task.module.projector.out_channels=8", "strategy=fedavg", "engine=local", "pool_size=2", "rounds=1"),
    *("strategy.min_fit_clients=2", "training.batch_size=8", "training.precision=32-true", "training.num_workers=0"),
    "client_resources={num_gpus: 0, num_cpus: 1}",
)


def write_picture_set(data_dir: Path, *, num_train: int = 36, num_test: int = 24) -> Path:
    """PNG files and the split-1 lists of three colours below `data_dir`/cifar10, and lists of two clients."""
    rng, lists = np.random.default_rng(0), data_dir / "cifar10/annotations"
    for part, number in (("train", num_train), ("test", num_test)):
        annotations = []
        for i in range(number):
            label = i % len(CLASSES)
            picture = rng.integers(0, 120, (SIDE, SIDE, 3), np.uint8)
            picture[..., label] += 100  # OpenCV's order: blue, green, red
            annotations.append(Annotation(f"{CLASSES[label]}/{part}{i}.png", label))
            path = data_dir / f"cifar10/pictures/{annotations[-1].name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture)
        write_annotations(lists / f"{part}_split_1.json", annotations)
        for client in range(2 * (part == "train")):
            write_annotations(lists / f"client_distribution/client_dist{client + 1}.json", annotations[client::2])
    return data_dir


def write_video_set(data_dir: Path) -> Path:
    """Zips of frames under the names of the pictures, in a data set of its own that is called cifar10 too."""
    write_picture_set(data_dir, num_train=6, num_test=6)
    for picture in sorted((data_dir / "cifar10/pictures").rglob("*.png")):
        write_frames(picture.with_suffix(".png.zip"), moving_square(num_frames=8, height=20, width=24))
        picture.unlink()
    return data_dir
