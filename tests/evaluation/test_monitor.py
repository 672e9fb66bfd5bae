import logging
from pathlib import Path

import pytest
import torch

from fedvssl.data.annotations import Annotation
from fedvssl.evaluation.monitor import Monitor, spread
from fedvssl.models.r3d import R3D
from fedvssl.training.checkpoint import to_arrays
from fedvssl.training.recognition import TestSample as Clips
from tests.action_set import write_action_set

SAMPLE = Clips(num_clips=2, clip_len=8, frame_stride=2, size=(43, 32), crop_size=32)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_action_set(tmp_path_factory.mktemp("data"))


def build(data_dir: Path, **changes) -> Monitor:
    settings = {
        **{"video_dir": data_dir / "ucf101/zips", "annotation_dir": data_dir / "ucf101/annotations"},
        **{"split": 1, "num_classes": 3, "max_videos": 100, "batch_size": 4, **changes},
    }
    return Monitor(R3D(10, width=4), settings, sample=SAMPLE, device="cpu", precision="32-true")


def arrays(seed: int) -> dict:
    torch.manual_seed(seed)
    return {f"backbone.{name}": array for name, array in to_arrays(R3D(10, width=4)).items()}


def test_judges_the_arrays_it_is_given(data_dir, caplog):
    monitor = build(data_dir)
    with caplog.at_level(logging.INFO):
        one = monitor({**arrays(1), "head.fc.weight": arrays(1)["backbone.stem.conv.weight"]}, label="after round 3")
        two = monitor(arrays(2), label="after round 4")
        again = monitor(arrays(1), label="after round 5")
    names = ("eval_R@1", "eval_knn_top1_acc", "eval_feature_std", "eval_effective_rank", "seconds_eval")
    assert tuple(one) == names and one["seconds_eval"] > 0
    assert 0 <= one["eval_R@1"] <= 1 and one["eval_effective_rank"] > 1
    assert [again[name] for name in names[:-1]] == [one[name] for name in names[:-1]]
    assert two["eval_feature_std"] != one["eval_feature_std"]
    assert "after round 3: R@1" in caplog.text and "collapsed" not in caplog.text


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
