import json
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
        ({"classInd": CLASSES}, "No lists in"),
        ({"trainlist01": "Archery/a.avi 1"}, "No classInd.txt beside"),
        ({"classInd": "Archery 1\n", "trainlist01": "Archery/a.avi 1"}, "classInd.txt, line 1"),
        ({"classInd": CLASSES, "trainlist01": "\nSurfing/a.avi 1"}, "line 2: the class of 'Surfing/a.avi 1'"),
        ({"classInd": CLASSES, "trainlist01": "a.avi 3"}, "the class of 'a.avi 3'"),
        ({"classInd": CLASSES, "trainlist01": "a.avi"}, "the class of 'a.avi'"),
        ({"classInd": CLASSES, "trainlist01": "Archery/a.avi 2"}, "label 2, but classInd.txt gives Archery 1"),
        (
            {"classInd": CLASSES, "trainlist02": "Archery/a 1", "testlist02": "Archery/a"},
            "Archery/a is in the training",
        ),
        (
            {"classInd": CLASSES, "trainlist01": "Archery/a.avi -1"},
            "line 1: .* does not end with the file or with",
        ),
        ({"wave_test_split1": "a.avi 3 \n"}, "does not end in 0"),
        ({"readme": ""}, "No lists in"),
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


@pytest.mark.parametrize("style", ["txt", "json"])
def test_a_class_above_the_last_folder_is_refused(tmp_path: Path, style: str) -> None:
    names = {"jump/s1/001.mp4": 0, "run/s2/001.mp4": 1}
    if style == "txt":
        write(tmp_path, train="".join(f"{name} {label}\n" for name, label in names.items()))
    else:
        entries = [{"name": name, "label": label} for name, label in names.items()]
        (tmp_path / "train.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match=r"'run/s2/001\.mp4' stands below another folder .*'jump' and 'run'.*<class>/"):
        read_splits(tmp_path)


def test_two_lists_for_one_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="are both called train"):
        read_splits(write(tmp_path, train_rgb="a/b 1", train_flow="a/b 1"))


HOSTILE = {
    "UCF class": ({"classInd": "1 ../../evil\n", "trainlist01": "v.avi 1"}, "classInd.txt, line 1: .*leads outside"),
    "UCF absolute class": (
        {"classInd": "1 /evil\n", "trainlist01": "v.avi 1"},
        "classInd.txt, line 1: .*leads outside",
    ),
    "UCF file": ({"classInd": CLASSES, "trainlist01": "Archery/.. 1"}, "trainlist01.txt, line 1: .*leads outside"),
    "UCF backslash": (
        {"classInd": CLASSES, "testlist01": "Archery\\..", "trainlist01": ""},
        "testlist01.txt, line 1: .*leads outside",
    ),
    "UCF folder alone": ({"classInd": CLASSES, "trainlist01": "Archery/ 1/"}, "line 1: 'Archery/ 1/' names a folder"),
    "HMDB device": ({"wave_test_split1": "nul.avi 1"}, "line 1: .*a device of Windows"),
    "paths": ({"train": "a/x 1\n../v.avi 1"}, "train.txt, line 2: .*leads outside"),
    "paths, NUL": ({"train": "a/x\0 1"}, "train.txt, line 1: .*control character"),
    "paths, another end of a line": ({"train": "a/x\u2028y 1"}, "train.txt, line 1: .*control character"),
}


@pytest.mark.parametrize("style", HOSTILE)
def test_names_that_lead_outside_are_rejected_with_their_line(tmp_path: Path, style: str) -> None:
    files, message = HOSTILE[style]
    with pytest.raises(ValueError, match=message):
        read_splits(write(tmp_path, **files))


@pytest.mark.parametrize("content", ["1 Archery\n1 Surfing\n", "1 Archery\n2 Archery\n"])
def test_a_class_has_one_label_and_a_label_one_class(tmp_path: Path, content: str) -> None:
    with pytest.raises(ValueError, match=r"classInd\.txt, line 2: .* repeats a label or a class"):
        read_splits(write(tmp_path, classInd=content, trainlist01="Archery/a.avi 1"))


def test_classes_that_differ_in_case_alone_stay_apart(tmp_path: Path) -> None:
    files = write(tmp_path, classInd="1 run\n2 Run\n", testlist01="Run/a.avi\nrun/b.avi\n")
    assert read_splits(files)["test_split_1"] == [Annotation("Run/a", 1), Annotation("run/b", 0)]
    with pytest.raises(ValueError, match=r"the class of 'RUN/a\.avi' is not in classInd"):
        read_splits(write(tmp_path, testlist01="RUN/a.avi\n"))


def test_a_line_that_comes_twice_is_one_video(tmp_path: Path) -> None:
    write(tmp_path, classInd=CLASSES, trainlist01="Archery/a.avi 1\nArchery/a.avi 1\nArchery/b.avi 1\n")
    assert read_splits(tmp_path)["train_split_1"] == [Annotation("Archery/a", 0), Annotation("Archery/b", 0)]


def test_what_windows_writes_is_read(tmp_path: Path) -> None:
    files = {"classInd": "1 Archery\n2 Gr\u00fcn\n", "trainlist01": "Archery\\a.avi 1\nGru\u0308n\\b.avi 2\n"}
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le"):
        for stem, content in files.items():
            (tmp_path / f"{stem}.txt").write_bytes(content.replace("\n", "\r\n").encode(encoding))
        assert read_splits(tmp_path) == {"train_split_1": [Annotation("Archery/a", 0), Annotation("Gr\u00fcn/b", 1)]}
    (tmp_path / "hmdb").mkdir()
    (tmp_path / "hmdb/wave_test_split4.txt").write_text("wave\\a.avi\t2\r\n", encoding="utf-16")
    assert read_splits(tmp_path / "hmdb") == {"test_split_4": [Annotation("wave/a", 0)]}


def test_names_of_official_lists_may_be_in_capitals(tmp_path: Path) -> None:
    write(tmp_path, ClassInd=CLASSES, TrainList01="Archery/a.avi 1")
    assert read_splits(tmp_path) == {"train_split_1": [Annotation("Archery/a", 0)]}


def test_a_label_beyond_all_classes_is_refused(tmp_path: Path) -> None:
    for label, words in ((10**30, "is higher than"), ("\u00b2", "is not a label and a class")):
        with pytest.raises(ValueError, match=f"classInd.txt, line 1: .*{words}"):
            read_splits(write(tmp_path, classInd=f"{label} Archery", trainlist01="Archery/a.avi 1"))
