"""Folders that come whole or not at all; `atomic_path` is in tests/training/test_checkpoint.py."""

from pathlib import Path

import pytest

from fedvssl.files.atomic import atomic_folder


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "made" / "out"
    with atomic_folder(path) as temporary:
        assert temporary.parent == path.parent and temporary.name.startswith(".") and not path.exists()
        (temporary / "a").write_text("1")
    assert (path / "a").read_text() == "1" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(error), atomic_folder(tmp_path / "out") as temporary:
        (temporary / "a").write_text("1")
        raise error
    assert list(tmp_path.iterdir()) == [tmp_path / "out"] and not list((tmp_path / "out").iterdir())


def test_what_a_killed_process_left_is_no_hindrance(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "out") as temporary:
        left = temporary
        raise RuntimeError
    left.mkdir()
    (left / "half").write_text("1")
    with atomic_folder(tmp_path / "out") as temporary:
        assert not list(temporary.iterdir())


def test_an_empty_folder_is_filled_and_anything_else_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()
    with atomic_folder(path) as temporary:
        (temporary / "a").write_text("1")
    for taken in (path, path / "a"):
        with pytest.raises(ValueError, match="not an empty folder: remove it, or name another"), atomic_folder(taken):
            raise AssertionError("not reached")
    assert (path / "a").read_text() == "1"
