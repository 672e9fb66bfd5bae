import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from fedvssl.data.annotations import Annotation
from fedvssl.evaluation.features import extract, load
from fedvssl.evaluation.knn import KNN
from fedvssl.evaluation.monitor import Monitor, spread
from fedvssl.evaluation.retrieval import Retrieval
from fedvssl.files.tensors import to_arrays
from fedvssl.models.r3d import R3D
from fedvssl.tasks.recognition import TestSample as Clips
from fedvssl.training.loop import build_fabric
from tests.action_set import write_action_set

SAMPLE = Clips(num_clips=2, clip_len=8, frame_stride=2, size=(43, 32), crop_size=32)
PROTOCOLS = {"R@1": Retrieval(ks=[1]), "knn_top1_acc": KNN(ks=[20], temperature=0.07)}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_action_set(tmp_path_factory.mktemp("data"))


def build(data_dir: Path, **changes) -> Monitor:
    settings = {
        **{"media_dir": data_dir / "ucf101/zips", "annotation_dir": data_dir / "ucf101/annotations"},
        **{"split": 1, "num_classes": 3, "max_videos": 100, "batch_size": 4, **changes},
    }
    return Monitor(R3D(10, width=4), settings, sample=SAMPLE, protocols=PROTOCOLS, device="cpu", precision="32-true")


def arrays(seed: int) -> dict:
    torch.manual_seed(seed)
    return {f"backbone.{name}": array for name, array in to_arrays(R3D(10, width=4)).items()}


def test_judges_the_arrays_it_is_given(data_dir, caplog):
    monitor = build(data_dir)
    with caplog.at_level(logging.INFO):
        one = monitor({**arrays(1), "head.fc.weight": arrays(1)["backbone.stem.conv.weight"]}, label="after round 3")
        two = monitor(arrays(2), label="after round 4")
        again = monitor(arrays(1), label="after round 5")
    names = (
        "eval_R@1",
        "eval_knn_top1_acc",
        "eval_feature_std",
        "eval_effective_rank",
        "videos_eval",
        "seconds_eval",
    )
    assert tuple(one) == names and one["seconds_eval"] > 0
    assert one["eval_effective_rank"] > 1 and one["videos_eval"] == 11
    assert [again[name] for name in names[:-1]] == [one[name] for name in names[:-1]]
    assert two["eval_feature_std"] != one["eval_feature_std"]
    assert "after round 3: R@1" in caplog.text and "collapsed" not in caplog.text


def test_a_protocol_with_several_metrics_has_one_record_entry_for_each(data_dir):
    monitor = build(data_dir)
    monitor.protocols = {"retrieval": Retrieval(ks=[1, 2])}
    record = monitor(arrays(1), label="now")
    assert [name for name in record if "retrieval" in name] == ["eval_retrieval_R@1", "eval_retrieval_R@2"]


def test_a_collapse_is_told(data_dir, caplog):
    state = arrays(1)
    for name, array in state.items():  # the last normalisations answer the same to all videos
        if "layer4" in name and name.endswith(("bn2.weight", "bn2.bias", "downsample_bn.weight")):
            array[...] = name.endswith("bias")
    record = build(data_dir)(state, label="after round 9")
    assert record["eval_feature_std"] < 0.01 and record["eval_effective_rank"] < 1.5
    assert "after round 9: the representation has collapsed" in caplog.text


def test_videos_are_spread_over_the_list(data_dir):
    videos = [Annotation(str(number), 0) for number in range(10)]
    assert [video.name for video in spread(videos, 4)] == ["0", "3", "6", "9"]
    assert spread(videos, 10) == spread(videos, 99) == videos
    assert [len(dataset) for dataset in build(data_dir, max_videos=5).datasets.values()] == [5, 5]


def test_queries_of_a_class_that_a_small_gallery_lacks_are_left_out(data_dir):
    datasets = build(data_dir, max_videos=2).datasets
    gallery, queries = ({a.label for a in datasets[part].annotations} for part in ("train", "test"))
    assert queries <= gallery


def test_mistakes_show_before_the_run(data_dir):
    with pytest.raises(ValueError, match="No annotation file"):
        build(data_dir, split=3)
    with pytest.raises(ValueError, match=r"data\.num_classes is 2"):
        build(data_dir, num_classes=2)


def test_agrees_with_the_protocols_on_the_same_features(data_dir, tmp_path):
    monitor = build(data_dir)
    record = monitor(arrays(4), label="now")
    fabric = build_fabric(device="cpu", precision="32-true")
    found = {}
    for part, dataset in monitor.datasets.items():
        extract(fabric, monitor.backbone, dataset, folder=tmp_path / part, batch_size=3, num_workers=0)
        found[part] = load(tmp_path / part, dataset)
    assert record["eval_R@1"] == Retrieval(ks=[1])(found["train"], found["test"]).metrics["R@1"]
    assert record["eval_knn_top1_acc"] == KNN(ks=[20], temperature=0.07)(found["train"], found["test"]).metrics["k=20"]
    assert record["eval_R@1"] != Retrieval(ks=[1])(found["test"], found["train"]).metrics["R@1"]


def test_features_that_are_not_finite_are_told_and_leave_no_numbers(data_dir, caplog):
    state = arrays(1)
    state["backbone.stem.conv.weight"][:] = np.nan
    assert list(build(data_dir)(state, label="after round 2")) == ["seconds_eval"]
    assert "after round 2: the features are not finite: training has diverged" in caplog.text


def test_lists_without_a_common_class_are_refused(data_dir, monkeypatch):
    monkeypatch.setattr("fedvssl.evaluation.monitor.spread", lambda annotations, most: annotations[:1])
    monkeypatch.setattr("fedvssl.evaluation.monitor.labelled_videos", two_lists)
    with pytest.raises(ValueError, match=r"eval\.max_videos=1 leaves no class in both lists"):
        build(data_dir, max_videos=1)


def two_lists(_data: dict, part: str) -> list[Annotation]:
    """Sorted by class, but not alike."""
    return [Annotation(f"{part}/{label}", label) for label in ((0, 1) if part == "train" else (1, 0))]
