import json
from pathlib import Path

import numpy as np
import pytest

from data_tools.partition import main, plot_partition
from fedvssl.data.annotations import Annotation, read_annotations, write_annotations
from fedvssl.data.partition import partition_stats

VIDEOS = [Annotation(f"Class{i % 4}/v{i}", i % 4) for i in range(22)]


@pytest.fixture
def json_path(tmp_path: Path) -> Path:
    write_annotations(tmp_path / "train_split_1.json", VIDEOS)
    return tmp_path / "train_split_1.json"


def run(json_path: Path, output_path: Path, *flags: str) -> list[list[Annotation]]:
    main(["--json_path", str(json_path), "--output_path", str(output_path), *flags])
    files = sorted(output_path.glob("client_dist*.json"), key=lambda path: int(path.stem.removeprefix("client_dist")))
    return [read_annotations(path) for path in files]


def test_uniform(json_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "client_distribution"
    clients = run(json_path, out, "--num_clients", "4", "--seed", "7")
    assert [len(client) for client in clients] == [5, 6, 5, 6]
    assert sorted(a.name for client in clients for a in client) == sorted(a.name for a in VIDEOS)
    assert run(json_path.parent, tmp_path / "other", "--num_clients", "4") == clients, "a folder; 7 is the default seed"
    assert run(json_path, tmp_path / "seed", "--num_clients", "4", "--seed", "8") != clients
    stats = json.loads((out / "partition_stats.json").read_text())
    assert [client["videos"] for client in stats["clients"]] == [5, 6, 5, 6]
    assert stats["video_overlap"] == np.diag([5, 6, 5, 6]).tolist()


def test_class_shard(json_path: Path, tmp_path: Path) -> None:
    flags = ("--num_clients", "2", "--method", "class-shard", "--classes_per_client", "2")
    clients = run(json_path, tmp_path / "out", *flags)
    assert [len({a.label for a in client}) for client in clients] == [2, 2]
    assert sorted(a.name for client in clients for a in client) == sorted(a.name for a in VIDEOS)


def test_clients_of_an_earlier_partition_do_not_survive(json_path: Path, tmp_path: Path) -> None:
    run(json_path, tmp_path / "out", "--num_clients", "5")
    assert len(run(json_path, tmp_path / "out", "--num_clients", "2")) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--num_clients", "23"), "23 clients cannot share 22 videos"),
        (("--method", "class-shard"), "--classes_per_client belongs to"),
        (("--classes_per_client", "2"), "--classes_per_client belongs to"),
        (("--num_clients", "2", "--method", "class-shard", "--classes_per_client", "1"), "cannot hold 4 classes"),
    ],
)
def test_a_refused_partition_leaves_the_old_one(
    json_path: Path, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    before = run(json_path, tmp_path / "out", "--num_clients", "3")
    with pytest.raises(ValueError, match=message):
        run(json_path, tmp_path / "out", *flags)
    assert [read_annotations(tmp_path / "out" / f"client_dist{n}.json") for n in (1, 2, 3)] == before


@pytest.mark.parametrize("num_clients", [1, 30])
def test_plot(tmp_path: Path, num_clients: int) -> None:
    stats = partition_stats([0, 1] * 30, np.array_split(np.arange(60), num_clients))
    plot_partition(stats, {0: "a", 1: "b"}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
