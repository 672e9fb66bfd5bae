"""Validation videos in every command: held out in whole groups, and best.pth of fine-tuning is chosen on them."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedvssl import evaluate, finetune, finetune_epochs
from fedvssl import test as test_command
from fedvssl.config import compose
from fedvssl.data.annotations import Annotation, read_annotations, write_annotations
from fedvssl.data.dataset import SampleDataset
from fedvssl.data.split import Split
from fedvssl.data.validation import group_of, hold_out
from fedvssl.evaluation.intervals import interval, wilson
from fedvssl.files.predictions import from_digits, read_right
from fedvssl.files.tensors import load_torch, save_torch
from fedvssl.server_evaluation import build_evaluations
from tests.action_set import CLASSES, TINY, TINY_TEST
from tests.federation import initial_arrays, tiny_config
from tests.test_finetune import equal, records
from tests.videos import moving_square, write_frames

HELD_OUT = ["data.validation=0.25", "data.validation_seed=3"]
WORDS = "validation videos in 3 groups (held out in whole groups)"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes with four groups of two clips; there is no test list."""
    folder, listed = tmp_path_factory.mktemp("data"), []
    for label, name in enumerate(CLASSES):
        for group in range(4):
            for clip in (1, 2):
                frames = moving_square(num_frames=20, height=36, width=48, seed=10 * group + clip)
                frames[..., label] //= 4
                listed.append(Annotation(f"{name}/v_{name}_g{group:02}_c{clip:02}", label))
                write_frames(folder / f"ucf101/zips/{listed[-1].name}.zip", frames)
    write_annotations(folder / "ucf101/annotations/train_split_1.json", listed)
    return folder


def split_of(data_dir: Path) -> tuple[list[str], list[str]]:
    """Names of the training and of the held-out videos."""
    listed = read_annotations(data_dir / "ucf101/annotations/train_split_1.json")
    train, held_out = hold_out(listed, 0.25, seed=3)
    return [video.name for video in train], [video.name for video in held_out]


def groups(names: Sequence[str]) -> set[str]:
    return {re.sub(r"_c\d+$", "", name) for name in names}


def train(data_dir: Path, work_dir: Path, *more: str) -> int:
    return finetune.main(
        ["finetune", *TINY, f"data_dir={data_dir}", f"work_dir={work_dir}", "from_scratch=true", *more]
    )


