import dataclasses
import os
import time
import zipfile
from pathlib import Path

import pytest
import torch
from torch.nn.functional import adaptive_avg_pool3d

from fedvssl.data import augment
from fedvssl.data.annotations import Annotation, read_annotations
from fedvssl.data.dataset import SampleDataset
from fedvssl.evaluation import features
from fedvssl.evaluation.features import extract, fingerprint, load
from fedvssl.models.r3d import R3D
from fedvssl.tasks.recognition import TestSample as Clips
from fedvssl.training.loop import build_fabric
from tests.action_set import write_action_set
from tests.videos import moving_square, write_frames

SAMPLE = Clips(num_clips=2, clip_len=8, frame_stride=2, size=(43, 32), crop_size=32)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> SampleDataset:
    data = write_action_set(tmp_path_factory.mktemp("data"), num_test=5) / "ucf101"
    return SampleDataset(data / "zips", read_annotations(data / "annotations/test_split_1.json"), SAMPLE)


@pytest.fixture
def backbone() -> R3D:
    torch.manual_seed(0)
    return R3D(10, width=4)


def run(backbone: R3D, dataset: SampleDataset, folder: Path, **options):
    fabric = build_fabric(device="cpu", precision="32-true")
    extract(fabric, backbone, dataset, folder=folder, **{"batch_size": 2, "num_workers": 0, **options})
    return load(folder, dataset)


def test_half_written_files_are_removed_when_nobody_can_be_writing_them(tmp_path: Path) -> None:
    old, new, whole = (
        tmp_path / name for name in (".videos-000000.1.npz", ".videos-000000.2.npz", "videos-000000.npz")
    )
    for path in (old, new, whole):
        path.write_text("half")
    long_ago = time.time() - 2 * features.ABANDONED_SECONDS
    os.utime(old, (long_ago, long_ago))
    os.utime(whole, (long_ago, long_ago))
    features.remove_abandoned(tmp_path)
    assert {*tmp_path.iterdir()} == {new, whole}


def test_pools_each_clip_and_the_grid_in_eval_mode(backbone, dataset, tmp_path):
    found = run(backbone.train(), dataset, tmp_path)
    frames = dataset[3]["frames"]
    with torch.no_grad():
        maps = [backbone.eval()(augment.normalize(clip[None].float())) for clip in frames]
    torch.testing.assert_close(found.clips[3], torch.cat([m.mean(dim=(2, 3, 4)) for m in maps]))
    grid = torch.stack([adaptive_avg_pool3d(m, (2, 3, 3)).flatten() for m in maps]).mean(dim=0)
    torch.testing.assert_close(found.grid[3], grid)
    assert found.clips.shape == (5, 2, 32) and found.grid.shape == (5, 18 * 32)
    assert found.labels.tolist() == [0, 1, 2, 0, 1] and found.names[1] == dataset.annotations[1].name


def test_what_is_on_disk_is_not_computed_again(backbone, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "VIDEOS_PER_FILE", 2)
    reports: list[int] = []
    whole = run(backbone, dataset, tmp_path, report=reports.append)
    assert reports == [2, 4, 5]
    files = sorted(tmp_path.glob("*.npz"))
    assert [file.name for file in files] == ["videos-000000.npz", "videos-000002.npz", "videos-000004.npz"]
    files[1].unlink()
    kept = files[0].stat().st_mtime_ns
    reports.clear()
    again = run(backbone, dataset, tmp_path, report=reports.append)
    assert reports == [5] and files[0].stat().st_mtime_ns == kept
    for field in ("clips", "grid", "labels"):
        assert torch.equal(getattr(whole, field), getattr(again, field))
    monkeypatch.setattr(features, "compute", None)
    assert torch.equal(run(backbone, dataset, tmp_path).grid, whole.grid)


