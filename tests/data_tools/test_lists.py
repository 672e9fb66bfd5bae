from pathlib import Path

import pytest

from data_tools.lists import read_splits, splits_from_names
from fedvssl.data.annotations import Annotation


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, content in files.items():
        (folder / f"{stem}.txt").write_text(content, newline="")
    return folder


CLASSES = "1 Archery\r\n2 HandstandPushups\r\n\r\n"


def test_ucf_lists_with_crlf(tmp_path: Path) -> None:
    write(
        tmp_path / "ucfTrainTestlist",  # found below the folder given, as the official archive unpacks
        classInd=CLASSES,
        trainlist01="Archery/v_Archery_g08_c01.avi 1\r\nHandstandPushups/v_HandStandPushups_g08_c01.avi 2\r\n",
        testlist01="Archery/v_Archery_g01_c01.avi\r\n",
        trainlist03="Archery/v_Archery_g01_c01.avi 1\r\n",
    )
    assert read_splits(tmp_path) == {
        "train_split_1": [
            Annotation("Archery/v_Archery_g08_c01", 0),
            Annotation("HandstandPushups/v_HandStandPushups_g08_c01", 1),
        ],
        "test_split_1": [Annotation("Archery/v_Archery_g01_c01", 0)],
        "train_split_3": [Annotation("Archery/v_Archery_g01_c01", 0)],
    }


def test_class_folder_gets_the_spelling_of_the_class_index(tmp_path: Path) -> None:
    write(
        tmp_path, classInd=CLASSES, trainlist01="HandStandPushups/v_a.b 2\n", testlist01="data/archery/clip one.MP4\n"
    )
    splits = read_splits(tmp_path)
    assert splits["train_split_1"] == [Annotation("HandstandPushups/v_a.b", 1)], "a dot in a stem is no ending"
    assert splits["test_split_1"] == [Annotation("Archery/clip one", 0)]


def test_a_file_without_a_folder_takes_its_class_from_the_label(tmp_path: Path) -> None:
    write(tmp_path, classInd=CLASSES, trainlist01="v_x.avi 2\n")
    assert read_splits(tmp_path)["train_split_1"] == [Annotation("HandstandPushups/v_x", 1)]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"classInd": CLASSES}, "No trainlist01"),
        ({"classInd": "Archery 1\n", "trainlist01": "Archery/a.avi 1"}, "classInd.txt, line 1"),
        ({"classInd": CLASSES, "trainlist01": "\nSurfing/a.avi 1"}, "line 2: the class of 'Surfing/a.avi 1'"),
        ({"classInd": CLASSES, "trainlist01": "a.avi 3"}, "the class of 'a.avi 3'"),
        ({"classInd": CLASSES, "trainlist01": "a.avi"}, "the class of 'a.avi'"),
        ({"classInd": CLASSES, "trainlist01": "Archery/a.avi 2"}, "label 2, but classInd.txt gives Archery 1"),
        (
            {"classInd": CLASSES, "trainlist02": "Archery/a 1", "testlist02": "Archery/a"},
            "Archery/a is in the training",
        ),
        ({"wave_test_split1": "a.avi 3 \n"}, "does not end in 0"),
        ({"readme": ""}, "Neither classInd.txt nor"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_splits(write(tmp_path, **files))


def test_missing_and_ambiguous_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"No folder .*nowhere"):
        read_splits(tmp_path / "nowhere")
    for name in ("a", "b"):
        write(tmp_path / name, classInd=CLASSES, trainlist01="Archery/a.avi 1")
    with pytest.raises(ValueError, match="Several folders"):
        read_splits(tmp_path)


def test_hmdb_lists(tmp_path: Path) -> None:
    write(tmp_path, wave_test_split1="a_wave_1.avi 1 \nb.avi 2 \nc.avi 0 \n", brush_hair_test_split1="d.avi 1 \n")
    assert read_splits(tmp_path) == {
        "train_split_1": [Annotation("brush_hair/d", 0), Annotation("wave/a_wave_1", 1)],
        "test_split_1": [Annotation("wave/b", 1)],
    }


def test_folders_are_classes_where_there_are_no_lists() -> None:
    splits = splits_from_names(["Surfing/b", "Archery/c", "Surfing/a"])
    assert splits == {
        "train_split_1": [Annotation("Archery/c", 0), Annotation("Surfing/a", 1), Annotation("Surfing/b", 1)]
    }
    with pytest.raises(ValueError, match="b lies in no class folder"):
        splits_from_names(["A/a", "b"])
