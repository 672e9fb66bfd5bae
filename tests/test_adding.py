"""The worked examples of docs/adding.md: they run as printed, in a folder of somebody's own."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from fedvssl import evaluate
from fedvssl.building import build_task
from fedvssl.config import compose, read_command_line
from fedvssl.data.annotations import Annotation, read_annotations, write_annotations
from fedvssl.files.atomic import read_json
from fedvssl.files.run_log import read_records
from fedvssl.main import run
from tests.federation import overrides, run_main, write_clients

PAGE = (Path(__file__).parents[1] / "docs/adding.md").read_text()
EXAMPLES = re.findall(r"```(?:python|yaml)\n# (mine/[\w/]+\.(?:py|yaml)).*?\n(.*?)```", PAGE, flags=re.DOTALL)
SMALL = ("task.sample.clip_len=8", "task.sample.side=32", "engine=local")
OWN_TASK = [word for word in overrides(Path(), num_clients=2) if not word.startswith(("task.", "data_dir="))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with mine/ as printed, and videos of two clients."""
    folder = tmp_path_factory.mktemp("own")
    for name, text in EXAMPLES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    write_clients(folder / "data", (3, 4))
    return folder


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def train(folder: Path, run_dir: Path, *words: str) -> list[dict]:
    """Records of the clients of a run with the YAML files of mine/."""
    search_path = f"hydra.searchpath=[file://{folder / 'mine'}]"
    run(compose("base", [search_path, *OWN_TASK, *SMALL, "data_dir=data", *words]), run_dir=run_dir)
    return [record for record in read_records(run_dir / "metrics.jsonl") if "partition_id" in record]


def test_there_are_five_of_under_thirty_lines() -> None:
    names = [name for name, _ in EXAMPLES]
    assert [name for name in names if name.endswith(".py")] == [
        f"mine/{name}.py" for name in ("arrow", "gentle", "small", "centroid", "arrays")
    ]
    for name, text in EXAMPLES:
        assert len([line for line in text.splitlines() if line.strip()]) < 30, name


def test_a_task(folder: Path) -> None:
    """By the very command, whose --config-dir is Hydra's."""
    words = [*OWN_TASK, *SMALL, "data_dir=data", "hydra.run.dir=arrow"]
    done = run_main("--config-dir", "mine", "task=arrow", *words, folder=folder)
    assert done.returncode == 0, done.stderr
    records = read_records(folder / "arrow/metrics.jsonl")
    assert len(records) == 6 and all(0 <= record["top1_acc"] <= 1 and record["loss"] > 0 for record in records)


def test_a_strategy_with_both_halves(folder: Path, tmp_path: Path) -> None:
    records = train(folder, tmp_path, "task=arrow", "strategy=gentle")
    weights = [record["weight"] for record in records[:2]]
    assert weights[1] / weights[0] == pytest.approx((4 / 3) ** 0.5)
    (kept,) = (np.load(path) for path in (tmp_path / "clients/client_1").glob("kept-round-2.npz"))
    assert "backbone.stem.conv.weight" in kept.files, "the client keeps what travels"
    alone = train(folder, tmp_path / "alone", "task=arrow", "strategy=gentle", "strategy.rule.own=0")
    assert [r["loss"] for r in alone[:2]] == [r["loss"] for r in records[:2]], "a first contact has nothing of its own"
    assert [r["loss"] for r in alone[2:]] != [r["loss"] for r in records[2:]]


def test_a_model(folder: Path, tmp_path: Path) -> None:
    own = [word for word in OWN_TASK if not word.startswith("model.")]
    search_path = f"hydra.searchpath=[file://{folder / 'mine'}]"
    words = [search_path, *own, *SMALL, "data_dir=data", "task=arrow", "model=small", "model.width=4"]
    run(compose("base", words), run_dir=tmp_path)
    assert np.load(tmp_path / "round-2-weights.npz")["backbone.conv2.weight"].shape == (4, 4, 3, 3, 3)
    words = ["finetune", "--config-dir", "mine", "model=small", "data_dir=data", "data.num_classes=2"]
    config = read_command_line("finetune", words)
    assert build_task(config).recognizer.backbone.out_channels == 32


def test_a_protocol(folder: Path) -> None:
    for part, numbers in {"train": (0, 1), "test": (2,)}.items():
        own = [Annotation(f"Class{label}/v{label}_{number}", label) for label in range(2) for number in numbers]
        write_annotations(folder / f"data/ucf101/annotations/{part}_split_1.json", own)
    words = [
        "checkpoint=random",
        "data_dir=data",
        "model.depth=10",
        "model.width=4",
        "data.num_classes=2",
        "device=cpu",
    ]
    words += ["test_sample.clip_len=4", "test_sample.size=[48,36]", "test_sample.crop_size=32", "work_dir=tested"]
    assert evaluate.main(argv=["mine/centroid.yaml", "--config-dir=mine", *words, "num_workers=0"]) == 0
    report = read_json(folder / "tested/centroid.json")
    assert report["rows"]["random"].keys() == {"top1_acc"} and len(report["intervals"]["random"]["top1_acc"]) == 2
    assert not (folder / "tested/centroid.png").exists()


def test_a_medium(folder: Path, tmp_path: Path) -> None:
    rng, lists = np.random.default_rng(0), folder / "data/ucf101/annotations/client_distribution"
    for number in (1, 2):
        names = [
            Annotation(f"{video.name}.npy", video.label)
            for video in read_annotations(lists / f"client_dist{number}.json")
        ]
        for video in names:
            np.save(folder / "data/ucf101/zips" / video.name, rng.integers(0, 255, (9, 36, 40, 3), dtype=np.uint8))
        write_annotations(tmp_path / f"lists/client_dist{number}.json", names)
    records = train(folder, tmp_path / "run", "task=arrow_of_arrays", f"partition_dir={tmp_path / 'lists'}")
    assert [record["num_examples"] for record in records] == [3, 4, 3, 4]
