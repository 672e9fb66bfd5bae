import pytest

from data_tools.list_folder import list_folder, main
from fedvssl.data.annotations import Annotation, read_annotations
from fedvssl.data.media import find_media


def test_a_folder_becomes_the_list_of_a_client(tmp_path, capsys):
    for name in (
        "b/2.mp4",
        "a/1.AVI",
        "b/x/3.jpg",
        "b/x/3.objects.png",
        "b/.hidden.mp4",
        "a/notes.txt",
        "a/4.zip",
        "__MACOSX/b/2.mp4",
        ".x/3.mp4",
        "b/\\.mp4",
    ):
        (tmp_path / "media" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "media" / name).touch()
    main(["--media_dir", str(tmp_path / "media"), "--out", str(tmp_path / "list.json")])
    found = read_annotations(tmp_path / "list.json")
    assert found == [Annotation("a/1", 0), Annotation("a/4", 0), Annotation("b/2", 1), Annotation("b/x/3.jpg", 2)]
    told = capsys.readouterr().out
    assert "list.json: 4 samples" in told and "1 files are left out: " in told and "holds a backslash" in told
    assert all(find_media(tmp_path / "media", annotation.name).is_file() for annotation in found)


def test_a_linked_folder_is_listed_once(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/1.mp4").touch()
    (tmp_path / "media").mkdir()
    (tmp_path / "media/a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/loop").symlink_to(tmp_path / "media")
    assert list_folder(tmp_path / "media", tmp_path / "list.json") == 1


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([], "holds no video"),
        (["a/1.mp4", "a/1.avi"], "several files a/1"),
        (["1.mp4", "a/2.mp4"], "no class folder"),
        (["a/con.mp4"], "a device of Windows: rename it. No other file is there"),
    ],
)
def test_what_cannot_be_listed_leaves_no_file(tmp_path, names, sentence):
    (tmp_path / "media/a").mkdir(parents=True)
    for name in names:
        (tmp_path / "media" / name).touch()
    with pytest.raises(ValueError, match=sentence):
        list_folder(tmp_path / "media", tmp_path / "list.json")
    assert not (tmp_path / "list.json").exists()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"No folder .*nowhere"):
        list_folder(tmp_path / "nowhere", tmp_path / "list.json")
