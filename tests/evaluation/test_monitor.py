import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from fedvssl.data.annotations import Annotation, read_annotations, write_annotations
from fedvssl.data.split import Split
from fedvssl.data.splits import spread
from fedvssl.data.validation import group_of
from fedvssl.evaluation.features import extract, load
from fedvssl.evaluation.intervals import in_percent, paired_difference, wilson
from fedvssl.evaluation.knn import KNN
from fedvssl.evaluation.monitor import Monitor, told
from fedvssl.evaluation.motion_probe import MotionProbe, MotionSample
from fedvssl.evaluation.protocol import EvaluationProtocol
from fedvssl.evaluation.retrieval import Retrieval
from fedvssl.files.predictions import from_digits
from fedvssl.files.tensors import to_arrays
from fedvssl.models.r3d import R3D
from fedvssl.tasks.recognition import TestSample as Clips
from fedvssl.training.loop import build_fabric
from tests.action_set import write_action_set

SAMPLE = Clips(num_clips=2, clip_len=8, frame_stride=2, size=(43, 32), crop_size=32)
LENGTHS = {"short_side": 1.5, "velocity": 0.03125, "start_jitter": 0.0625, "frame_jitter": 0.02}
MOTION = MotionSample(num_clips=2, clip_len=8, frame_stride=2, crop_size=24, **LENGTHS)
PROTOCOLS = {"R@1": Retrieval(ks=[1]), "knn_top1_acc": KNN(ks=[20], temperature=0.07)}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_action_set(tmp_path_factory.mktemp("data"))


def test_a_long_evaluation_tells_where_it_is_and_a_short_one_nothing(caplog, monkeypatch) -> None:
    seconds = [0.0]
    monkeypatch.setattr("fedvssl.files.progress.time.monotonic", lambda: seconds[0])
    caplog.set_level(logging.INFO)
    batch = torch.zeros(4, 1), torch.zeros(4, 1)
    for pace, lines in ((1, 0), (6, 2)):
        caplog.clear()
        for _ in told([batch] * 5, 20):
            seconds[0] += pace
        assert len(caplog.messages) == lines and all("evaluation: video" in line for line in caplog.messages)


def build(
    data_dir: Path,
    *,
    protocols: Mapping[str, EvaluationProtocol] = PROTOCOLS,
    max_videos: int = 100,
    keep_megabytes: int = 10,
    **changes,
) -> Monitor:
    section = {
        **{"media_dir": data_dir / "ucf101/zips", "annotation_dir": data_dir / "ucf101/annotations"},
        **{"name": "ucf101", "split": 1, "num_classes": 3, "validation": None, "validation_seed": 0, **changes},
    }
    numbers = {"max_videos": max_videos, "batch_size": 4, "keep_megabytes": keep_megabytes, "seed": 7}
    run = {"sample": SAMPLE, "protocols": protocols, "device": "cpu", "precision": "32-true"}
    return Monitor(R3D(10, width=4), Split.of(section), **run, **numbers)


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
        *("eval_R@1", "eval_R@1_low", "eval_R@1_high", "right_R@1"),
        *("eval_knn_top1_acc", "eval_knn_top1_acc_low", "eval_knn_top1_acc_high", "right_knn_top1_acc"),
        "eval_feature_std",
        "eval_effective_rank",
        "videos_eval",
        *("queries_left_out", "single_video_classes", "single_video_queries"),
        "seconds_eval",
    )
    assert tuple(one) == names and one["seconds_eval"] > 0
    assert one["eval_effective_rank"] > 1 and one["videos_eval"] == 11
    assert [again[name] for name in names[:-1]] == [one[name] for name in names[:-1]]
    assert two["eval_feature_std"] != one["eval_feature_std"]
    assert (one["eval_R@1_low"], one["eval_R@1_high"]) == wilson(one["eval_R@1"], 11)
    shown = in_percent(one["eval_R@1"], wilson(one["eval_R@1"], 11))
    assert f"after round 3: R@1 {shown} %, knn_top1_acc " in caplog.text and "collapsed" not in caplog.text
    assert "from the start" not in caplog.text


