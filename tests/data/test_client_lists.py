"""The clients' lists beside the test lists, before a run."""

import logging
from pathlib import Path

import pytest

from fedvssl.data.annotations import Annotation, lists_in, write_annotations
from fedvssl.data.client_lists import check_client_lists
from fedvssl.data.seen import PRETRAINING, allowed_numbers, seen_videos
from fedvssl.data.split import Split
from fedvssl.files.arrays import Arrays, save_arrays
from tests.federation import tiny_config

NAMES = [f"a/v{number}" for number in range(6)]


def videos(*names: str) -> list[Annotation]:
    return [Annotation(name, 0) for name in names]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Two clients share the training list of split 1; the test list of split 2 has three of their videos."""
    annotations = tmp_path / "ucf101/annotations"
    for number in (0, 1):
        own = annotations / f"client_distribution/client_dist{number + 1}.json"
        write_annotations(own, videos(*NAMES[2 * number : 2 * number + 2]))
    write_annotations(annotations / "train_split_1.json", videos(*NAMES[:4]))
    write_annotations(annotations / "test_split_1.json", videos(*NAMES[4:]))
    write_annotations(annotations / "test_split_2.json", videos(*NAMES[1:5]))
    return tmp_path


def check(data_dir: Path, *words: str) -> Arrays:
    config = tiny_config(data_dir, "eval.sample.crop_size=32", *words, num_clients=2)
    data, files = Split.of(config["data"]), lists_in(config["partition_dir"], config["pool_size"])
    server = None if config["eval"]["every"] is None else Split.of(config["data"], config["eval"])
    return check_client_lists(data, files, server, init=config["init"])


def test_the_split_of_the_lists_passes_and_another_is_refused(data_dir: Path) -> None:
    seen = check(data_dir)
    assert len(seen[PRETRAINING]) == 4 and allowed_numbers(seen) == {}
    sentence = (
        r"client_dist1\.json has 1 of the 4 test videos of split 2, such as a/v1: make a partition of train_split_2"
    )
    with pytest.raises(ValueError, match=sentence):
        check(data_dir, "data.split=2")


def test_what_is_allowed_is_counted(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen = check(data_dir, "data.split=2", "data.allow_test_videos=true")
    assert allowed_numbers(seen) == {PRETRAINING: 3}
    assert "The clients train on 3 test videos (data.allow_test_videos=true)." in caplog.text


def test_the_videos_by_which_the_server_evaluates_are_compared_too(data_dir: Path) -> None:
    check(data_dir, "eval.split=2")
    with pytest.raises(ValueError, match="test videos of split 2"):
        check(data_dir, "eval.split=2", "eval.every=1")


def test_the_names_of_other_videos_say_nothing(data_dir: Path) -> None:
    write_annotations(data_dir / "own/annotations/test_split_1.json", videos(*NAMES[:2]))
    words = ["eval.every=1", f"eval.annotation_dir={data_dir}/own/annotations"]
    found = check(data_dir, *words, f"eval.media_dir={data_dir}/own/zips")
    assert len(found[PRETRAINING]) == 4
    with pytest.raises(ValueError, match=r"has 2 of the 2 test videos of split 1, such as a/v0"):
        check(data_dir, *words, f"eval.media_dir={data_dir}/ucf101/annotations/../zips")


def test_a_backbone_to_start_from_must_not_have_seen_them_either(data_dir: Path) -> None:
    seen = seen_videos("ucf101", videos(NAMES[5]), stage=PRETRAINING, allowed=[])
    save_arrays(data_dir / "run/seen_videos.npz", seen)
    words = [f"init={data_dir / 'run/round-1-weights.npz'}"]
    with pytest.raises(ValueError, match=r"weights\.npz had 1 of the 2 test videos in its pre-training, such as a/v5"):
        check(data_dir, *words)
    found = check(data_dir, *words, "data.allow_test_videos=true")
    assert len(found[PRETRAINING]) == 5 and allowed_numbers(found) == {PRETRAINING: 1}, "its videos are the run's too"


def test_a_missing_test_list_is_a_line(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    (data_dir / "ucf101/annotations/test_split_1.json").unlink()
    caplog.set_level(logging.INFO)
    check(data_dir)
    (line,) = caplog.messages
    assert line.endswith("test_split_1.json, so the clients' lists cannot be compared with test videos.")


def test_validation_videos_in_the_lists_are_counted(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    check(data_dir, "data.validation=0.5")
    assert "data.validation=0.5: the clients train on 2 of the 2 videos that it holds out" in caplog.text
