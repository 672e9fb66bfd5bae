from pathlib import Path

import pytest

from fedvssl.files.predictions import from_digits, read_right, to_digits, write_predictions


def test_what_is_written_is_read(tmp_path: Path) -> None:
    names, right = ["Run/a, b", "Swim/c"], {"top1_acc": [False, True], "top5_acc": [True, True]}
    write_predictions(tmp_path / "x.csv", names, labels=[0, 1], answers=[1, 1], right=right)
    assert read_right(tmp_path / "x.csv") == (names, right)
    assert (tmp_path / "x.csv").read_text().splitlines() == [
        "video,label,answer,top1_acc,top5_acc",
        '"Run/a, b",0,1,0,1',
        "Swim/c,1,1,1,1",
    ]


@pytest.mark.parametrize("text", ["", "video,label,answer,top1_acc\n", "label,answer\n1,2\n", "video,top1_acc\na,2\n"])
def test_a_damaged_file_gets_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=r"x\.csv is damaged: run the test again"):
        read_right(tmp_path / "x.csv")


def test_digits_are_read_back() -> None:
    right = [True, False, True, True]
    assert to_digits(right) == "1011" and from_digits("1011") == right and from_digits("") == []
