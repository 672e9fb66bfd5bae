"""Fine-tuning on pictures whose maps are a single pixel: BatchNorm has no variance in a batch of one."""

from pathlib import Path

import pytest

from fedvssl import finetune
from fedvssl.config import compose
from fedvssl.files.run_log import read_records
from fedvssl.training.batches import check_list
from tests.picture_set import MODEL, TINY, write_picture_set


def run(data_dir: Path, work_dir: Path, *words: str) -> int:
    places = [f"data_dir={data_dir}", f"work_dir={work_dir}", "from_scratch=true", "training.epochs=1"]
    return finetune.main(["finetune", *TINY, "model.stem=imagenet", *places, *words])


def test_a_last_single_picture_is_left_out(tmp_path: Path) -> None:
    data_dir = write_picture_set(tmp_path / "data", num_train=13, num_test=3)
    assert run(data_dir, tmp_path / "tuned", "training.batch_size=6") == 0
    (record,) = read_records(tmp_path / "tuned/metrics.jsonl", position="epoch")
    assert record["loss"] > 0 and record["test_top1_acc"] >= 0


def test_what_makes_no_batch_is_told_before_the_work(tmp_path: Path, capsys) -> None:
    data_dir = write_picture_set(tmp_path / "data", num_train=3, num_test=3)
    assert run(data_dir, tmp_path / "tuned", "training.batch_size=1") == 2
    error = capsys.readouterr().err
    assert "training.batch_size=1 is too small for PictureRecognition: set 2 or more." in error
    assert not (tmp_path / "tuned").exists()


def test_each_process_has_a_batch_it_can_train_on() -> None:
    class Pictures:
        least_batch = 2

    with pytest.raises(ValueError, match="batch_size=2 is too small for Pictures: set 4 or more"):
        check_list(Pictures(), 9, batch_size=2, world_size=2)
    with pytest.raises(ValueError, match="The training list gives 1 sample, Pictures needs 2"):
        check_list(Pictures(), 1, batch_size=8, world_size=1)
    check_list(object(), 1, batch_size=1, world_size=1)


def test_the_server_evaluates_pictures_in_larger_batches_than_videos() -> None:
    sizes = [compose("base", [*MODEL, f"task={task}"])["eval"]["batch_size"] for task in ("simclr", "simclr_clips")]
    assert sizes == [64, 4]
