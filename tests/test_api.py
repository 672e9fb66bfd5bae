"""The Python API: what is public, what it loads, and the README's lines and the notebook on synthetic videos."""

import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import fedvssl
from fedvssl import api
from fedvssl.config import compose, parse_overrides
from fedvssl.files.arrays import save_arrays
from fedvssl.models.r3d import R3D
from tests.federation import TINY, write_clients
from tests.run_folders import write_lines

ROOT = Path(__file__).parent.parent
SIZES = ("eval.sample.size=[43,32]", "eval.sample.crop_size=32", "eval.sample.clip_len=4", "eval.sample.num_clips=2")
WORDS = (*TINY[:-1], *SIZES, "engine=local", "pool_size=2", "strategy.min_fit_clients=2")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder as its training leaves it, with videos in data/, and the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = Path("outputs/2026-01-31/12-00-00/mine")
    folder.mkdir(parents=True)
    config = compose("base", parse_overrides(WORDS), resolve=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    state = R3D(depth=10, width=4).state_dict()
    save_arrays(folder / "round-2-weights.npz", {f"backbone.{name}": value.numpy() for name, value in state.items()})
    client = {"server_round": 2, "partition_id": 0, "loss": 7.0}
    write_lines(folder / "metrics.jsonl", [{"server_round": n, "loss": n / 2} for n in (1, 2)] + [client])
    write_clients(Path("data"), (2, 1))
    return folder


def test_the_public_names_are_there_and_nothing_is_loaded_before():
    code = "import sys, fedvssl; print(sorted({'torch', 'numpy', 'hydra', 'yaml'} & {*sys.modules})); "
    code += "print(fedvssl.Run.__name__, 'torch' in sys.modules); print({*fedvssl.__all__} <= {*dir(fedvssl)})"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout
    assert shown == "[]\nRun False\nTrue\n"
    assert fedvssl.__all__ == ["Features", "Run", "features", "load_backbone", "train"]
    assert all(getattr(fedvssl, name) is getattr(api, name) and getattr(api, name).__doc__ for name in fedvssl.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        fedvssl.trian  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_a_run_tells_its_settings_records_and_checkpoint(run):
    found = fedvssl.Run("mine")
    assert found.folder == fedvssl.Run().folder == fedvssl.Run(run).folder == run and "mine" in repr(found)
    assert found.settings()["pool_size"] == 2 and found.checkpoint() == run / "round-2-weights.npz"
    assert [record["loss"] for record in found.metrics()] == [0.5, 1.0]
    assert [record["loss"] for record in found.metrics(clients=True)] == [7.0]
    found.checkpoint().unlink()
    with pytest.raises(ValueError, match=r"has no round and no last\.pth yet"):
        found.checkpoint()
    with pytest.raises(ValueError, match="no run of this name in outputs or this folder has the config"):
        fedvssl.Run("none")


@pytest.mark.parametrize("source", ["last", "12-00-00", "outputs/2026-01-31/12-00-00/mine/round-2-weights.npz"])
def test_a_backbone_comes_with_the_settings_of_its_run(source, run):
    backbone = fedvssl.load_backbone(source)
    assert not backbone.training and backbone(torch.zeros(1, 3, 4, 32, 32)).shape[:2] == (1, 32)
    settings = backbone.settings
    assert settings["model"]["depth"] == 10 and settings["sample"]["clip_len"] == 4
    assert settings["checkpoint"] == str(run / "round-2-weights.npz")


def test_overrides_take_the_place_of_the_settings_of_a_run(run):
    words = ["model.depth=10", "model.width=4", "clip_len=8", "crop_size=32"]
    assert fedvssl.load_backbone("mine", *words).settings["sample"]["clip_len"] == 8
    with pytest.raises(ValueError, match="round-2-weights"):
        fedvssl.load_backbone("mine", "model.depth=18")


@pytest.mark.parametrize("target", ["os.system", "fedvssl.files.ending.subprocess.run", "fedvssl.tasks.vcop.os.system"])
def test_a_folder_from_elsewhere_does_not_choose_what_runs(target, run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["eval"]["sample"]["_target_"] = target
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match=f"config.yaml names {target}: give the settings of the model as overrides"):
        fedvssl.load_backbone("mine")


def test_features_are_those_of_the_files_in_order(run):
    backbone, folder = fedvssl.load_backbone("mine"), Path("data/ucf101/zips")
    found = fedvssl.features(folder, backbone, batch_size=2, device="cpu")
    assert found.names == ["Class0/v0_0.zip", "Class0/v0_1.zip", "Class1/v1_0.zip"]
    assert found.array.shape == (3, 32) and found.array.dtype == np.float32
    alone = fedvssl.features([folder / "Class1/v1_0.zip", str(folder / "Class0")], backbone, device="cpu")
    assert alone.names == [str(folder / "Class1/v1_0.zip"), "v0_0.zip", "v0_1.zip"]
    np.testing.assert_allclose(alone.array, found.array[[2, 0, 1]], rtol=1e-4, atol=1e-5)
    for media, sentence in (("none", "There is no none"), (Path("outputs"), "No video or picture in outputs")):
        with pytest.raises(ValueError, match=sentence):
            fedvssl.features(media, backbone)
    with pytest.raises(ValueError, match=r"has no `\.settings`: load it with fedvssl\.load_backbone"):
        fedvssl.features(folder, torch.nn.Identity())


def test_a_mistake_in_a_training_is_the_sentence_of_the_command(run):
    with pytest.raises(ValueError, match="engine=none is unknown: choose"):
        fedvssl.train(engine="none", data_dir="data")


def test_settings_become_words(monkeypatch):
    def popen(command: list[str], **_: object) -> None:
        seen.extend(command)
        raise RuntimeError("not started")

    seen: list[str] = []
    monkeypatch.setattr(api.subprocess, "Popen", popen)
    with pytest.raises(RuntimeError, match="not started"):
        fedvssl.train("a=1", run_dir="x y", strategy={"rule": {"b": None}}, share=["c", True], rounds=3)
    assert seen[4:] == ["a=1", "--strategy.rule.b=null", "--share=[c,true]", "--rounds=3", "--hydra.run.dir=x y"]


def test_the_lines_of_the_readme_run(run, monkeypatch, capsys):
    (block,) = re.findall(r"```python\n(import fedvssl\n.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(block.splitlines()) <= 10
    short = {"rounds=20": "rounds=1"}
    monkeypatch.setattr(fedvssl, "train", partial(api.train, *WORDS))
    exec(re.sub("|".join(short), lambda found: short[found[0]], block), {})
    assert capsys.readouterr().out.endswith("round-1-weights.npz\n(3, 32) Class0/v0_0.zip\n")


def test_the_notebook_runs_and_holds_no_outputs(tmp_path, monkeypatch):
    notebook = json.loads((ROOT / "docs/notebooks/first_steps.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    names: dict = {}
    for cell in cells:
        exec("".join(cell["source"]), names)
    assert len(names["found"].names) == 10 and len(names["run"].metrics()) == 2