class Spy:
    """Remembers the videos of the datasets that functions of the commands are called with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch, self.seen = monkeypatch, {}

    def watch(self, module: Any, name: str, datasets: Callable[..., dict[str, SampleDataset]]) -> None:
        """Watch a function; `datasets` takes its arguments and returns the dataset of each part."""
        original = getattr(module, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            for part, dataset in datasets(*args).items():
                self.seen[part] = [video.name for video in dataset.annotations]
            return original(*args, **kwargs)

        self.monkeypatch.setattr(module, name, watched)


def run_finetune(data_dir: Path, folder: Path, spy: Spy) -> None:
    spy.watch(finetune_epochs, "train_loader", lambda dataset: {"train": dataset})
    spy.watch(finetune_epochs, "predict", lambda _fabric, _task, dataset: {"test": dataset})
    assert train(data_dir, folder, *HELD_OUT, "training.epochs=1") == 0


def run_test(data_dir: Path, folder: Path, spy: Spy) -> None:
    assert train(data_dir, folder, *HELD_OUT, "training.epochs=1") == 0
    spy.watch(test_command, "predict", lambda _fabric, _task, dataset: {"test": dataset})
    assert test_command.main(["test", *TINY_TEST, f"data_dir={data_dir}", f"work_dir={folder}", *HELD_OUT]) == 0


def run_protocol(name: str) -> Callable[[Path, Path, Spy], None]:
    def run(data_dir: Path, folder: Path, spy: Spy) -> None:
        spy.watch(evaluate, "extract_rows", lambda _fabric, _backbones, datasets: datasets)
        words = [*TINY_TEST, f"data_dir={data_dir}", "checkpoint=random", f"work_dir={folder}", *HELD_OUT]
        assert evaluate.main(name, [*words, f"feature_dir={folder}"]) == 0

    return run


def run_monitor(data_dir: Path, folder: Path, spy: Spy) -> None:
    sample = ("eval.sample.size=[43,32]", "eval.sample.crop_size=32", "eval.sample.num_clips=1")
    evaluations = build_evaluations(tiny_config(data_dir, "eval.every=2", "eval.num_classes=3", *sample, *HELD_OUT))
    assert evaluations is not None
    for datasets in (evaluations.monitor.datasets, *evaluations.monitor.own_datasets.values()):
        spy.seen = {part: [video.name for video in dataset.annotations] for part, dataset in datasets.items()}
        assert {*spy.seen["test"]} == {*split_of(data_dir)[1]}


COMMANDS = {
    **{"finetune": run_finetune, "test": run_test, "monitor": run_monitor},
    **{name: run_protocol(name) for name in ("retrieval", "knn", "linear_probe", "motion_probe")},
}


@pytest.mark.parametrize("command", COMMANDS)
def test_queries_are_the_held_out_videos_and_training_knows_none_of_their_groups(
    command: str, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, caplog
) -> None:
    caplog.set_level("INFO")
    spy = Spy(monkeypatch)
    COMMANDS[command](data_dir, tmp_path, spy)
    train_names, held_out = split_of(data_dir)
    assert len(held_out) == 6 and spy.seen["test"] == held_out
    assert not groups(held_out) & groups(train_names)
    if command == "test":
        assert [*spy.seen] == ["test"]
    else:
        assert sorted(spy.seen["train"]) == sorted(train_names)
    said = f"6 of 6 {WORDS}, of 3 of 3 classes" if command == "monitor" else f"6 {WORDS}, 1 CPU process"
    assert said in capsys.readouterr().out + caplog.text
    for path in [path for name in (command, "test") for path in tmp_path.glob(f"{name}.json")]:
        facts = {"part": "validation", "validation": 0.25, "validation_seed": 3, "held_out": "in whole groups"}
        assert facts.items() <= json.loads(path.read_text()).items()


@pytest.mark.parametrize("protocol", ["retrieval", "motion_probe"])
def test_intervals_of_an_evaluation_are_over_groups(
    protocol: str, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_protocol(protocol)(data_dir, tmp_path, Spy(monkeypatch))
    report, held_out = json.loads((tmp_path / f"{protocol}.json").read_text()), split_of(data_dir)[1]
    assert report["num_groups"] == 3
    for row, found in report["right"].items():
        for metric, digits in found.items():
            expected = interval(from_digits(digits), [group_of(name) for name in held_out])
            assert report["intervals"][row][metric] == pytest.approx(expected)
            assert expected != wilson(report["rows"][row][metric], 6)


def test_intervals_of_a_test_and_of_the_epochs_before_it_are_over_groups(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_test(data_dir, tmp_path, Spy(monkeypatch))
    result, (names, right) = json.loads((tmp_path / "test.json").read_text()), read_right(tmp_path / "predictions.csv")
    expected = interval(right["top1_acc"], [group_of(name) for name in names])
    assert result["intervals"]["top1_acc"] == pytest.approx(expected) and result["num_groups"] == 3
    assert expected != wilson(result["top1_acc"], 6)
    last = records(tmp_path)[-1]
    ends = [last[f"validation_top1_acc_{end}"] for end in ("low", "high")]
    assert ends != pytest.approx(wilson(last["validation_top1_acc"], 6))


def test_intervals_between_rounds_are_over_groups(data_dir: Path, tmp_path: Path) -> None:
    sample = ("eval.sample.size=[43,32]", "eval.sample.crop_size=32", "eval.sample.num_clips=1")
    config = tiny_config(data_dir, "eval.every=2", "eval.num_classes=3", *sample, *HELD_OUT)
    evaluations = build_evaluations(config)
    assert evaluations is not None
    found = evaluations.monitor(initial_arrays(config), label="now")
    ends = [found[f"eval_R@1_{end}"] for end in ("low", "high")]
    assert ends != pytest.approx(wilson(found["eval_R@1"], 6)) and 0 <= ends[0] <= ends[1] <= 1


def test_tables_name_the_part(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    run_test(data_dir, tmp_path, Spy(monkeypatch))
    assert f"\n6 {WORDS} of ucf101 split 1, 2 clips each" in capsys.readouterr().out
    run_protocol("knn")(data_dir, tmp_path, Spy(monkeypatch))
    assert f"\n6 {WORDS} and 18 training videos of ucf101 split 1" in capsys.readouterr().out


def test_an_evaluation_beside_the_checkpoint_has_a_folder_of_its_own() -> None:
    data, place = Split.of(compose("knn", [])["data"]), {"checkpoint": "run/round-2-weights.npz"}
    splits = [replace(data, validation=wanted) for wanted in (None, 0.2)]
    folders = [evaluate.result_folder(None, "knn", {}, data=own, **place).name for own in splits]
    assert folders == ["round-2-weights-ucf101-split1", "round-2-weights-ucf101-split1-validation"]


@pytest.mark.parametrize(
    ("trained", "tested", "refused"),
    [
        ([], HELD_OUT, True),
        (HELD_OUT, [*HELD_OUT[:1], "data.validation_seed=4"], True),
        (HELD_OUT, HELD_OUT, False),
    ],
)
def test_validation_videos_that_the_recognizer_was_trained_on_are_refused(
    trained: list[str], tested: list[str], refused: bool, data_dir: Path, tmp_path: Path, capsys
) -> None:
    settings = {"data.name": "ucf101", "data.split": 1, "data.validation": None, "data.validation_seed": 0}
    if trained:
        settings |= {"data.validation": 0.25, "data.validation_seed": 3}
    assert train(data_dir, tmp_path, *HELD_OUT, "training.epochs=1") == 0
    checkpoint = load_torch(tmp_path / "last.pth")
    assert settings.keys() <= checkpoint["settings"].keys()
    save_torch(tmp_path / "last.pth", {**checkpoint, "settings": checkpoint["settings"] | settings})
    code = test_command.main(["test", *TINY_TEST, f"data_dir={data_dir}", f"work_dir={tmp_path}", *tested])
    told = capsys.readouterr().err
    assert code == (2 if refused else 0)
    assert ("was trained on some of these validation videos: it had data.validation=" in told) == refused
    words = [*TINY_TEST, f"data_dir={data_dir}", f"checkpoint={tmp_path / 'last.pth'}", *tested]
    assert evaluate.main("knn", words) == (2 if refused else 0)


def scripted(monkeypatch: pytest.MonkeyPatch, *top1_accs: float) -> None:
    """Let the evaluations of fine-tuning find these accuracies, one after the other."""
    found = iter(top1_accs)
    monkeypatch.setattr(
        finetune.Run, "evaluate", lambda _run: {"top1_acc": next(found), "top1_acc_low": 0.1, "top1_acc_high": 0.7}
    )


def test_best_is_the_first_epoch_with_the_best_validation_accuracy(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    scripted(monkeypatch, 0.2, 0.6, 0.6, 0.4)
    assert train(data_dir, tmp_path, *HELD_OUT, "training.epochs=4") == 0
    assert [record["validation_top1_acc"] for record in records(tmp_path)] == [0.2, 0.6, 0.6, 0.4]
    assert not any("test_top1_acc" in record for record in records(tmp_path))
    best, last = load_torch(tmp_path / "best.pth"), load_torch(tmp_path / "last.pth")
    assert (best["epoch"], last["epoch"], last["best_top1_acc"]) == (2, 4, 0.6)
    assert best["settings"]["data.validation"] == 0.25 and "contents of test list" not in best["settings"]
    said = capsys.readouterr().out
    assert f"18 training and 6 {WORDS}" in said and "validation top-1 60.0 % [10.0, 70.0]" in said
    assert f"python -m fedvssl.test test checkpoint={tmp_path / 'best.pth'}" in said


def test_a_resumed_run_keeps_its_best_epoch(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, 0.6, 0.2, 0.4)
    for epochs in (1, 3):
        assert train(data_dir, tmp_path / "resumed", *HELD_OUT, f"training.epochs={epochs}") == 0
    scripted(monkeypatch, 0.6, 0.2, 0.4)
    assert train(data_dir, tmp_path / "whole", *HELD_OUT, "training.epochs=3") == 0
    for name in ("best.pth", "last.pth"):
        resumed, whole = (load_torch(tmp_path / folder / name) for folder in ("resumed", "whole"))
        assert equal(resumed, whole), name
    assert load_torch(tmp_path / "resumed/best.pth")["epoch"] == 1


def test_other_validation_videos_are_another_run(data_dir: Path, tmp_path: Path, capsys) -> None:
    assert train(data_dir, tmp_path, *HELD_OUT, "training.epochs=1") == 0
    assert train(data_dir, tmp_path, HELD_OUT[0], "training.epochs=1") == 2
    assert "data.validation_seed was 3 and is 0 now" in capsys.readouterr().err


def test_a_share_that_holds_nothing_out_is_a_sentence(data_dir: Path, tmp_path: Path, capsys) -> None:
    assert train(data_dir, tmp_path, "data.validation=1.5e-3") == 2
    assert "error: data.validation=0.0015 holds no sample out" in capsys.readouterr().err
