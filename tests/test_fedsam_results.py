"""Results of Segment-Anything in a federation: the test command, its table and pictures, and the exported folder."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from data_tools import partition
from fedvssl import export
from fedvssl import test as command
from fedvssl.config import compose
from fedvssl.files.arrays import load_arrays
from fedvssl.main import run
from fedvssl.overlaps import outline, overlay, source_of, summary_of
from tests.mask_set import prepare_shapes
from tests.tiny_sam import RUN, SMALL, tiny_sam

NUM_TEST = 3


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    lists = prepare_shapes(folder / "shapes", number=12) / "annotations"
    partition.main([f"--json_path={lists}", f"--output_path={lists / 'clients2'}", "--method=by-owner"])
    return folder


@pytest.fixture(scope="module")
def trained(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("run")
    run(compose("base", [*RUN, f"data_dir={data_dir}", "rounds=1"]), run_dir=run_dir)
    return run_dir


def words(data_dir: Path, work_dir: Path, checkpoint: Path | None, *others: str) -> list[str]:
    named = [] if checkpoint is None else [f"checkpoint={checkpoint}"]
    own = ["test", "experiment=fedsam_small", f"data_dir={data_dir}", "data.name=shapes", *SMALL, *named]
    return [*own, f"work_dir={work_dir}", "device=cpu", "num_workers=0", *others]


def test_a_test_writes_overlaps_by_class_and_owner_and_pictures(
    data_dir: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(words(data_dir, tmp_path, trained / "round-1-weights.npz", "overlays=2")) == 0
    told, result = capsys.readouterr().out, json.loads((tmp_path / "test.json").read_text())
    assert "zero-shot: none, as this model has random weights" in told and "box IoU" in told
    with (tmp_path / "objects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == result["num_objects"] == sum(own["num_objects"] for own in result["per_class"].values())
    for name in ("iou", "dice", "box_iou", "box_dice"):
        assert result[name] == pytest.approx(np.mean([float(row[name]) for row in rows]), abs=1e-4)
        low, high = result["intervals"][name]
        assert low <= result[name] <= high
    assert {*result["per_class"]} <= {"1", "2"} and {*result["per_owner"]} <= {"owner1", "owner2"}
    drawn = sorted((tmp_path / "overlays").glob("*.png"))
    assert len(drawn) == 2 and cv2.imread(str(drawn[0])).shape == (256, 256, 3)
    assert command.main(words(data_dir, tmp_path, trained / "round-1-weights.npz", "overlays=0")) == 0, "the same again"
    capsys.readouterr()
    assert command.main(words(data_dir, tmp_path, None)) == 2
    assert "result of other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        (["checkpoint=nowhere.npz"], "No checkpoint nowhere.npz"),
        (["seed=8"], "trained around random weights of seed=7"),
        (["model.window=2"], "trained around another model"),
        (["devices=2"], "runs in one process"),
        (["data.split=2"], "No annotation file"),
    ],
)
def test_mistakes_get_a_sentence(
    others: list[str], sentence: str, data_dir: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = None if others[0].startswith("checkpoint") else trained / "round-1-weights.npz"
    assert command.main(words(data_dir, tmp_path, checkpoint, *others)) == 2
    assert sentence in capsys.readouterr().err


def test_pictures_that_were_trained_on_are_refused(
    data_dir: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = data_dir / "shapes/annotations"
    (lists / "test_split_9.json").write_text((lists / "train_split_1.json").read_text())
    assert command.main(words(data_dir, tmp_path, trained / "round-1-weights.npz", "data.split=9")) == 2
    assert "test videos in its pre-training" in capsys.readouterr().err


def test_the_exported_folder_is_the_whole_model_and_a_base_to_go_on_from(
    data_dir: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import SamModel

    out_dir = tmp_path / "model"
    assert export.main([f"checkpoint={trained / 'round-1-weights.npz'}", f"out_dir={out_dir}"]) == 0
    state = SamModel.from_pretrained(out_dir, local_files_only=True).state_dict()
    for name, array in load_arrays(trained / "round-1-weights.npz").items():
        assert np.array_equal(state[name].numpy(), array)
    assert "120 of its" in (out_dir / "README.md").read_text()
    own = [word for word in words(data_dir, tmp_path / "one", None) if not word.startswith("model.")]
    sides = ["model=sam", f"model.weights={out_dir}", "test_sample.side=64", "test_sample.patch_size=8"]
    assert command.main([*own, *sides]) == 0
    again = json.loads((tmp_path / "one/test.json").read_text())
    assert command.main(words(data_dir, tmp_path / "two", trained / "round-1-weights.npz")) == 0
    first = json.loads((tmp_path / "two/test.json").read_text())
    assert again["iou"] == pytest.approx(first["iou"]), "the same masks from the folder alone"
    assert again["pretrained"] and not first["pretrained"]


def test_a_base_of_other_weights_than_the_runs_is_refused(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, other, run_dir = tmp_path / "first", tmp_path / "other", tmp_path / "run"
    tiny_sam(seed=1).save(first)
    tiny_sam(seed=2).save(other)
    sides = ["task.sample.side=64", "task.sample.patch_size=8", "rounds=1", f"data_dir={data_dir}"]
    plain = [word for word in RUN if not word.startswith("model.")]
    run(compose("base", [*plain, "model=sam", f"model.weights={first}", *sides]), run_dir=run_dir)
    checkpoint = run_dir / "round-1-weights.npz"
    tested = [word for word in words(data_dir, tmp_path / "test", checkpoint) if not word.startswith("model.")]
    tested += ["model=sam", "test_sample.side=64", "test_sample.patch_size=8", "overlays=0"]
    exported = ["model=sam", f"checkpoint={checkpoint}", "input=pictures"]
    for command_main, own in ((command.main, tested), (export.main, [*exported, f"out_dir={tmp_path / 'out'}"])):
        assert command_main([*own, f"model.weights={other}"]) == 2
        assert f"trained around {first}" in capsys.readouterr().err
        first.rename(moved := tmp_path / f"moved-{command_main.__module__}")
        assert command_main([*own, f"model.weights={moved}"]) == 0, "the same weights at another place"
        moved.rename(first)
        capsys.readouterr()


@pytest.mark.parametrize("change", ["formats", "lonely"])
def test_an_export_that_cannot_be_made_gets_a_sentence(
    change: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lonely = tmp_path / "round-1-weights.npz"
    lonely.write_bytes((trained / "round-1-weights.npz").read_bytes())
    own = ["model=sam_tiny", *SMALL, "input=pictures", f"checkpoint={lonely}", f"out_dir={tmp_path / 'out'}"]
    assert export.main([*own, *(["formats=[pth]"] if change == "formats" else [])]) == 2
    told = capsys.readouterr().err
    assert ("leave formats out" if change == "formats" else "holds no base of its model") in told
    assert not (tmp_path / "out").exists()


def test_pieces_of_a_picture_are_one_group_of_an_interval() -> None:
    assert source_of("a/1_y00064_x00000.bmp") == "a/1" and source_of("a/1.bmp") == "a/1.bmp"
    from fedvssl.data.annotations import Annotation

    pieces = [Annotation(f"{picture}_y00000_x{x:05}.bmp", 0) for picture in "abc" for x in range(40)]
    values = {"a": 0.2, "b": 0.5, "c": 0.8}
    rows = [
        {**dict.fromkeys(("iou", "dice", "box_iou", "box_dice"), values[piece.name[0]]), "index": index}
        for index, piece in enumerate(pieces)
    ]
    low, high = summary_of(rows, pieces)["intervals"]["iou"]
    assert (low, high) == (0.0, 1.0), "three pictures tell little, however many pieces they have"
    low, high = summary_of(rows[:1], pieces)["intervals"]["iou"]
    assert (low, high) == (0.0, 1.0)


def test_outlines_show_box_truth_and_prediction() -> None:
    numbers = np.zeros((8, 10), np.int32)
    numbers[2:6, 2:6] = 1
    drawing = overlay(np.zeros((8, 10, 3), np.uint8), numbers, [{"box": [1, 1, 7, 6], "mask": numbers == 1}])
    assert drawing.shape == (8 * 26, 10 * 26, 3)
    assert {tuple(colour) for colour in np.unique(drawing.reshape(-1, 3), axis=0).tolist()} == {
        (0, 0, 0),
        (255, 0, 255),
        (255, 220, 0),
    }
    assert outline(np.ones((3, 3), bool)).sum() == 8
    assert torch.equal(torch.from_numpy(outline(np.zeros((3, 3), bool))), torch.zeros(3, 3, dtype=torch.bool))
