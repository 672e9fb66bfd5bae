"""From a pre-training that has seen test videos over its conversion and fine-tuning to the test."""

import json
from pathlib import Path

import pytest

from fedvssl import evaluate, export, finetune, finetune_preprocess
from fedvssl import test as test_command
from fedvssl.data.annotations import Annotation, read_annotations, write_annotations
from fedvssl.data.seen import SEEN_FILE, allowed_numbers, read_seen, seen_videos
from fedvssl.files.arrays import save_arrays
from fedvssl.files.tensors import to_arrays
from fedvssl.models.r3d import R3D
from tests.action_set import TINY, TINY_TEST, write_action_set

ALLOW = "data.allow_test_videos=true"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return write_action_set(tmp_path / "data", num_train=3, num_test=4)


def listed(data_dir: Path, part: str) -> list[Annotation]:
    return read_annotations(data_dir / f"ucf101/annotations/{part}_split_1.json")


@pytest.fixture
def weights(data_dir: Path, tmp_path: Path) -> Path:
    """A round of clients that had two test videos without leave."""
    path = tmp_path / "run/round-2-weights.npz"
    save_arrays(path, {f"backbone.{name}": array for name, array in to_arrays(R3D(10, width=4)).items()})
    own = [*listed(data_dir, "train"), *listed(data_dir, "test")[:2]]
    save_arrays(path.parent / SEEN_FILE, seen_videos("ucf101", own, stage="pre-training", allowed=[]))
    return path


def train(data_dir: Path, tmp_path: Path, pretrained: Path | None, *more: str) -> int:
    start = "from_scratch=true" if pretrained is None else f"pretrained={pretrained}"
    places = [f"data_dir={data_dir}", f"work_dir={tmp_path / 'work'}"]
    return finetune.main(["finetune", *TINY, *places, start, "training.epochs=1", *more])


def run_test(data_dir: Path, tmp_path: Path, *more: str) -> int:
    return test_command.main(["test", *TINY_TEST, f"data_dir={data_dir}", f"work_dir={tmp_path / 'work'}", *more])


def test_what_pre_training_has_seen_reaches_the_test(data_dir: Path, weights: Path, tmp_path: Path, capsys) -> None:
    converted, model = tmp_path / "model_pretrained.pth", ["model.depth=10", "model.width=4"]
    assert finetune_preprocess.main([f"--pretrained_model_path={weights}", f"--output_path={converted}", *model]) == 0
    for pretrained in (weights, converted):
        assert train(data_dir, tmp_path, pretrained) == 2
        sentence = f"{pretrained} had 2 of the 4 test videos in its pre-training, such as Climb/test0"
        assert sentence in capsys.readouterr().err and not (tmp_path / "work").exists()
    assert train(data_dir, tmp_path, converted, ALLOW) == 0
    assert allowed_numbers(read_seen(tmp_path / "work/last.pth")) == {"pre-training": 2}
    assert run_test(data_dir, tmp_path) == 0, "what its training was allowed need not be allowed again"
    assert json.loads((tmp_path / "work/test.json").read_text())["seen"] == {"pre-training": 2}
    assert "; pre-training had 2 of these videos; " in capsys.readouterr().out


def test_the_split_of_a_fine_tuning_is_no_test_of_another(data_dir: Path, tmp_path: Path, capsys) -> None:
    annotations = data_dir / "ucf101/annotations"
    write_annotations(
        annotations / "test_split_2.json", [*listed(data_dir, "test")[:2], *listed(data_dir, "train")[:1]]
    )
    assert train(data_dir, tmp_path, None) == 0
    assert run_test(data_dir, tmp_path) == 0
    assert run_test(data_dir, tmp_path, "data.split=2") == 2
    assert "last.pth had 1 of the 3 test videos in its fine-tuning, such as Climb/train0" in capsys.readouterr().err


def test_lists_of_one_split_that_share_videos_are_refused(data_dir: Path, tmp_path: Path, capsys) -> None:
    write_annotations(
        data_dir / "ucf101/annotations/train_split_1.json", [*listed(data_dir, "train"), *listed(data_dir, "test")[2:]]
    )
    assert train(data_dir, tmp_path, None) == 2
    assert "train_split_1.json has 2 of the 4 test videos of split 1, such as Climb/test3" in capsys.readouterr().err


def judge(protocol: str, data_dir: Path, checkpoint: object, *more: str) -> int:
    return evaluate.main(protocol, [*TINY_TEST, f"data_dir={data_dir}", f"checkpoint={checkpoint}", *more])


def test_evaluations_refuse_or_tell_what_pre_training_has_seen(data_dir: Path, weights: Path, capsys) -> None:
    assert judge("knn", data_dir, weights) == 2
    assert "had 2 of the 4 test videos in its pre-training, such as Climb/test0: evaluate" in capsys.readouterr().err
    assert judge("knn", data_dir, weights, ALLOW) == 0
    assert "; pre-training had 2 of these videos; " in capsys.readouterr().out
    report = json.loads(next(weights.parent.rglob("knn.json")).read_text())
    assert report["seen"] == {"pre-training": 2}


@pytest.mark.parametrize("protocol", ["retrieval", "motion_probe"])
def test_a_gallery_with_test_videos_is_refused(protocol: str, data_dir: Path, tmp_path: Path, capsys) -> None:
    write_annotations(
        data_dir / "ucf101/annotations/train_split_1.json", [*listed(data_dir, "train"), *listed(data_dir, "test")[2:]]
    )
    assert judge(protocol, data_dir, "random", f"work_dir={tmp_path}") == 2
    assert "train_split_1.json has 2 of the 4 test videos of split 1, such as Climb/test3" in capsys.readouterr().err


def test_an_export_passes_the_record_on(weights: Path, tmp_path: Path) -> None:
    words = [f"checkpoint={weights}", f"out_dir={tmp_path / 'export'}", "formats=[pth]", "model.depth=10"]
    assert export.main([*words, "model.width=4", "clip_len=8", "crop_size=32"]) == 0
    before, after = (read_seen(path)["pre-training"].tolist() for path in (weights, tmp_path / "export/backbone.pth"))
    assert len(before) == 5 and after == before
