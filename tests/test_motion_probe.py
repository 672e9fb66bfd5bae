"""The command of the motion probe: its table and files, videos without classes, mistakes."""

import json
from pathlib import Path

import pytest

from fedvssl import evaluate as command
from fedvssl.building import build
from fedvssl.config import compose
from fedvssl.data.annotations import Annotation, read_annotations, write_annotations
from tests.action_set import TINY_TEST, write_action_set


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_action_set(tmp_path_factory.mktemp("data"))


def run(data_dir: Path, work_dir: Path, *more: str) -> int:
    words = [*TINY_TEST, f"data_dir={data_dir}", f"work_dir={work_dir}", f"feature_dir={work_dir / 'kept'}"]
    return command.main("motion_probe", [*words, "checkpoint=random", *more])


def report(work_dir: Path) -> dict:
    return json.loads((work_dir / "motion_probe.json").read_text())


def test_prints_the_rows_with_intervals_and_chance(data_dir, tmp_path, capsys):
    assert run(data_dir, tmp_path) == 0
    found, shown = report(tmp_path), capsys.readouterr().out
    assert list(found["rows"]) == ["random", "random initial", "mean frame"] and found["chance"] == {"top1_acc": 0.125}
    assert (found["num_train"], found["num_test"], found["num_clips"]) == (6, 11, 2)
    assert found["settings"]["test_sample"]["crop_size"] == 32, "the clips that were used"
    assert found["settings"]["test_sample"] == found["settings"]["protocol"]["sample"]
    lines = {line.split("  ")[0].strip(): line for line in shown.splitlines()}
    assert lines["chance"].split() == ["chance", "12.50"] and "[" in lines["random"] and "[" in lines["mean frame"]
    assert (tmp_path / "motion_probe.png").read_bytes().startswith(b"\x89PNG")


def test_a_repeated_command_gives_the_same_and_another_seed_other_clips(data_dir, tmp_path):
    assert run(data_dir, tmp_path) == 0
    first, kept = report(tmp_path), len(list((tmp_path / "kept").iterdir()))
    assert run(data_dir, tmp_path) == 0
    assert report(tmp_path) == first and len(list((tmp_path / "kept").iterdir())) == kept
    assert run(data_dir, tmp_path, "seed=8", f"work_dir={tmp_path / 'other'}") == 0
    assert len(list((tmp_path / "kept").iterdir())) == 2 * kept
    assert report(tmp_path / "other")["details"]["mean frame"] != first["details"]["mean frame"]


def test_classes_do_not_matter(data_dir, tmp_path):
    lists = tmp_path / "lists"
    for part, label in (("train", 0), ("test", 500)):
        annotations = read_annotations(data_dir / f"ucf101/annotations/{part}_split_1.json")
        write_annotations(lists / f"{part}_split_1.json", [Annotation(a.name, label) for a in annotations])
    assert run(data_dir, tmp_path / "a") == 0
    assert run(data_dir, tmp_path / "b", f"data.annotation_dir={lists}", "data.num_classes=1") == 0
    assert report(tmp_path / "a")["rows"] == report(tmp_path / "b")["rows"]


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("data.split=2", "No annotation file"),
        ("protocol.sample.velocity=1", "The window leaves the frames"),
        ("protocol.weight_decay=-1", "protocol.weight_decay=-1 must be a number, at least 0"),
        ("checkpoint=null", "Name the backbone with checkpoint=<file>"),
    ],
)
def test_mistakes_are_one_sentence(word, sentence, data_dir, tmp_path, capsys):
    assert run(data_dir, tmp_path, word) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and sentence in error


def test_the_command_and_the_evaluation_between_rounds_ask_the_same():
    alone = compose("motion_probe", ["crop_size=32"])["protocol"]
    between = compose("base", ["experiment=small"])["eval"]["protocols"]["motion_probe"]
    assert between == alone and build(alone).sample.side == 48
    small = compose("motion_probe", ["experiment=small"])["protocol"]
    assert small == alone, "settings of the recipe for small machines fit too"
