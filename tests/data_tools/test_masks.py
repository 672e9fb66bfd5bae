"""Pictures with masks: pairs, kinds of masks, tiles, what is left out, and the draw of the test list."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data_tools import masks, partition
from data_tools.masks import MaskFormat, drawn_part, prepare_masks
from data_tools.shapes import write_shapes
from fedvssl.data.annotations import read_annotations
from fedvssl.data.image import read_picture
from fedvssl.data.masks import read_objects
from tests.mask_set import announcing, prepare_shapes


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)


def square(value: int, *, height: int = 40, width: int = 60) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[5:25, 10:30] = value
    return mask


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two good colour pictures, and one of each kind that is left out."""
    rng = np.random.default_rng(0)
    for name in ("a/1.png", "a/2.jpg", "b/empty.png", "b/small.png", "b/unlike.png", "lonely.png"):
        save(tmp_path / "images" / name, rng.integers(0, 255, (40, 60, 3)).astype(np.uint8))
    for name, mask in {
        **{"a/1.png": square(255), "a/2.png": square(1), "b/empty.png": square(0), "orphan.png": square(255)},
        "b/unlike.png": square(255, height=30),
    }.items():
        save(tmp_path / "masks" / name, mask)
    dot = square(0)
    dot[3:5, 3:5] = 255
    save(tmp_path / "masks/b/small.png", dot)
    (tmp_path / "images/b/broken.png").write_bytes(b"\x89PNG no")
    save(tmp_path / "masks/b/broken.png", square(255))
    return tmp_path


def run(raw: Path, *flags: str) -> Path:
    out_dir = raw / "out"
    masks.main([f"--picture_dir={raw / 'images'}", f"--mask_dir={raw / 'masks'}", f"--out_dir={out_dir}", *flags])
    return out_dir