def test_the_gain_since_the_start_is_paired_video_by_video(data_dir, caplog):
    monitor = build(data_dir)
    start = monitor(arrays(1), label="before round 1")
    with caplog.at_level(logging.INFO):
        later = monitor(arrays(2), label="after round 1", start=start)
    unknown = monitor(arrays(2), label="after round 1", start={"right_R@1": "01"})
    right = {name: from_digits(record["right_R@1"]) for name, record in (("start", start), ("later", later))}
    names = [video.name for video in monitor.datasets["test"].annotations]
    expected = paired_difference(right["later"], right["start"], [group_of(name) for name in names])
    assert (later["gain_R@1"], later["gain_R@1_low"], later["gain_R@1_high"]) == expected
    assert later["gain_R@1"] == pytest.approx(later["eval_R@1"] - start["eval_R@1"])
    assert sum(right["later"]) / len(names) == later["eval_R@1"] and "gain_knn_top1_acc_low" in later
    assert f", {expected.text()} from the start" in caplog.text
    assert not any(name.startswith("gain") for record in (start, unknown) for name in record), "of other videos"


def test_a_protocol_with_several_metrics_has_one_record_entry_for_each(data_dir):
    monitor = build(data_dir)
    monitor.protocols = {"retrieval": Retrieval(ks=[1, 2])}
    record = monitor(arrays(1), label="now")
    names = [name for name in record if name.startswith("eval_retrieval") and not name.endswith(("_low", "_high"))]
    assert names == ["eval_retrieval_R@1", "eval_retrieval_R@2"]


def test_initial_statistics_are_replaced_and_trained_ones_are_not(data_dir):
    monitor, initial = build(data_dir), arrays(1)
    before_training = monitor(initial, label="before round 1")
    statistics = {name: array.copy() for name, array in to_arrays(monitor.backbone).items() if "running" in name}
    assert all(not initial[f"backbone.{name}"].any() for name in statistics if name.endswith("mean"))
    assert all(array.any() for array in statistics.values())
    trained = {**initial, "backbone.stem.bn.running_mean": np.full(4, 0.5, np.float32)}
    after = monitor(trained, label="after round 1")
    state = to_arrays(monitor.backbone)
    assert (state["stem.bn.running_mean"] == 0.5).all() and not state["layer1.0.bn1.running_mean"].any()
    assert after["eval_feature_std"] != before_training["eval_feature_std"]
    again = monitor(initial, label="before round 1")
    assert again["eval_feature_std"] == before_training["eval_feature_std"]


def test_a_protocol_with_clips_of_its_own_gets_their_features_and_labels(data_dir, tmp_path):
    probe = MotionProbe(sample=MOTION, weight_decay=0.01)
    monitor = build(data_dir, protocols={**PROTOCOLS, "motion_probe": probe}, max_videos=5)
    record = monitor(arrays(1), label="after round 1")
    again = monitor(arrays(1), label="after round 2")
    without = build(data_dir, max_videos=5)(arrays(1), label="now")
    names = ["eval_motion_probe", "eval_motion_probe_low", "eval_motion_probe_high", "right_motion_probe"]
    assert [name for name in record if name not in without] == names
    assert {name: record[name] for name in without if name != "seconds_eval"} == {
        name: value for name, value in without.items() if name != "seconds_eval"
    }
    assert [again[name] for name in names] == [record[name] for name in names], "the same clips in every round"
    assert [len(dataset) for dataset in monitor.own_datasets["motion_probe"].values()] == [5, 5]
    found = []
    for part, dataset in monitor.own_datasets["motion_probe"].items():
        fabric = build_fabric(device="cpu", precision="32-true")
        extract(fabric, monitor.backbone, dataset, folder=tmp_path / part, batch_size=2, num_workers=0)
        found.append(load(tmp_path / part, dataset))
    assert probe(*found).metrics["top1_acc"] == record["eval_motion_probe"]


