import json
from pathlib import Path

import pytest

from data_tools.lists import read_splits
from fedvssl.data.annotations import Annotation


def read(folder: Path, **files: str) -> dict[str, list[Annotation]]:
    """Splits of files called as the keys, in which "__" is the dot before the ending."""
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return read_splits(folder)


ONE = [Annotation("tai chi/a b_1", 0), Annotation("zumba/c", 1)]


@pytest.mark.parametrize("ending", ["txt", "csv", "tsv"])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    "line",
    [
        "/data/train/{path} {label}\n",
        "{path}\t{label}\n",
        "{path},{label}\n",
        "{path}, {label}\n",
        "{path};{label}\n",
        "D:\\clips\\{path} {label}\r\n",
        "{path} 120 {label}\n",
        "{path},300,{label}\n",
    ],
)
def test_what_divides_path_and_label_does_not_matter(tmp_path: Path, ending: str, first: int, line: str) -> None:
    paths = ("tai chi/a b_1.mp4", "zumba/c.mp4")
    if "\\" in line:
        paths = [path.replace("/", "\\") for path in paths]
    content = "".join(line.format(path=path, label=label + first) for label, path in enumerate(paths))
    assert read(tmp_path, **{f"train__{ending}": content, f"val__{ending}": f"zumba/v.mp4 {1 + first}"}) == {
        "train_split_1": ONE,
        "test_split_1": [Annotation("zumba/v", 1)],
    }


@pytest.mark.parametrize(
    "header",
    ["path,label", "Video Path,Label", "label_name,video,frames", "clip_name,clip_path,label"],
)
def test_columns_are_found_by_their_names(tmp_path: Path, header: str) -> None:
    cells = {"label": "1", "label_name": "1", "Label": "1", "frames": "80", "clip_name": "c"}
    row = ",".join(cells.get(column, '"/data/Stop, look/x.mp4"') for column in header.split(","))
    assert read(tmp_path, train__csv=f"{header}\n{row}\n,,\n") == {"train_split_1": [Annotation("Stop, look/x", 0)]}


def test_a_header_may_be_divided_by_blanks(tmp_path: Path) -> None:
    assert read(tmp_path, train__txt="path label\ntai chi/x.mp4 0\n") == {"train_split_1": [Annotation("tai chi/x", 0)]}


@pytest.mark.parametrize(
    "content",
    ["video,label\nv1.avi,zumba\nv2.avi,tai chi\n", "v1.avi,zumba\nv2.avi,tai chi\n", "v1.avi zumba\nv2.avi tai chi"],
)
def test_labels_may_be_names_of_classes(tmp_path: Path, content: str) -> None:
    assert read(tmp_path, train__csv=content, val__csv="video,label\nclips/v3.avi,box\n") == {
        "train_split_1": [Annotation("zumba/v1", 2), Annotation("tai chi/v2", 1)],
        "test_split_1": [Annotation("clips/v3", 0)],
    }


def test_frames_are_told_from_numbers_in_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    frames = read(tmp_path / "a", train__txt="jump/x 80 0\nrun/y 90 1\n")
    assert frames["train_split_1"] == [Annotation("jump/x", 0), Annotation("run/y", 1)]
    assert "train.txt: the lines are read as path, number of frames and label" in capsys.readouterr().out
    names = read(tmp_path / "b", train__txt="jump/x 1 0\njump/x 2 0\n")
    assert names["train_split_1"] == [Annotation("jump/x 1", 0), Annotation("jump/x 2", 0)]
    assert "number of frames" not in capsys.readouterr().out


@pytest.mark.parametrize("divide", [" ", ",", ", ", ";", "\t"])
@pytest.mark.parametrize("header", [False, True])
def test_frames_before_names_of_classes_make_no_classes(tmp_path: Path, divide: str, header: bool) -> None:
    rows = [("jump/x.mp4", "80", "long jump"), ("jump/y.mp4", "90", "long jump"), ("run/z.mp4", "70", "run")]
    rows = [("path", "frames", "label"), *rows] if header else rows
    read_lists = read(tmp_path, train__csv="".join(f"{divide.join(row)}\n" for row in rows))
    named = [Annotation("jump/x", 0), Annotation("jump/y", 0), Annotation("run/z", 1)]
    assert read_lists == {"train_split_1": named}


def test_a_number_at_the_beginning_of_some_classes_stays(tmp_path: Path) -> None:
    found = read(tmp_path, train__txt="a/x.mp4 3 point shot\nb/y.mp4 run\na/z.mp4 3 point shot\n")
    assert found["train_split_1"] == [Annotation("a/x", 0), Annotation("b/y", 1), Annotation("a/z", 0)]


def test_splits_are_told_by_the_numbers_in_names(tmp_path: Path) -> None:
    names = ("ucf101_train_split_1_videos", "ucf101_val_split_1_videos", "train2", "fold_2_val_videos")
    files = {f"{name}__txt": f"a/{name}.mp4 0" for name in names}
    (tmp_path / "split3").mkdir()
    (tmp_path / "split3/train.txt").write_text("a/three.mp4 0")
    parts = ("train_split_1", "test_split_1", "train_split_2", "test_split_2")
    assert read(tmp_path, **files) == {
        "train_split_3": [Annotation("a/three", 0)],
        **{part: [Annotation(f"a/{name}", 0)] for part, name in zip(parts, names, strict=True)},
    }
    with pytest.raises(ValueError, match=r"train\.txt and .*train3\.txt are both called train, of split 3"):
        read(tmp_path, train3__txt="a/x.mp4 0")


