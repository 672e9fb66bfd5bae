import json
import re
from pathlib import Path

import pytest

from data_tools.lists import read_splits
from fedvssl.data.annotations import Annotation

HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"


def test_kinetics_csv(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    rows = 'taking a shower,Wf9RFoSFJWc,9,19,train,0\n"archery",-3B32lodo2M,59,69,train,0\n'
    (tmp_path / "train.csv").write_text(HEADER + rows + rows, newline="\r\n")
    (tmp_path / "sub/validate.csv").write_text(HEADER + "zumba,a_b_c,600,610.0,validate,0\n")
    (tmp_path / "test.csv").write_text("youtube_id,time_start,time_end,split\nx,1,11,test\n")
    assert read_splits(tmp_path) == {
        "train_split_1": [
            Annotation("taking_a_shower/Wf9RFoSFJWc_000009_000019", 1),
            Annotation("archery/-3B32lodo2M_000059_000069", 0),
        ],
        "test_split_1": [Annotation("zumba/a_b_c_000600_000610", 2)],
    }, "classes in alphabetical order of all lists; the names are those of the published client lists"


@pytest.mark.parametrize("name", ["kinetics_train.json", "kinetics400.json"])
def test_kinetics_json(tmp_path: Path, name: str) -> None:
    entries = {
        "id1": {"annotations": {"label": "tai chi", "segment": [10.0, 20.0]}, "subset": "train", "url": "..."},
        "id2": {"annotations": {"label": "archery", "segment": [0, 10]}, "subset": "validate"},
        "id3": {"annotations": {"label": "zumba", "segment": [0, 10]}, "subset": "test"},
        "id4": {"subset": "test"},
    }
    (tmp_path / name).write_text(json.dumps(entries))
    assert read_splits(tmp_path) == {
        "train_split_1": [Annotation("tai_chi/id1_000010_000020", 1)],
        "test_split_1": [Annotation("archery/id2_000000_000010", 0)],
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("kinetics_train.csv", "label,youtube_id,time_start,time_end\ntai chi,a,1,11\n"),
        ("Train.CSV", "Label;YouTube ID;Time Start;Time End;Split\ntai chi;a;1;11;Training\n"),
        ("all.tsv", "youtube_id\tlabel\tstart\tend\tsubset\na\ttai chi\t1.0\t11.0\tTRAIN\n"),
        ("train.csv", "label, youtube_id, time_start, time_end, split\ntai chi, a, 1, 11, train\n"),
        ("train.csv", HEADER + "tai chi,a,000001,000011,train,\n"),
    ],
)
def test_near_misses_are_read(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    if name == "train.csv" and content.endswith(",\n"):
        (tmp_path / name).write_text(content.removesuffix(",\n") + ",1\n")
    assert read_splits(tmp_path) == {"train_split_1": [Annotation("tai_chi/a_000001_000011", 0)]}


def test_incomplete_rows_are_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "a,id,0,10,train,0\n\n,,,,,\na,cut\na,#NAME?,0,10,train,0\na,free,0,10,train,\n"
    (tmp_path / "train.csv").write_text(HEADER + rows)
    assert read_splits(tmp_path)["train_split_1"] == [
        Annotation("a/id_000000_000010", 0),
        Annotation("a/free_000000_000010", 0),
    ]
    said = capsys.readouterr().out
    assert "train.csv: lines 4, 5 are left out, as cells are empty or missing." in said
    assert "train.csv: line 6 is left out, as their id is an error of a spreadsheet" in said


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.csv", "label,youtube_id\na,b\n", "train.csv has no column time_start, time_end: a Kinetics csv has"),
        ("clips.csv", "label,youtube_id,time_start,time_end\na,b,0,10\n", "no column split.* hold train or val"),
        ("train.csv", HEADER, "name no video for training or validation"),
        ("train.csv", HEADER + "a,id,x,10,train,0\n", "line 2: 'id' has no start and end in seconds but 'x, 10'"),
        ("train.csv", HEADER + "a,id,0,1e300,train,0\n", "line 2: 'id' has no start and end in seconds"),
        ("train.csv", HEADER + "a,id,nan,10,train,0\n", "line 2: 'id' has no start and end in seconds"),
        ("train.csv", HEADER + "a,id,-1,10,train,0\n", "line 2: 'id' has no start and end in seconds"),
        ("train.csv", HEADER + "a,id,0,10,holdout,0\n", "split 'holdout'; train, val or test was expected"),
        ("train.csv", HEADER + "a, b,id,0,10,train,0\n", "line 2: 7 cells, but the header has 6"),
        ("train.csv", HEADER + '"a,id,0,10,train,0\nb,id,0,10,train,0\n', "line 2: a quote does not end"),
        ("train.csv", HEADER + f"{'a' * 200_000},id,0,10,train,0\n", "line 2: .* a cell is too long"),
        ("train.json", '{"id": {}}', "'id' has no annotations with label and segment, or no subset"),
        ("train.json", '{"id": 3}', "'id' has no annotations"),
        ("train.json", '{"id": {"annotations": 3, "subset": "train"}}', "'id' has no annotations"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_splits(tmp_path)


@pytest.mark.parametrize(
    "change", [{"label": 3}, {"label": ["a"]}, {"segment": 3}, {"segment": [1]}, {"segment": [True, 2]}]
)
def test_an_entry_of_the_json_with_another_kind_of_value_is_named(tmp_path: Path, change: dict) -> None:
    entry = {"annotations": {"label": "a", "segment": [0, 10], **change}, "subset": "train"}
    (tmp_path / "train.json").write_text(json.dumps({"id1": entry}))
    with pytest.raises(ValueError, match=r"train\.json: 'id1' has no"):
        read_splits(tmp_path)


@pytest.mark.parametrize(("label", "video"), [("../../x", "v"), ("/x", "v"), ("a", "../../../x/v"), ("a", "c\\v")])
def test_names_that_lead_outside_are_rejected(tmp_path: Path, label: str, video: str) -> None:
    fault = r"the name .* (leads outside|holds a backslash)"
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv/train.csv").write_text(HEADER + f"{label},{video},0,10,train,0\n")
    with pytest.raises(ValueError, match=rf"train\.csv, line 2: {fault}"):
        read_splits(tmp_path / "csv")
    (tmp_path / "json").mkdir()
    entry = {"annotations": {"label": label, "segment": [0, 10]}, "subset": "train"}
    (tmp_path / "json/train.json").write_text(json.dumps({video: entry}))
    with pytest.raises(ValueError, match=rf"{re.escape('train.json')}: {fault}"):
        read_splits(tmp_path / "json")
