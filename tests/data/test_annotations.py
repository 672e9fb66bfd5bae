import json
from pathlib import Path

import pytest

from fedvssl.data.annotations import Annotation, class_names, read_annotations, write_annotations


def test_labels_are_one_based_on_disk_and_zero_based_in_python(tmp_path: Path) -> None:
    annotations = [Annotation("Archery/v_Archery_g01_c01", 0), Annotation("Surfing/v.2", 5)]
    path = tmp_path / "annotations" / "train_split_1.json"
    write_annotations(path, annotations)
    assert json.loads(path.read_text())[1] == {"name": "Surfing/v.2", "label": 6}
    assert read_annotations(path) == annotations
    assert [p.name for p in path.parent.iterdir()] == ["train_split_1.json"], "no temporary file stays"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_annotations(path, [Annotation("A/a", 0)])
    with pytest.raises(TypeError):
        write_annotations(path, [Annotation("A/b", None)])  # pyright: ignore[reportArgumentType]
    assert read_annotations(path) == [Annotation("A/a", 0)]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "cannot be read as JSON"),
        ('"text"', "holds no list"),
        ("[]", "holds no list"),
        ('["A/a"]', 'entry 1: no "name"'),
        ('[{"label": 1}]', 'entry 1: no "name"'),
        ('[{"name": "A/a", "label": 1}, {"name": "A/b"}]', r"entry 2 \(A/b\).*no whole number"),
        ('[{"name": "A/a", "label": 0}]', "from 1"),
        ('[{"name": "A/a", "label": true}]', "from 1"),
        ('[{"name": "A/a", "label": "1"}]', "from 1"),
        ('[{"name": "A/a", "label": 1}, {"name": "../../a", "label": 1}]', "entry 2: .*leads outside the folder"),
        ('[{"name": "/A/a", "label": 1}]', "leads outside the folder"),
        ('[{"name": "A\\\\a", "label": 1}]', "holds a backslash"),
        ('[{"name": "A/a\\u0000", "label": 1}]', "holds a control character"),
        ('[{"name": "A/\\ud800", "label": 1}]', "half a character"),
        ('[{"name": "A/a", "label": 1}, {"name": "A/a", "label": 2}]', "gives A/a the labels 1 and 2"),
        ('[{"name": "A/a", "label": 1}, {"name": "A/a", "label": 1}]', "gives A/a two entries"),
        (f'[{{"name": "A/a", "label": {10**30}}}]', "no whole number from 1 to 100000"),
        (f'[{{"name": "A/{"a" * 5000}", "label": 1}}]', "is too long"),
        (f'[{{"name": "A/a", "label": {"9" * 5000}}}]', "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "train.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_annotations(path)
    assert str(path) in str(error.value)


def test_a_list_that_windows_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_text('[{"name": "A/gr\u00fcn", "label": 1}]', encoding=encoding)
        assert read_annotations(path) == [Annotation("A/gr\u00fcn", 0)]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"No annotation file .*nowhere\.json"):
        read_annotations(tmp_path / "nowhere.json")


def test_class_names_come_from_the_folders() -> None:
    annotations = [
        Annotation("Surfing/a", 2),
        Annotation("Archery/b", 0),
        Annotation("Archery/c", 0),
        Annotation("d", 1),
    ]
    assert class_names(annotations) == {0: "Archery", 1: "2", 2: "Surfing"}
    assert list(class_names(annotations)) == [0, 1, 2]