def test_the_second_evaluation_reads_no_video_and_tells_the_same(data_dir, monkeypatch):
    protocols = {**PROTOCOLS, "motion_probe": MotionProbe(sample=MOTION, weight_decay=0.01)}
    kept, anew = (build(data_dir, protocols=protocols, keep_megabytes=most) for most in (10, 0))
    one, other = arrays(1), arrays(2)
    for trained in (one, other):
        trained["backbone.stem.bn.running_mean"] += 0.01
    first, expected = [monitor(one, label="now") for monitor in (kept, anew)], anew(other, label="now")
    for sample in (Clips, MotionSample):
        monkeypatch.setattr(sample, "__call__", None)
    for found, same in (first, (kept(other, label="now"), expected)):
        assert {**found, "seconds_eval": 0} == {**same, "seconds_eval": 0}
    with pytest.raises(TypeError):
        anew(other, label="now")


def test_protocols_that_draw_their_labels_need_none(data_dir, tmp_path, monkeypatch):
    for part in ("train", "test"):
        annotations = read_annotations(data_dir / f"ucf101/annotations/{part}_split_1.json")
        unknown = [Annotation(annotation.name, 99 if part == "train" else 100) for annotation in annotations]
        write_annotations(tmp_path / f"{part}_split_1.json", unknown)
    probe = {"motion_probe": MotionProbe(sample=MOTION, weight_decay=0.01)}
    record = build(data_dir, protocols=probe, annotation_dir=tmp_path)(arrays(1), label="now")
    assert 0 <= record["eval_motion_probe"] <= 1 and record["videos_eval"] == 11
    computed = []
    monkeypatch.setattr(
        Monitor, "_features", lambda self, own, real=Monitor._features: computed.append(own) or real(self, own)
    )
    monitor = build(data_dir, protocols=probe, annotation_dir=tmp_path)
    again = monitor(arrays(1), label="now")
    assert {**again, "seconds_eval": 0} == {**record, "seconds_eval": 0}
    assert computed == [monitor.datasets["test"], *monitor.own_datasets["motion_probe"].values()], "no gallery"
    with pytest.raises(ValueError, match=r"data\.num_classes is 3"):
        build(data_dir, protocols={**PROTOCOLS, **probe}, annotation_dir=tmp_path)


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


def test_queries_of_a_class_that_a_small_gallery_lacks_are_left_out_and_counted(data_dir, caplog):
    """Of the training list 0 1 2 0 1 2 the first and the last stay, of 11 queries the first and the last: 0 and 1."""
    with caplog.at_level(logging.INFO):
        monitor = build(data_dir, max_videos=2)
    assert [[a.label for a in monitor.datasets[part].annotations] for part in ("train", "test")] == [[0, 2], [0]]
    assert "of 1 of 3 classes; 1 classes with 1 of these videos have one training video each; 1 test" in caplog.text
    assert "1 test videos are left out, whose classes have no training video here." in caplog.text
    record = monitor(arrays(1), label="now")
    assert record["queries_left_out"] == record["single_video_classes"] == record["single_video_queries"] == 1
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert set(build(data_dir).facts.values()) == {0}
    assert "left out" not in caplog.text and "one training video" not in caplog.text


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
    monkeypatch.setattr("fedvssl.data.splits.labelled_videos", two_lists)
    with pytest.raises(ValueError, match=r"eval\.max_videos=1 leaves no class in both lists"):
        build(data_dir, max_videos=1)


def two_lists(_data: Split, part: str) -> list[Annotation]:
    """Sorted by class, but not alike."""
    return [Annotation(f"{part}/{label}", label) for label in ((0, 1) if part == "train" else (1, 0))]
