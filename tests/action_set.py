"""A tiny labelled data set on disk, as the data tools leave it, and the settings that make a run on it take seconds."""

from pathlib import Path

from fedvssl.data.annotations import Annotation, write_annotations
from tests.videos import moving_square, write_frames

CLASSES = ("Climb", "Run", "Swim")
TINY = [
    *("data.num_classes=3", "model.depth=10", "model.width=4"),
    *("clip_len=8", "crop_size=32", "train_sample.sizes=[[43,32],[48,36]]", "test_sample.size=[43,32]"),
    *("test_sample.num_clips=2", "test_batch_size=2", "num_workers=0", "device=cpu", "precision=32-true"),
    *("training.batch_size=4", "training.epochs=2", "training.steps=[1]", "training.eval_every=1"),
]
TINY_TEST = [override for override in TINY if not override.startswith(("train_sample", "training"))]


def write_action_set(data_dir: Path, *, num_train: int = 6, num_test: int = 11) -> Path:
    """Zips of frames and the split-1 lists of three classes below `data_dir`/ucf101; each class has its own tint."""
    for part, number in (("train", num_train), ("test", num_test)):
        annotations = []
        for i in range(number):
            label = i % len(CLASSES)
            frames = moving_square(num_frames=20 + i, height=36, width=48, seed=100 * (part == "test") + i)
            frames[..., label] //= 4
            annotations.append(Annotation(f"{CLASSES[label]}/{part}{i}", label))
            write_frames(data_dir / f"ucf101/zips/{annotations[-1].name}.zip", frames)
        write_annotations(data_dir / f"ucf101/annotations/{part}_split_1.json", annotations)
    return data_dir
