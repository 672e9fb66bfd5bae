"""Pictures of several owners, of one stem, and with names that no data set can hold."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_tools import partition, prepare
from fedvssl.data.annotations import Annotation, read_annotations
from fedvssl.data.media import find_media
from fedvssl.files.atomic import read_json


def write(*paths: Path) -> None:
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 9, 3), 20 * number, np.uint8)).save(path)


def prepared(folder: Path) -> list[Annotation]:
    prepare.main(["--raw_dir", str(folder / "raw"), "--out_dir", str(folder / "out"), "--num_workers", "1"])
    listed = read_annotations(folder / "out/annotations/train_split_1.json")
    assert all(find_media(folder / "out/pictures", annotation.name).is_file() for annotation in listed)
    return listed


def test_two_owners_may_have_pictures_of_one_class_and_name(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write(*(tmp_path / "raw" / name for name in ("bob/cat/1.png", "anna/cat/1.png", "anna/dog/1.png")))
    labels = {"anna/cat/1.bmp": 0, "anna/dog/1.bmp": 1, "bob/cat/1.bmp": 0}
    for _ in range(2):  # the second run keeps what is stored
        assert prepared(tmp_path) == [Annotation(name, label) for name, label in labels.items()]
    assert "3 kept from before" in capsys.readouterr().out
    out = tmp_path / "clients"
    partition.main(
        ["--json_path", str(tmp_path / "out/annotations"), "--output_path", str(out), "--method", "by-owner"]
    )
    assert [a.name for a in read_annotations(out / "client_dist1.json")] == ["anna/cat/1.bmp", "anna/dog/1.bmp"]
    assert [client["owner"] for client in read_json(out / "partition_stats.json")["clients"]] == ["anna", "bob"]


@pytest.mark.parametrize("form", ["{part}/{owner}", "{owner}/{part}"])
def test_owners_may_lie_in_parts_and_parts_in_owners(form: str, tmp_path: Path) -> None:
    for owner in ("anna", "bob"):
        write(*(tmp_path / "raw" / form.format(part=part, owner=owner) / "cat/1.png" for part in ("train", "test")))
        write(tmp_path / "raw" / form.format(part="train", owner=owner) / f"{owner}s/1.png")
    assert [annotation.name for annotation in prepared(tmp_path)] == [
        *("anna/annas/train_1.bmp", "anna/cat/train_1.bmp", "bob/bobs/train_1.bmp", "bob/cat/train_1.bmp"),
    ]


def test_one_folder_around_all_stays_out_of_the_names(tmp_path: Path) -> None:
    write(tmp_path / "raw/all/cat/1.png", tmp_path / "raw/all/dog/1.png")
    assert [annotation.name for annotation in prepared(tmp_path)] == ["cat/1.bmp", "dog/1.bmp"]


def test_pictures_of_one_stem_keep_their_endings(tmp_path: Path) -> None:
    write(*(tmp_path / "raw/cat" / name for name in ("1.png", "1.bmp", "2.png")))
    assert [annotation.name for annotation in prepared(tmp_path)] == ["cat/1.bmp.bmp", "cat/1.png.bmp", "cat/2.bmp"]


def test_a_name_that_cannot_be_used_costs_its_own_picture(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write(*(tmp_path / "raw/cat" / f"{stem}.png" for stem in ("1", "con", 245 * "n")))
    assert [annotation.name for annotation in prepared(tmp_path)] == ["cat/1.bmp"]
    out = capsys.readouterr().out
    assert "2 pictures are left out: " in out and "a device of Windows" in out and "is too long" in out
