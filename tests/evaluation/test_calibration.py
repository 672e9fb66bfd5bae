"""Statistics of BatchNorm for random weights: what they are, what stays as it is, and that they are computed once."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedvssl.data import augment
from fedvssl.data.annotations import read_annotations
from fedvssl.data.dataset import SampleDataset
from fedvssl.data.split import Split
from fedvssl.evaluation import calibration
from fedvssl.evaluation.calibration import calibrate, calibrate_once, has_initial_statistics
from fedvssl.evaluation.pixels import MeanFrame
from fedvssl.evaluation.rows import INITIAL, MEAN_FRAME, RANDOM, load_backbones
from fedvssl.files.tensors import to_arrays
from fedvssl.models.r3d import R3D
from fedvssl.models.resnet import ResNet
from fedvssl.tasks.picture_recognition import TestPicture as Middle
from fedvssl.tasks.recognition import TestSample as Clips
from fedvssl.training.loop import build_fabric
from tests.action_set import write_action_set
from tests.picture_set import write_picture_set

SAMPLE = Clips(num_clips=2, clip_len=8, frame_stride=2, size=(43, 32), crop_size=32)

DATA = Split(
    name="ucf101",
    media_dir=Path("zips"),
    annotation_dir=Path("annotations"),
    split=1,
    num_classes=3,
    validation=None,
    validation_seed=0,
)
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Plain(nn.Module):
    """Backbone whose BatchNorm sees the pixels themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm3d(3, momentum=0.2)
        self.drop = nn.Dropout(0.9)

    def forward(self, clips: Tensor) -> Tensor:
        return self.drop(self.bn(clips))


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> SampleDataset:
    data = write_action_set(tmp_path_factory.mktemp("data"), num_train=7, num_test=1) / "ucf101"
    return SampleDataset(data / "zips", read_annotations(data / "annotations/train_split_1.json"), SAMPLE)


@pytest.fixture
def fabric():
    return build_fabric(device="cpu", precision="32-true")


def batch_of(gallery: SampleDataset, indices: Iterable[int]) -> Tensor:
    """Pixels of some videos: float [3,L]."""
    clips = [augment.normalize(gallery[index]["frames"].float()) for index in indices]
    return torch.cat(clips).transpose(0, 1).flatten(1)


def mean(pixels: Tensor) -> Tensor:
    return pixels.mean(dim=1)


def variance(pixels: Tensor) -> Tensor:
    return pixels.var(dim=1)


def test_statistics_are_the_mean_over_the_batches(gallery, fabric):
    backbone = Plain()
    assert has_initial_statistics(backbone)
    calibrate(fabric, backbone, gallery, num_workers=0)
    batches = [batch_of(gallery, range(4)), batch_of(gallery, range(4, 7))]
    means, variances = (torch.stack([f(batch) for batch in batches]).mean(dim=0) for f in (mean, variance))
    torch.testing.assert_close(backbone.bn.running_mean, means, atol=1e-3, rtol=0)
    torch.testing.assert_close(backbone.bn.running_var, variances, atol=1e-3, rtol=0)
    assert backbone.bn.num_batches_tracked == 2 and not has_initial_statistics(backbone)
    assert backbone.bn.momentum == 0.2 and not any(layer.training for layer in backbone.modules())


def test_many_videos_are_spread_over_the_list_and_old_statistics_are_forgotten(gallery, fabric, monkeypatch):
    monkeypatch.setattr(calibration, "BATCHES", 1)
    backbone = Plain()
    backbone.bn.running_mean += 100
    calibrate(fabric, backbone, gallery, num_workers=0)
    expected = mean(batch_of(gallery, (0, 2, 4, 6)))
    torch.testing.assert_close(backbone.bn.running_mean, expected, atol=1e-3, rtol=0)
    assert backbone.bn.num_batches_tracked == 1


def test_weights_stay_and_a_repetition_gives_the_same(gallery, fabric):
    torch.manual_seed(0)
    backbone = R3D(10, width=4)
    before = {name: parameter.clone() for name, parameter in backbone.named_parameters()}
    calibrate(fabric, backbone, gallery, num_workers=0)
    once = {name: array.copy() for name, array in to_arrays(backbone).items()}
    calibrate(fabric, backbone, gallery, num_workers=0)
    assert all((array == once[name]).all() for name, array in to_arrays(backbone).items())
    assert all(torch.equal(before[name], parameter) for name, parameter in backbone.named_parameters())
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_kept_statistics_are_read_and_those_of_other_weights_are_not(gallery, fabric, tmp_path: Path, monkeypatch):
    def random(seed: int) -> R3D:
        torch.manual_seed(seed)
        return R3D(10, width=4)

    def calibrated(backbone: R3D) -> R3D:
        calibrate_once(fabric, backbone, gallery, feature_dir=tmp_path, num_workers=0)
        return backbone

    first = calibrated(random(0))
    calibrated(random(1))
    assert len(list(tmp_path.rglob("statistics.npz"))) == 2
    monkeypatch.setattr(calibration, "clip_maps", None)
    again = calibrated(random(0))
    assert all((array == to_arrays(first)[name]).all() for name, array in to_arrays(again).items())


@pytest.mark.parametrize(("number", "sizes"), [(5, [5]), (9, [4, 5]), (10, [4, 4, 2])])
def test_a_last_single_picture_joins_the_batch_before_it(fabric, tmp_path: Path, number, sizes) -> None:
    data_dir, found = write_picture_set(tmp_path, num_train=number, num_test=3) / "cifar10", []
    listed = read_annotations(data_dir / "annotations/train_split_1.json")
    backbone = ResNet(18, width=2, stem="imagenet")
    backbone.layer4.register_forward_hook(lambda _module, _args, maps: found.append(tuple(maps.shape)))
    pictures = SampleDataset(data_dir / "pictures", listed, Middle(short_side=16, crop_size=16))
    calibrate(fabric, backbone, pictures, num_workers=0)
    assert found == [(size, 16, 1, 1) for size in sizes]


@pytest.mark.parametrize("backbone", [MeanFrame(), nn.Sequential(nn.BatchNorm3d(3, track_running_stats=False))])
def test_nothing_happens_without_running_statistics(backbone, gallery, fabric, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "clip_maps", None)
    calibrate(fabric, backbone, gallery, num_workers=0)
    calibrate_once(fabric, backbone, gallery, feature_dir=tmp_path, num_workers=0)
    assert not has_initial_statistics(backbone) and list(tmp_path.iterdir()) == []


def test_the_initial_row_has_the_weights_of_the_random_one_and_no_statistics(gallery):
    made = load_backbones(lambda: R3D(10, width=4), checkpoint=RANDOM, data=DATA, seed=3)
    calibrate(build_fabric(device="cpu"), made[RANDOM], gallery, num_workers=0)
    random, initial = to_arrays(made[RANDOM]), to_arrays(made[INITIAL])
    changed = {name for name in random if not np.array_equal(random[name], initial[name])}
    assert changed == {name for name in random if name.rpartition(".")[2] in STATISTICS}
    assert has_initial_statistics(made[INITIAL])


def test_a_backbone_without_statistics_has_one_random_row():
    made = load_backbones(lambda: nn.Conv3d(3, 4, 3), checkpoint=RANDOM, data=DATA, seed=3)
    assert list(made) == [RANDOM, MEAN_FRAME]
