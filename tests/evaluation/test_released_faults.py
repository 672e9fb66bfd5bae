"""Faults of the evaluation in FedU's and FedEMA's released code: each check passes here and fails with its fault."""

from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import data_tools.partition
from fedvssl import finetune, finetune_epochs
from fedvssl.building import build, build_task
from fedvssl.config import compose
from fedvssl.data.annotations import Annotation, read_annotations, write_annotations
from fedvssl.evaluation import adam_probe, features, monitor
from fedvssl.evaluation.features import Features
from fedvssl.evaluation.knn import KNN
from fedvssl.files.tensors import load_torch, to_arrays
from fedvssl.server_evaluation import build_evaluations
from fedvssl.training.metrics import Accuracies, accuracies
from tests.evaluation.features import clusters
from tests.picture_set import PRETRAINING, TINY, write_picture_set
from tests.test_published_faults import fails


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_picture_set(tmp_path_factory.mktemp("data"))


# The classifier's accuracy is the mean over batches, in which a sample of the short last batch counts more.
def check_the_probe_counts_samples() -> None:
    train, test = clusters(30, num_classes=4, noise=4, seed=1), clusters(21, num_classes=4, noise=4, seed=2)
    probe = build(compose("linear_probe", ["probe=fedema", "protocol.num_classes=4", "protocol.epochs=3"])["protocol"])
    result = probe(train, test)
    assert 0 < result.metrics["top1_acc"] < 1
    assert result.metrics["top1_acc"] == sum(result.right["top1_acc"]) / len(test)


def mean_over_batches(logits: Tensor, labels: Tensor) -> Accuracies:
    parts = [asdict(accuracies(*part)) for part in zip(logits.split(4), labels.split(4), strict=True)]
    return Accuracies(**{field.name: float(np.mean([p[field.name] for p in parts])) for field in fields(Accuracies)})


def test_the_probe_counts_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    check_the_probe_counts_samples()
    monkeypatch.setattr(adam_probe, "accuracies", mean_over_batches)
    assert fails(check_the_probe_counts_samples)


# The nearest neighbours are those of the projector's outputs.
def check_neighbours_are_those_of_the_backbone(data_dir: Path) -> None:
    config = compose("base", [*PRETRAINING, "task=byol", "eval.every=1", f"data_dir={data_dir}"])
    torch.manual_seed(0)
    task, seen = build_task(config), []
    evaluations = build_evaluations(config)
    assert evaluations is not None
    evaluate = evaluations.monitor
    with pytest.MonkeyPatch.context() as patch:
        real = KNN.__call__
        patch.setattr(KNN, "__call__", lambda own, train, test: seen.append((train, test)) or real(own, train, test))
        assert evaluate(to_arrays(task), label="now")["eval_knn_top1_acc"] > 0
    found: tuple[Features, Features] = seen[0]
    for part, own in zip(("train", "test"), found, strict=True):
        options: dict[str, int] = {"batch_size": 64, "num_workers": 0}
        batches = features.compute(evaluate._fabric, evaluate.backbone, evaluate.datasets[part], **options)
        assert own.clips.shape[-1] == task.backbone.out_channels
        torch.testing.assert_close(own.clips, torch.cat([clips for clips, _ in batches]))
    assert torch.equal(evaluate.backbone.state_dict()["conv1.weight"], task.backbone.state_dict()["conv1.weight"])


def after_a_projector(*arguments: Any, real: Any = features.compute, **options: Any) -> Any:
    torch.manual_seed(0)
    for clips, grid in real(*arguments, **options):
        yield nn.Linear(clips.shape[-1], 8)(clips).detach(), grid


def test_neighbours_are_those_of_the_backbone(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_neighbours_are_those_of_the_backbone(data_dir)
    monkeypatch.setattr(monitor, "compute", after_a_projector)
    assert fails(check_neighbours_are_those_of_the_backbone, data_dir)


# The labelled part is the first samples of the list, whatever their classes.
def check_each_class_gives_its_share(folder: Path) -> None:
    annotations = [Annotation(f"{label}/{n}", label) for label, size in enumerate((40, 60, 100)) for n in range(size)]
    write_annotations(folder / "list.json", annotations)
    words = ["--json_path", str(folder / "list.json"), "--output_path", str(folder / "parts"), "--num_clients", "2"]
    data_tools.partition.main([*words, "--method", "iid", "--labelled_share", "0.1"])
    labels = [annotation.label for annotation in read_annotations(folder / "parts/labelled.json")]
    assert np.bincount(labels, minlength=3).tolist() == [4, 6, 10]


def first_of_the_list(labels: list[int], share: float, **_: Any) -> np.ndarray:
    return np.arange(round(share * len(labels)))


def test_each_class_gives_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_each_class_gives_its_share(tmp_path / "sound")
    monkeypatch.setattr(data_tools.partition, "draw_labelled", first_of_the_list)
    assert fails(check_each_class_gives_its_share, tmp_path / "faulty")


# Learning from few labels trains the head only, with no way to train the backbone.
def check_fine_tuning_moves_the_backbone(data_dir: Path, folder: Path) -> None:
    labelled = folder / "labelled.json"
    write_annotations(labelled, read_annotations(data_dir / "cifar10/annotations/train_split_1.json")[:12])
    words = [*TINY, f"data_dir={data_dir}", f"work_dir={folder}", "from_scratch=true", f"data.train_list={labelled}"]
    recipe = ["training.batch_size=6", "training.lr=0.1", "training.epochs=1", "training.eval_every=null"]
    config = compose("finetune", [*words, *recipe])
    start = finetune.build_recognition_task(partial(build_task, config), pretrained=None, seed=config["seed"])
    assert finetune.main(["finetune", *words, *recipe]) == 0
    before, after = start.recognizer.state_dict(), load_torch(folder / "last.pth")["model"]
    changed = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {name.split(".")[0] for name in after}
    for name in ("backbone.conv1.weight", "backbone.layer4.1.conv2.weight"):
        assert not torch.equal(after[name], before[name]), name


def head_only(fabric: Any, task: Any, *arguments: Any, real: Any = finetune_epochs.train_epoch, **options: Any) -> Any:
    task.module.recognizer.backbone.requires_grad_(False)
    return real(fabric, task, *arguments, **options)


def test_fine_tuning_moves_the_backbone(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_fine_tuning_moves_the_backbone(data_dir, tmp_path / "sound")
    monkeypatch.setattr(finetune_epochs, "train_epoch", head_only)
    assert fails(check_fine_tuning_moves_the_backbone, data_dir, tmp_path / "faulty")
