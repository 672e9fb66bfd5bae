"""The test command: every video once in any number of processes, its table and files, mistakes."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from fedvssl import test as command
from fedvssl.building import build_task
from fedvssl.config import compose
from fedvssl.data.annotations import read_annotations
from fedvssl.data.seen import for_pth, seen_videos
from fedvssl.evaluation.intervals import in_percent, wilson
from fedvssl.files.predictions import read_right
from fedvssl.files.tensors import load_torch, save_torch
from fedvssl.sweeping.comparison import ACCURACIES
from fedvssl.training.loop import seed_torch
from tests.action_set import CLASSES, TINY_TEST, write_action_set


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_action_set(tmp_path_factory.mktemp("data"), num_train=3, num_test=11)


@pytest.fixture
def work_dir(data_dir: Path, tmp_path: Path) -> Path:
    """Holds the last.pth of a recognizer whose answers differ between videos."""
    seed_torch((5,))
    config = compose("test", [*TINY_TEST, f"data_dir={data_dir}"])
    recognizer = build_task(config).recognizer
    torch.nn.init.normal_(recognizer.cls_head.fc_cls.weight)
    recognizer.cls_head.fc_cls.bias.data -= recognizer.cls_head.fc_cls.weight.data.sum(dim=1)
    save_torch(tmp_path / "last.pth", {"model": recognizer.state_dict(), "epoch": 12})
    return tmp_path


def arguments(data_dir: Path, work_dir: Path, *more: str) -> list[str]:
    return ["test", *TINY_TEST, f"data_dir={data_dir}", f"work_dir={work_dir}", *more]


def result_of(work_dir: Path) -> dict:
    return json.loads((work_dir / "test.json").read_text())


def test_writes_the_table_and_its_files(data_dir: Path, work_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(arguments(data_dir, work_dir)) == 0
    shown, result = capsys.readouterr().out, result_of(work_dir)
    assert "majority class" in shown and "chance (1/3)" in shown and "11 test videos of ucf101 split 1" in shown
    assert result["intervals"] == {name: list(wilson(result[name], 11)) for name in ("top1_acc", "top5_acc")}
    row = next(line for line in shown.splitlines() if line.startswith("recognizer "))
    accs = [in_percent(result[name], result["intervals"].get(name)) for name in ACCURACIES]
    assert row.split() == " ".join(["recognizer", *accs]).split() and "epoch 12" in shown
    assert result["num_videos"] == 11 and result["num_clips"] == 2 and result["top5_acc"] == 1.0
    assert result["chance"]["top1_acc"] == pytest.approx(1 / 3)
    assert result["majority_class"]["top1_acc"] == pytest.approx(4 / 11)
    assert (work_dir / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")


def test_per_class_accuracies_add_up(data_dir: Path, work_dir: Path) -> None:
    assert command.main(arguments(data_dir, work_dir)) == 0
    with (work_dir / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], row["label"], row["num_videos"]) for row in rows] == [
        *((name, str(label), videos) for label, (name, videos) in enumerate(zip(CLASSES, "443", strict=True))),
    ]
    hits = sum(float(row["top1_acc"]) * int(row["num_videos"]) for row in rows)
    assert hits / 11 == pytest.approx(result_of(work_dir)["top1_acc"], abs=1e-3)
    mean = sum(float(row["top1_acc"]) for row in rows) / 3
    assert mean == pytest.approx(result_of(work_dir)["mean_class_acc"], abs=1e-3)


def test_the_answers_to_each_video_are_in_the_order_of_the_list(data_dir: Path, work_dir: Path) -> None:
    assert command.main(arguments(data_dir, work_dir)) == 0
    with (work_dir / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    listed = [(f"{CLASSES[i % 3]}/test{i}", str(i % 3)) for i in range(11)]
    assert [(row["video"], row["label"]) for row in rows] == listed
    assert [row["label"] == row["answer"] for row in rows] == [row["top1_acc"] == "1" for row in rows]
    names, right = read_right(work_dir / "predictions.csv")
    assert names[0] == "Climb/test0" and all(right["top5_acc"])
    assert sum(right["top1_acc"]) / 11 == pytest.approx(result_of(work_dir)["top1_acc"])


@pytest.mark.parametrize(
    ("answers", "labels", "words"),
    [
        ([1] * 9 + [0], [0, 1, 2, 3, 0, 1, 2, 3, 0, 1], "90 % of the answers are Run, the class of 30 % of the videos"),
        ([3] * 10, [0, 1, 2, 0, 1, 2, 0, 1, 2, 0], "100 % of the answers are label 3, the class of 0 % of the videos"),
        ([1] * 8 + [0, 2], [0, 1, 2, 3, 0, 1, 2, 3, 0, 1], None),  # not nearly all
        ([1] * 10, [1] * 5 + [0] * 5, None),  # most videos are of this class
        ([0, 1, 2, 3] * 5, [0, 1, 2, 3] * 5, None),
    ],
)
def test_one_answer_to_nearly_everything_is_told(answers: list[int], labels: list[int], words: str | None) -> None:
    logits = torch.nn.functional.one_hot(torch.tensor(answers), 4).float()
    warning = command.same_answer(logits, torch.tensor(labels), dict(enumerate(CLASSES)), medium="video")
    assert warning is None if words is None else (warning or "").startswith(f"warning: {words}: ")


def test_the_warning_of_pictures_speaks_of_pictures() -> None:
    logits, names = torch.eye(4)[[1] * 10], dict(enumerate(CLASSES))
    warning = command.same_answer(logits, torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 1]), names, medium="picture")
    assert warning is not None and "the class of 30 % of the pictures" in warning


@pytest.mark.parametrize("bias", [[0.0, 100.0, 0.0], [0.0, 0.0, 0.0]])
def test_the_warning_is_one_line_below_the_table(
    data_dir: Path, work_dir: Path, capsys: pytest.CaptureFixture[str], bias: list[float]
) -> None:
    checkpoint = load_torch(work_dir / "last.pth")
    checkpoint["model"]["cls_head.fc_cls.bias"] += torch.tensor(bias)
    save_torch(work_dir / "last.pth", checkpoint)
    assert command.main(arguments(data_dir, work_dir)) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == (1 if any(bias) else 0)


def test_two_processes_give_the_numbers_of_one(data_dir: Path, work_dir: Path) -> None:
    results = {}
    for processes in (1, 2):
        words = arguments(data_dir, work_dir, f"devices={processes}")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "fedvssl.test", *words], env=environment, capture_output=True, text=True, timeout=550
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("11 test videos of") == 1
        files = ("per_class.csv", "predictions.csv")
        results[processes] = (result_of(work_dir), *((work_dir / name).read_text() for name in files))
    assert results[1] == results[2]
    assert 0 < results[1][0]["top1_acc"] < 1  # otherwise a lost video would not show


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        (["checkpoint=nowhere.pth"], "No checkpoint nowhere.pth"),
        (["data.num_classes=101"], "'cls_head.fc_cls.weight' is [3, 32]"),
        (["model.width=8"], "check model and data.num_classes"),
        (["model.depth=18"], "has no 'backbone.layer1.1.conv1.conv.weight'"),
        (["data_dir=nowhere"], "test_split_1.json"),
        (
            ["data_dir=nowhere", "data.num_classes=auto"],
            "No annotation file nowhere/ucf101/annotations/test_split_1.json",
        ),
        (["data.num_classes=few"], "data.num_classes=few must be auto or a whole number"),
        (["data.split=2"], "test_split_2.json"),
        (["clips=3"], "clips"),
        (["test_batch_size=0"], "test_batch_size=0 must be"),
        (["num_workers=-1"], "num_workers=-1 must be"),
        (["test_sample.num_clips=0"], "num_clips=0 must be"),
        (["crop_size=64"], "A crop of 64 pixels does not fit"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    data_dir: Path, work_dir: Path, capsys: pytest.CaptureFixture[str], mistake: list[str], sentence: str
) -> None:
    assert command.main(arguments(data_dir, work_dir, *mistake)) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1 and errors[0].startswith("error: ") and sentence in errors[0]
    assert not (work_dir / "test.json").exists()


@pytest.mark.parametrize("content", [[torch.zeros(2)], torch.zeros(2)], ids=["list", "tensor"])
def test_a_file_that_is_no_checkpoint_gets_a_sentence(
    data_dir: Path, work_dir: Path, capsys: pytest.CaptureFixture[str], content: object
) -> None:
    save_torch(work_dir / "odd.pth", content)
    assert command.main(arguments(data_dir, work_dir, f"checkpoint={work_dir / 'odd.pth'}")) == 2
    assert "odd.pth holds no named tensors" in capsys.readouterr().err


def test_what_the_disk_refuses_is_one_sentence(
    data_dir: Path, work_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work_dir / "test.json").mkdir()
    assert command.main(arguments(data_dir, work_dir)) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: Is a directory: ")


def test_a_missing_video_is_named_before_the_work(
    data_dir: Path, work_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_action_set(tmp_path / "other", num_train=1, num_test=3)
    (other / "ucf101/zips/Run/test1.zip").unlink()
    assert command.main(arguments(other, work_dir)) == 2
    assert "Run/test1" in capsys.readouterr().err


def test_a_test_of_other_settings_is_never_overwritten(
    data_dir: Path, work_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(arguments(data_dir, work_dir)) == 0 and command.main(arguments(data_dir, work_dir)) == 0
    result, kept = result_of(work_dir), (work_dir / "test.json").read_bytes()
    assert [result[name] for name in ("clip_len", "frame_stride", "size", "crop_size")] == [8, 2, [43, 32], 32]
    assert result["settings"]["precision"] == "32-true" and result["checkpoint_from_here"] == "last.pth"
    save_torch(work_dir / "best.pth", load_torch(work_dir / "last.pth"))
    for more, told in {
        "crop_size=24": "crop_size was 32 and is 24 now",
        "test_sample.num_clips=1": "num_clips was 2 and is 1 now",
        f"checkpoint={work_dir / 'best.pth'}": "checkpoint was last.pth and is best.pth now",
    }.items():
        capsys.readouterr()
        assert command.main(arguments(data_dir, work_dir, more)) == 2
        error = capsys.readouterr().err
        assert f"test.json is a result of other settings ({told}): name another work_dir" in error
    assert (work_dir / "test.json").read_bytes() == kept


def test_test_videos_that_training_had_are_refused_or_told(
    data_dir: Path, work_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tested = read_annotations(data_dir / "ucf101/annotations/test_split_1.json")
    seen = seen_videos("ucf101", tested[:3], stage="fine-tuning", allowed=[])
    save_torch(work_dir / "last.pth", {**load_torch(work_dir / "last.pth"), **for_pth(seen)})
    assert command.main(arguments(data_dir, work_dir)) == 2
    assert "last.pth had 3 of the 11 test videos in its fine-tuning, such as Climb/test0" in capsys.readouterr().err
    assert command.main(arguments(data_dir, work_dir, "data.allow_test_videos=true")) == 0
    assert result_of(work_dir)["seen"] == {"fine-tuning": 3}
    assert "; fine-tuning had 3 of these videos; " in capsys.readouterr().out


def test_a_class_name_is_no_formula(tmp_path):
    command.draw_confusion(tmp_path / "confusion.png", torch.eye(2), {0: "$a_$", 1: "b$"})
    assert (tmp_path / "confusion.png").stat().st_size


@pytest.mark.parametrize(("num_classes", "written"), [(3, 5), (40, 0)])
def test_few_classes_have_their_numbers_in_the_confusion_matrix(tmp_path, monkeypatch, num_classes, written):
    figures = []
    saved = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *words, **o: figures.append(self) or saved(self, *words, **o))
    confusion = torch.eye(num_classes, dtype=torch.int64) * 2
    confusion[0, 1] = confusion[1, 2] = 7
    command.draw_confusion(tmp_path / "x.png", confusion, {n: f"c{n}" for n in range(num_classes)})
    axes = figures[0].axes[0]
    assert sorted(text.get_text() for text in axes.texts) == sorted(["2", "2", "2", "7", "7"])[:written]
    right, whole = 2 * num_classes, 2 * num_classes + 14
    assert axes.get_title() == f"Answers by class: {right} of {whole} right ({100 * right / whole:.1f} %)"
    first = (tmp_path / "x.pdf").read_bytes()
    command.draw_confusion(tmp_path / "x.png", confusion, {n: f"c{n}" for n in range(num_classes)})
    assert first.startswith(b"%PDF") and first == (tmp_path / "x.pdf").read_bytes(), "no date in it"
