"""A checkpoint is only gone on from under the settings and files it was made with."""

from pathlib import Path

import pytest

from fedvssl.files.settings import NAMES, last_checkpoint, run_settings
from fedvssl.files.tensors import save_torch

CONFIG = {"seed": 7, "training": {"lr": 0.01, "epochs": 3, "steps": [1, 2]}, "data": {"dir": "a"}}
FREE = {"training.epochs", "data.dir"}


def settings(tmp_path: Path, *, contents: str = "videos", **training) -> dict:
    (tmp_path / "list.json").write_text(contents)
    config = {**CONFIG, "training": {**CONFIG["training"], **training}}
    return run_settings(config, free=FREE, files={"train list": tmp_path / "list.json"})


def test_settings_are_flat_and_leave_out_what_is_free(tmp_path: Path) -> None:
    found = settings(tmp_path)
    assert found.pop("contents of train list").isalnum()
    assert found == {**NAMES, "seed": 7, "training.lr": 0.01, "training.steps": [1, 2]}


def test_no_checkpoint_is_a_new_run(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "last.pth", settings(tmp_path)) is None


def test_the_same_settings_go_on_also_for_more_epochs(tmp_path: Path) -> None:
    save_torch(tmp_path / "last.pth", {"epoch": 2, "settings": settings(tmp_path)})
    last = last_checkpoint(tmp_path / "last.pth", settings(tmp_path, epochs=9))
    assert last is not None and last["epoch"] == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"lr": 0.1}, r"training.lr was 0.01 and is 0.1 now"),
        ({"steps": [2]}, r"training.steps was \[1, 2\] and is \[2\] now"),
        ({"gamma": 0.5}, r"training.gamma was None and is 0.5 now"),
        ({"contents": "other videos"}, r"contents of train list differ now"),
    ],
)
def test_what_has_changed_is_named(tmp_path: Path, change: dict, sentence: str) -> None:
    save_torch(tmp_path / "last.pth", {"epoch": 2, "settings": settings(tmp_path)})
    with pytest.raises(ValueError, match=sentence):
        last_checkpoint(tmp_path / "last.pth", settings(tmp_path, **change))


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    save_torch(tmp_path / "last.pth", {"weight": 1})
    with pytest.raises(ValueError, match="no checkpoint of a run"):
        last_checkpoint(tmp_path / "last.pth", settings(tmp_path))


def test_a_run_of_an_earlier_version_is_refused_as_such(tmp_path: Path) -> None:
    earlier = {name: value for name, value in settings(tmp_path).items() if name not in NAMES}
    save_torch(tmp_path / "last.pth", {"epoch": 2, "settings": {**earlier, "pretext.task": "a", "training.lr": 9}})
    with pytest.raises(ValueError, match="begun with another version of fedvssl, which this one cannot continue"):
        last_checkpoint(tmp_path / "last.pth", settings(tmp_path))
