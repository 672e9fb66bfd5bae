"""What the other commands make of a round of split learning: its file is a whole backbone, both parts merged."""

import html
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fedvssl import evaluate, export, main, report
from fedvssl.building import build_task
from fedvssl.config import compose
from fedvssl.models.split_resnet import SplitResNet
from tests.picture_set import SIDE, write_picture_set
from tests.split.federation import MOCOSFL, SPLIT

# A 1x1 convolution of four channels and stride 2 corrupts memory in oneDNN (PyTorch 2.15, channels_last): width 8.
WORDS = (
    "model.width=8",
    "model.bottleneck=C4S2",
    "strategy.cut=narrow",
    "rounds=1",
    "eval.every=1",
    "eval.batch_size=12",
)
QUICK = ("num_workers=0", "device=cpu", "precision=32-true", f"crop_size={SIDE}")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_picture_set(folder)
    main.run(compose("base", [*SPLIT, *MOCOSFL, *WORDS, f"data_dir={folder}"]), run_dir=folder / "run")
    return folder / "run"


def test_evaluations_take_the_round_as_any_other(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = [f"data_dir={run_dir.parent}", f"feature_dir={run_dir / 'features'}"]
    protocols = ["retrieval", "knn", "linear_probe"]
    words = [f"checkpoint={run_dir / 'round-1-weights.npz'}", "model=split_resnet18", "input=pictures", *places]
    own = ["model.width=8", "model.bottleneck=C4S2", "data=cifar10", "data.num_classes=3", *QUICK]
    assert evaluate.main(argv=[*protocols, *words, *own]) == 0
    assert "24 test pictures and 36 training pictures" in capsys.readouterr().out
    for protocol in protocols:
        path = run_dir / f"evaluation/round-1-weights-cifar10-split1/{protocol}.json"
        rows = json.loads(path.read_text())["rows"]
        assert list(rows) == ["checkpoint", "random", "pixels"] and rows["checkpoint"] != rows["random"]


def test_the_exported_backbone_is_the_clients_part_before_the_servers(run_dir: Path, tmp_path: Path) -> None:
    words = [f"checkpoint={run_dir / 'round-1-weights.npz'}", "formats=[safetensors]", f"out_dir={tmp_path / 'out'}"]
    assert export.main(words) == 0
    backbone = SplitResNet(8, bottleneck="C4S2")
    backbone.load_state_dict(load_file(tmp_path / "out/backbone.safetensors"))
    stages = [name for name, _ in backbone.named_children()]
    assert stages[:3] == ["stem", "narrow", "widen"]
    stored = np.load(run_dir / "round-1-weights.npz")
    for name, tensor in backbone.state_dict().items():
        np.testing.assert_array_equal(tensor, stored[f"backbone.{name}"])
    assert torch.isfinite(backbone(torch.zeros(1, 3, SIDE, SIDE))).all()
    assert "SplitResNet" in (tmp_path / "out/README.md").read_text()


def test_the_report_tells_the_run(run_dir: Path, tmp_path: Path) -> None:
    assert report.main([str(run_dir), "--output", str(tmp_path / "page.html")]) == 0
    page = html.unescape((tmp_path / "page.html").read_text())
    assert "MocoSFL" in page and "SplitMoCo" in page


def test_rows_of_the_small_sweep_differ_in_the_method_alone() -> None:
    """Same network, pictures, clients, views and passes over them; batches and optimizers are of the methods."""
    words = compose("sweep", ["experiment=mocosfl_small"])
    found = {}
    for name in ("mocosfl", "fedmoco", "fedbyol"):
        row = words["rows"][name]["overrides"]
        config = compose("base", [*words["overrides"]["all"], *words["overrides"]["main"], *row])
        found[name] = (type(build_task(config).projector), config["task"]["sample"], config["model"])
        epochs, lists = config["training"]["local_epochs"], config["partition_dir"]
        assert (config["rounds"], epochs, lists) == (20, 1, "data/cifar10_5000/annotations/shards5")
    heads, samples, models = zip(*found.values(), strict=True)
    assert len({*heads}) == 2, "MocoSFL's head has no BatchNorm"
    assert samples[0] == samples[1] == samples[2] and models[0] == models[1] == models[2]
