"""What is not there is told before PyTorch is imported, which fedvssl.early never does (tests/test_architecture.py)."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedvssl import early
from fedvssl.config import compose
from fedvssl.data.annotations import Annotation, write_annotations
from fedvssl.files.arrays import save_arrays

ROOT = Path(__file__).parent.parent


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of two lists, without a list of a client, and checkpoints that are none."""
    monkeypatch.chdir(tmp_path)
    for part in ("train", "test"):
        write_annotations(tmp_path / f"data/ucf101/annotations/{part}_split_1.json", [Annotation(part, 0)])
    (tmp_path / "data/ucf101/zips").mkdir()
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html>Not found</html>")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("command", "words", "sentence"),
    [
        ("retrieval", "checkpoint=none.npz", "No file none.npz: name a checkpoint with checkpoint=<file>"),
        ("knn", "", "Name the backbone with checkpoint=<file>"),
        ("evaluate", "retrieval knn checkpoint=page.pth", "page.pth is a web page"),
        ("linear_probe", "checkpoint=random data.split=2", "No annotation file data/ucf101/annotations/train_split_2"),
        ("motion_probe", "checkpoint=random data.media_dir=none", "No folder none: set data_dir"),
        (
            "semi",
            "checkpoint=random",
            "No file data/ucf101/annotations/client_distribution/labelled.json, which data.train_list names",
        ),
        ("finetune", "finetune", "No pre-trained backbone model_pretrained.pth"),
        ("finetune", "finetune from_scratch=true data_dir=none", "No annotation file none/ucf101"),
        ("test", "test", "No checkpoint finetune_results/last.pth: fine-tune first"),
        ("test", "test checkpoint=page.pth", "page.pth is a web page"),
        ("export", "checkpoint=none.pth", "No checkpoint none.pth"),
        ("sweep", "splits=[1,3]", "No annotation file data/ucf101/annotations/train_split_3.json: prepare"),
    ],
)
def test_what_is_not_there_is_told_early(data_dir, command, words, sentence, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        early.answered(command, words.split())
    assert ended.value.code == 2 and f"error: {sentence}" in capsys.readouterr().err


def test_what_a_command_does_not_read_need_not_be_there(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (data_dir / "ucf101/annotations/train_split_1.json").unlink()
    save_arrays(data_dir.parent / "last.pth", {"weight": np.zeros(1)})
    assert not early.answered("test", ["test", "checkpoint=last.pth"]), "a test reads no training list"
    assert not early.answered("export", ["checkpoint=last.pth"]), "an export reads no data"
    assert capsys.readouterr().out == 2 * "Loading PyTorch ...\n", "before seconds without a word"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not early.answered("test", ["test", "checkpoint=last.pth"]) and not capsys.readouterr().out


def test_training_tells_what_is_not_there_before_it_loads_torch(data_dir: Path) -> None:
    command = [sys.executable, "-m", "fedvssl.main", "engine=local"]
    for words, sentence in {
        "": "No client_dist<N>.json in data/ucf101/annotations/client_distribution",
        "init=none.npz": "No file none.npz, which init names",
    }.items():
        result = subprocess.run(
            [*command, *words.split()], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
        )
        assert (result.returncode, result.stdout) == (2, "") and result.stderr.startswith(f"error: {sentence}")


def test_a_run_that_goes_on_needs_no_file_that_it_began_from(data_dir: Path) -> None:
    write_annotations(data_dir / "ucf101/annotations/client_distribution/client_dist1.json", [Annotation("train", 0)])
    config = compose("base", ["init=none.npz", "pool_size=1"])
    early.look_for_files("main", config, begun=True)
    with pytest.raises(ValueError, match=r"No file none\.npz"):
        early.look_for_files("main", config)
