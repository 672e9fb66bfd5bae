from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from data_tools.partition_plot import plot_partition
from fedvssl.data.partition_stats import partition_stats


def plot(path: Path, *, num_classes: int, num_clients: int, shared: bool = False) -> np.ndarray:
    """The picture, [H,W,3] in 0..1, of two videos per class and client; `shared`: all clients own the first one too."""
    labels = np.tile(np.arange(num_classes), 2 * num_clients)
    parts = np.split(np.arange(len(labels)), num_clients)
    if shared:
        parts = [np.append(part, 0) if client else part for client, part in enumerate(parts)]
    plot_partition(partition_stats(labels.tolist(), parts), {c: f"class {c}" for c in range(num_classes)}, path)
    return matplotlib.image.imread(path)[..., :3]


@pytest.mark.parametrize(("num_classes", "num_clients"), [(2, 1), (6, 5), (51, 20), (400, 100)])
def test_any_size_makes_a_picture_of_one_size(tmp_path: Path, num_classes: int, num_clients: int) -> None:
    pixels = plot(tmp_path / "plot.png", num_classes=num_classes, num_clients=num_clients)
    assert pixels.shape[:2] == (1100, 1600)
    assert len(np.unique((pixels[::5, ::5] * 255).astype(int).reshape(-1, 3), axis=0)) > 10, "there is something on it"


def test_shared_videos_show(tmp_path: Path) -> None:
    """The panel at the lower right is grey where nobody shares a video, and coloured where all do."""
    alone, together = (
        plot(tmp_path / f"{shared}.png", num_classes=3, num_clients=4, shared=shared)[600:1050, 1200:1500]
        for shared in (False, True)
    )
    grey = np.isclose(alone, 0.93, atol=0.01).all(axis=-1).mean()
    assert grey > 0.9 and np.isclose(together, 0.93, atol=0.01).all(axis=-1).mean() < 0.5


def test_a_class_name_is_no_formula(tmp_path: Path) -> None:
    stats = partition_stats([0, 1], [np.array([0]), np.array([1])])
    plot_partition(stats, {0: "$a_$", 1: "b$"}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size
