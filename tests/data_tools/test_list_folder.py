import pytest

from data_tools.list_folder import list_folder, main
from fedvssl.data.annotations import Annotation, read_annotations


def test_a_folder_becomes_the_list_of_a_client(tmp_path, capsys):
    for name in ("b/2.mp4", "a/1.AVI", "b/x/3.jpg", "b/.hidden.mp4", "a/notes.txt", "a/4.zip"):
        (tmp_path / "media" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "media" / name).touch()
    main(["--media_dir", str(tmp_path / "media"), "--out", str(tmp_path / "list.json")])
    found = read_annotations(tmp_path / "list.json")
    assert found == [Annotation("a/1", 0), Annotation("a/4", 0), Annotation("b/2", 1), Annotation("b/x/3", 2)]
    assert "list.json: 4 samples" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "sentence"),
    [([], "holds no video"), (["a/1.mp4", "a/1.avi"], "several files a/1"), (["1.mp4", "a/2.mp4"], "no class folder")],
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
