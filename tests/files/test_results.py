"""Where results go, so that none of other settings is overwritten."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fedvssl.files.atomic import write_json
from fedvssl.files.results import CHECKPOINT, change_in, free_folder, from_here, refuse_other


def entries(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: result.get(name) for name in ("crop_size", "checkpoint")}


def changed(folder: Path, **now: object) -> str | None:
    return change_in(folder / "knn.json", now, entries)


def store(folder: Path, crop_size: int) -> None:
    write_json(folder / "knn.json", {"crop_size": crop_size, "checkpoint": "a", CHECKPOINT: "a", "rows": crop_size})


def test_the_first_folder_without_a_result_of_other_settings_is_taken(tmp_path: Path) -> None:
    places = []
    for crop_size in (112, 32, 64, 32, 112):
        folder = free_folder(
            tmp_path / "here", lambda place, size=crop_size: changed(place, crop_size=size, checkpoint="a")
        )
        store(folder, crop_size)
        places.append(folder.name)
    assert places == ["here", "here-2", "here-3", "here-2", "here"]


def test_a_folder_that_was_named_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "knn.json"
    refuse_other(path, changed(tmp_path, crop_size=32, checkpoint="a"))
    store(tmp_path, 112)
    refuse_other(path, changed(tmp_path, crop_size=112, checkpoint="a"))
    with pytest.raises(ValueError, match=r"settings \(crop_size was 112 and is 32 now\): name another work_dir"):
        refuse_other(path, changed(tmp_path, crop_size=32, checkpoint="a"))
    write_json(path, {"crop_size": 32, "checkpoint": "a"})
    with pytest.raises(ValueError, match="it is of an earlier version"):
        refuse_other(path, changed(tmp_path, crop_size=32, checkpoint="a"))


def test_a_checkpoint_is_named_from_its_result_however_it_is_spelt(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/last.pth").touch()
    monkeypatch.chdir(tmp_path)
    spelt = {from_here(path, folder) for path in ("run/last.pth", "./run/../run/last.pth", tmp_path / "run/last.pth")
             for folder in (Path("run"), tmp_path / "run")}  # fmt: skip
    assert spelt == {"last.pth"} and from_here("random", tmp_path) == "random"
    assert from_here("run/last.pth", tmp_path / "elsewhere") == "../run/last.pth"