def test_labelled_lists_may_be_called_as_those_of_a_class_of_hmdb(tmp_path: Path) -> None:
    assert read(tmp_path, ucf_train_split2__txt="a/x.mp4 0", ucf_test_split2__txt="a/y.mp4 0") == {
        "train_split_2": [Annotation("a/x", 0)],
        "test_split_2": [Annotation("a/y", 0)],
    }


def test_names_are_one_whatever_form_their_letters_have(tmp_path: Path) -> None:
    lists = {"train__txt": "gru\u0308n/e\u0301.mp4 0\n", "train_2__json": '[{"name": "gr\\u00fcn/x", "label": 1}]'}
    assert read(tmp_path, **lists) == {"train_split_1": [Annotation("gr\u00fcn/\u00e9", 0)]}


def test_two_labels_of_a_video_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give jump/x the labels 0 and 1"):
        read(tmp_path, train__csv="jump/x.mp4 0\n", val__csv="jump\\x.avi 1\n")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.csv", "path,colour,label\na,b\n", r"train\.csv, line 2: 'a,b' is not a path and a label"),
        ("train.csv", "path,name\na,b\n", r"has the columns 'path, name': a list needs path and label"),
        ("train.csv", "path,label\na.mp4,\n", "line 2: 'a.mp4,' is not a path and a label"),
        ("train.csv", "path,label\nStop, look/x.mp4,1\n", "line 2: 3 cells, but the header has 2"),
        ("train.csv", "", "name no video"),
        ("train.csv", "foo,bar\n", "line 1: 'foo,bar' is not a path and a label"),
        ("train.txt", "a/x.mp4 1\na/y.mp4\n", "line 2: 'a/y.mp4' is not a path and a label"),
        ("train.txt", "a/x.mp4 1\na/y.mp4 five\n", "line 2: 'a/y.mp4 five' is not a path and a label"),
        ("train.txt", "a/x.mp4 1 3 5\n", "line 1: .* has more than a path before the label"),
        ("train.txt", "a/x.mp4 0 -1\n", "line 1: 'a/x.mp4 0 -1' is not a path and a label"),
        ("train.csv", "a/x.mp4,1,3,5\n", "line 1: .* is not a path and a label"),
        ("train.csv", "a/x.mp4,\u00b2\n", "line 1: .* is not a path and a label"),
        ("train.txt", f"a/x.mp4 {10**30}\n", "line 1: the label 10+ is higher than 100000"),
        ("train.txt", f"a/x.mp4 {'9' * 5000}\n", "line 1: the label 10+ is higher than 100000"),
        ("train.txt", f"a/{'x' * 5000} 1\n", "line 1: the name 'a/x{78}...' is too long"),
        ("train.txt", "/a\x1b/x/1 1\n/b/x/2 1\n", r"line 2: .* below another folder .*'/a.{1,2}x1b' and '/b'"),
        ("train.json", "[", "cannot be read as JSON"),
        ("train.json", "3", "holds neither a list nor an object"),
        ("train.json", "[3]", "entry 1 has no name"),
        ("train.json", '[{"name": "a/b"}]', r"entry 1 \('a/b'\) has no label"),
        ("train.json", '[{"name": "a/b", "label": true}]', r"entry 1 \('a/b'\) has no label"),
        ("train.json", '[{"name": "a/b", "label": -1}]', r"entry 1 \('a/b'\) has no label"),
        ("train.json", f'[{{"name": "a/b", "label": {10**30}}}]', "entry 1: the label 10+ is higher than 100000"),
        ("train.json", '[{"name": "a/b", "label": 1}, {"name": "a/c", "label": "run"}]', "entry 2: the label 'run'"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_splits(tmp_path)


def test_numbers_and_classes_are_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Some labels are numbers, such as 1, and others classes, such as run"):
        read(tmp_path, train__csv="a/x.mp4,1\n", val__csv="a/y.mp4,run\n")


def test_what_is_there_is_named_where_no_list_is(tmp_path: Path) -> None:
    (tmp_path / "train.txt").mkdir()
    with pytest.raises(ValueError, match=r"No lists in .*; it has labels\.csv, notes\.txt: --ann_dir is"):
        read(tmp_path, labels__csv="x", notes__txt="x", more__md="x")


@pytest.mark.parametrize("first", [0, 1])
def test_lists_of_paths_and_labels_keep_their_labels(tmp_path: Path, first: int) -> None:
    """The published Kinetics lists number the classes in an order of their own, from 1; others count from 0."""
    expected = {
        "train_split_1": [Annotation("zumba/x_000001_000011", 0), Annotation("tai chi/y", 1)],
        "test_split_1": [Annotation("tai chi/z", 1)],
    }
    texts = (f"/data/train/zumba/x_000001_000011.mp4 {first}\ntai chi/y.mp4 {first + 1}\n", f"tai chi/z {first + 1}\n")
    files = {"kinetics400_train_list_videos__txt": texts[0], "kinetics400_val_list_videos__txt": texts[1]}
    assert read(tmp_path, **files, classInd__txt="1 a") == expected
    (tmp_path / "json").mkdir()
    for split, annotations in expected.items():
        entries = [{"name": a.name, "label": a.label + first} for a in annotations]
        (tmp_path / "json" / f"{split}.json").write_text(json.dumps(entries))
    assert read_splits(tmp_path / "json") == expected