def test_good_pairs_are_listed_and_all_others_named(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out_dir = run(raw, "--test_share=0")
    listed = read_annotations(out_dir / "annotations/train_split_1.json")
    assert [(a.name, a.label) for a in listed] == [("a/1.bmp", 0), ("a/2.bmp", 0)]
    for annotation in listed:
        assert int(read_objects(out_dir / "pictures" / annotation.name).mask(1).sum()) == 400
    stored, own = (read_picture(path) for path in (out_dir / "pictures/a/1.bmp", raw / "images/a/1.png"))
    assert np.array_equal(stored, own), "three channels, without loss"
    report = json.loads((out_dir / "masks_report.json").read_text())
    assert (report["pictures"], report["objects"], report["without_object"]) == (2, 2, 2)
    assert {name: words.split(",")[0].split(" (")[0] for name, words in report["left_out"].items()} == {
        "b/broken": "is no picture that can be read",
        "b/unlike": "has 60x40 pixels",
        "lonely": f"has no mask in {raw / 'masks'}",
        "orphan": f"is a mask without a picture in {raw / 'images'}",
    }
    told = capsys.readouterr().out
    assert "2 pictures with 2 objects (class 1: 2)" in told and "2 without an object of 100 pixels" in told
    assert "lonely has no mask" in told


def test_classes_come_from_grey_palettes_and_equal_channels(tmp_path: Path) -> None:
    kinds = {"grey": square(3), "rgb": np.repeat(square(9)[..., None], 3, axis=2)}
    for name, mask in kinds.items():
        save(tmp_path / f"masks/{name}.png", mask)
    palette = Image.fromarray(square(2))
    palette.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
    palette.save(tmp_path / "masks/palette.png")
    colours = np.repeat(square(9)[..., None], 3, axis=2)
    colours[..., 0] = 0
    save(tmp_path / "masks/colours.png", colours)
    for name in (*kinds, "palette", "colours"):
        save(tmp_path / f"images/{name}.png", np.full((40, 60, 3), 7, np.uint8))
    out_dir = run(tmp_path, "--kind=classes", "--test_share=0")
    listed = read_annotations(out_dir / "annotations/train_split_1.json")
    assert {a.name: a.label + 1 for a in listed} == {"grey.bmp": 3, "palette.bmp": 2, "rgb.bmp": 9}
    assert "colours" in json.loads((out_dir / "masks_report.json").read_text())["left_out"]


def test_masks_of_wrong_values_or_sizes_are_named_and_not_decoded(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    wrong = {"negative": np.full((40, 60), -1, np.int32), "half": np.full((40, 60), 1.5, np.float32)}
    wrong["nan"] = np.full((40, 60), np.nan, np.float32)
    save(tmp_path / "masks/good.png", square(1))
    for name, values in wrong.items():
        Image.fromarray(values).save(tmp_path / f"masks/{name}.tif")
    Image.fromarray(square(1) > 0).save(tmp_path / "masks/bits.png")
    (tmp_path / "masks/large.png").write_bytes(announcing(13_000, 13_000))
    (tmp_path / "masks/larger.png").write_bytes(announcing(100_000, 100_000))
    save(tmp_path / "masks/good.objects.png", square(1))
    for name in (*wrong, "good", "bits", "large", "larger", "good.objects"):
        save(tmp_path / f"images/{name}.png", np.full((40, 60, 3), 7, np.uint8))
    out_dir = run(tmp_path, "--kind=classes", "--test_share=0")
    listed = read_annotations(out_dir / "annotations/train_split_1.json")
    assert {a.name for a in listed} == {"bits.bmp", "good.bmp"}
    told = json.loads((out_dir / "masks_report.json").read_text())["left_out"]
    assert all("no whole numbers" in told[name] for name in wrong)
    assert told["large"] == "has 60x40 pixels, its mask 13000x13000"
    assert "cannot be read" in told["larger"] and "another picture's objects" in told["good.objects"]
    assert not recwarn.list


def test_tiles_keep_the_resolution_and_the_part_of_their_picture(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for index in range(8):
        save(tmp_path / f"images/{index}.png", rng.integers(0, 255, (70, 100, 3)).astype(np.uint8))
        save(tmp_path / f"masks/{index}.png", np.full((70, 100), 255, np.uint8))
    out_dir = run(tmp_path, "--tile=32", "--test_share=0.5")
    parts = [read_annotations(out_dir / f"annotations/{part}_split_1.json") for part in ("train", "test")]
    assert sum(map(len, parts)) == 8 * 2 * 3
    owners = [{a.name.partition("_")[0] for a in part} for part in parts]
    assert not owners[0] & owners[1], "tiles of one picture lie in one list"
    tile = read_picture(out_dir / "pictures" / "3_y00032_x00064.bmp")
    assert np.array_equal(tile, read_picture(tmp_path / "images/3.png")[32:64, 64:96])


def test_the_draw_of_the_test_list_depends_on_the_pixels_alone() -> None:
    rng = np.random.default_rng(2)
    pictures = rng.integers(0, 255, (400, 6, 6, 3)).astype(np.uint8)
    parts = [drawn_part(picture, 0.3) for picture in pictures]
    assert 90 < parts.count("test") < 150
    assert parts == [drawn_part(picture.copy(order="F"), 0.3) for picture in pictures]
    more = [drawn_part(picture, 0.6) for picture in pictures]
    assert all(b == "test" for a, b in zip(parts, more, strict=True) if a == "test"), "a larger share keeps the smaller"


@pytest.mark.parametrize(("method", "clients"), [("iid", 2), ("by-owner", 2), ("dirichlet", 2)])
def test_the_partitions_know_owners_and_classes(method: str, clients: int, tmp_path: Path) -> None:
    data = prepare_shapes(tmp_path, number=24)
    flags = ["--alpha=0.5"] if method == "dirichlet" else []
    flags += [f"--json_path={data / 'annotations'}", f"--output_path={tmp_path / 'p'}", f"--method={method}"]
    partition.main([*flags, f"--num_clients={clients}"])
    lists = [read_annotations(tmp_path / f"p/client_dist{n}.json") for n in (1, 2)]
    whole = read_annotations(data / "annotations/train_split_1.json")
    assert sorted((a.name, a.label) for own in lists for a in own) == [(a.name, a.label) for a in whole]
    assert {a.label for a in whole} == {0, 1}
    if method == "by-owner":
        assert [{a.name.partition("/")[0] for a in own} for own in lists] == [{"owner1"}, {"owner2"}]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("no masks", "No picture in .* has a mask of its name in"),
        ("no folder", "No folder"),
        ("two of a name", "have one name"),
        ("all empty", "No picture has an object of 100 pixels"),
        ("no test", "drawn for the test list"),
        ("again", "holds pictures already"),
    ],
)
def test_mistakes_get_a_sentence(change: str, sentence: str, tmp_path: Path) -> None:
    raw, share = tmp_path, 0.0
    write_shapes(raw, number=2)
    if change == "no masks":
        shutil.move(raw / "masks/owner1", raw / "masks/other")
        shutil.move(raw / "masks/owner2", raw / "masks/others")
    elif change == "no folder":
        shutil.rmtree(raw / "masks")
    elif change == "two of a name":
        shutil.copy(raw / "images/owner1/00000.png", raw / "images/owner1/00000.bmp")
    elif change == "all empty":
        for path in (raw / "masks").rglob("*.png"):
            save(path, square(0, height=64, width=64))
    elif change == "no test":
        share = 1e-9
    else:
        prepare_masks(raw / "images", raw / "masks", raw / "out", form=MaskFormat("classes", 20, 0, 0))
    with pytest.raises(ValueError, match=sentence):
        form = MaskFormat("classes", 100 if change == "all empty" else 20, 0, share)
        prepare_masks(raw / "images", raw / "masks", raw / "out", form=form)


@pytest.mark.parametrize(
    "settings", [{"kind": "soft"}, {"least_area": 0}, {"tile": 4}, {"tile": -1}, {"test_share": 1}]
)
def test_settings_out_of_range_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match=f"--{next(iter(settings))}"):
        MaskFormat(**settings)
