"""Files and folders that come whole or not at all."""

from pathlib import Path

import pytest

from fedvssl.files.atomic import atomic_folder, atomic_path, read_json, write_json


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


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "weights.npz"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        assert temporary.suffix == ".npz" and temporary.parent == tmp_path
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_json_is_written_whole_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "made" / "a.json"
    write_json(path, {"name": "Müller", "values": [1, None, 0.5]})
    assert path.read_text(encoding="utf-8").endswith("}\n") and read_json(path)["values"] == [1, None, 0.5]
    with pytest.raises(TypeError):
        write_json(path, {"path": tmp_path})
    assert read_json(path)["name"] == "Müller" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"{half", b"\xff\xfe{"])
def test_damaged_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json is damaged \(.*\): remove it, or run the command"):
        read_json(tmp_path / "a.json")