def test_the_fingerprint_changes_with_all_that_changes_features(backbone, dataset, tmp_path):
    def key(backbone=backbone, dataset=dataset, precision="32-true") -> str:
        return fingerprint(backbone, dataset, precision=precision)

    first = key()
    assert key() == first
    other = R3D(10, width=4)
    other.load_state_dict(backbone.state_dict())
    assert key(backbone=other) == first
    other.stem.bn.running_mean[0] += 1
    strides = R3D(10, width=4, spatial_strides=[1, 2, 2, 1])
    strides.load_state_dict(backbone.state_dict())
    sample = dataclasses.replace(SAMPLE, num_clips=3)
    fewer = SampleDataset(dataset.media_dir, dataset.annotations[:-1], SAMPLE)
    changed = [
        key(backbone=other),
        key(backbone=strides),
        key(precision="bf16-mixed"),
        key(dataset=SampleDataset(dataset.media_dir, dataset.annotations, sample)),
        key(dataset=fewer),
    ]
    video = tmp_path / "zips" / f"{dataset.annotations[0].name}.zip"
    write_frames(video, moving_square(num_frames=9, height=36, width=48))
    one = SampleDataset(tmp_path / "zips", dataset.annotations[:1], SAMPLE)
    changed.append(key(dataset=one))
    write_frames(video, moving_square(num_frames=10, height=36, width=48))
    changed.append(key(dataset=one))
    assert len({first, *changed}) == 1 + len(changed)


def key_of(backbone: R3D, zips: Path, name: str) -> str:
    return fingerprint(backbone, SampleDataset(zips, [Annotation(name, 0)], SAMPLE), precision="32-true")


def test_other_pixels_in_files_of_one_size_and_date_are_other_features(backbone: R3D, tmp_path: Path) -> None:
    """As uncompressed .y4m of one geometry and length, and as zips of frames whose JPEGs have one length."""
    keys = []
    for folder, pixels in (("one", b"\x10"), ("other", b"\x20")):
        place = tmp_path / folder
        place.mkdir()
        (place / "a.y4m").write_bytes(b"YUV4MPEG2 W8 H8\nFRAME\n" + 96 * pixels)
        for name, frames in {"b": ["img_00001.jpg", "img_00002.jpg"], "c": ["1.jpeg", "twenty.jpeg"]}.items():
            write_members(place / f"{name}.zip", dict.fromkeys(frames, 50 * pixels))
        for path in place.iterdir():
            os.utime(path, (10**9, 10**9))
        keys += [key_of(backbone, place, name) for name in "abc"]
    sizes = [[path.stat().st_size for path in sorted(tmp_path.glob(f"*/{name}.*"))] for name in "abc"]
    assert all(one == other for one, other in sizes) and len({*keys}) == 6


def write_members(path: Path, members: dict[str, bytes], *, year: int = 2020) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0)), content)


def test_the_same_frames_zipped_again_elsewhere_are_the_same_features(backbone: R3D, tmp_path: Path) -> None:
    for year in (2020, 2024):
        (tmp_path / str(year)).mkdir()
        write_members(tmp_path / f"{year}/a.zip", {"img_00001.jpg": b"x", "img_00002.jpg": b"y"}, year=year)
    assert key_of(backbone, tmp_path / "2020", "a") == key_of(backbone, tmp_path / "2024", "a")
    write_members(tmp_path / "2024/a.zip", {"img_00001.jpg": b"y", "img_00002.jpg": b"x"}, year=2024)
    assert key_of(backbone, tmp_path / "2020", "a") != key_of(backbone, tmp_path / "2024", "a")


@pytest.mark.parametrize("error", [PermissionError, FileNotFoundError])
def test_a_folder_that_may_only_be_read_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    (tmp_path / ".videos-000000.123.npz").touch()
    os.utime(tmp_path / ".videos-000000.123.npz", (0, 0))

    def refuse(path: Path) -> None:
        raise error(13, "not here", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    features.remove_abandoned(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
