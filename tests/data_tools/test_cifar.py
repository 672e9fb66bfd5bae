"""The binary archives of CIFAR-10 and CIFAR-100, on made-up ones."""

import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_tools.prepare import main
from fedvssl.data.annotations import class_names, read_annotations
from fedvssl.data.media import find_media, picture_of_sample
from tests.data_tools.cifar_archive import MadeUp, make_tar

BATCHES = [f"data_batch_{number}.bin" for number in range(1, 6)]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_tools.pictures.in_processes", lambda work, jobs, **_: map(work, jobs))


def prepare(raw_dir: Path, out_dir: Path, *flags: str) -> None:
    main(["--raw_dir", str(raw_dir), "--out_dir", str(out_dir), "--num_workers", "1", *flags])


def check(made: MadeUp, out_dir: Path) -> None:
    """Every picture of the archive is stored without loss, with its label and in its list."""
    for part, files in {"train": ["train.bin"] if made.hundred else BATCHES, "test": ["test.bin"]}.items():
        if part == "test" and not made.hundred:
            files = ["test_batch.bin"]
        records = [record for file in files for record in made.records[file]]
        listed = {a.name: a.label for a in read_annotations(out_dir / f"annotations/{part}_split_1.json")}
        expected = {f"{made.classes[label]}/{part}_{n:05d}.bmp": label for n, (label, _) in enumerate(records, start=1)}
        assert listed == expected
        for name, (_, pixels) in zip(expected, records, strict=True):
            assert find_media(out_dir / "pictures", name) == out_dir / "pictures" / name
            np.testing.assert_array_equal(picture_of_sample(out_dir / "pictures", name), pixels)


@pytest.mark.parametrize("hundred", [False, True])
@pytest.mark.parametrize("form", ["archive", "folder of the archive", "batches"])
def test_every_picture_and_label(tmp_path: Path, hundred: bool, form: str) -> None:
    made, raw_dir = MadeUp(hundred=hundred), tmp_path / "raw"
    archive = made.write(raw_dir)
    if form == "batches":
        archive.unlink()
        for name, content in made.files().items():
            (raw_dir / name).write_bytes(content)
    before = sorted(raw_dir.iterdir())
    prepare(archive if form == "archive" else raw_dir, tmp_path / "out")
    check(made, tmp_path / "out")
    assert sorted(raw_dir.iterdir()) == before, "nothing is written outside of the output folder"
    names = class_names(read_annotations(tmp_path / "out/annotations/train_split_1.json"))
    assert names == {0: "zebra", 1: "ant", 2: "cat"}, "labels in the order of the file"


def test_a_rerun_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    made, out = MadeUp(), tmp_path / "out"
    prepare(made.write(tmp_path / "raw"), out)
    (out / "pictures/ant/train_00002.bmp").unlink()
    (out / "pictures/ant/train_00005.bmp").write_bytes(b"")  # after a power cut
    (out / "pictures/ant/.train_00008.99999999.bmp").write_bytes(b"half")  # of a killed process
    kept = out / "pictures/cat/train_00003.bmp"
    before = kept.stat().st_ino
    prepare(tmp_path / "raw", out)
    assert "2 pictures stored, 34 kept from before, 0 failed." in capsys.readouterr().out
    check(made, out)
    assert kept.stat().st_ino == before and not list(out.rglob(".train*"))


def test_another_size(tmp_path: Path) -> None:
    prepare(MadeUp().write(tmp_path / "raw"), tmp_path / "out", "--short_side", "16")
    assert picture_of_sample(tmp_path / "out/pictures", "zebra/train_00001.bmp").shape == (16, 16, 3)
    with pytest.raises(ValueError, match="have --short_side 16 --quality 90: use the same, or another output folder"):
        prepare(tmp_path / "raw", tmp_path / "out")


def damage(files: dict[str, bytes], fault: str) -> dict[str, bytes]:
    match fault:
        case "cut off":
            return {**files, "data_batch_2.bin": files["data_batch_2.bin"][:-5]}
        case "empty":
            return {**files, "data_batch_2.bin": b""}
        case "missing":
            return {name: content for name, content in files.items() if name != "data_batch_1.bin"}
        case "label":
            return {**files, "test_batch.bin": b"\x09" + files["test_batch.bin"][1:]}
        case "no class":
            return {**files, "batches.meta.txt": b"\n"}
        case "class twice":
            return {**files, "batches.meta.txt": b"ant\nant\ncat\n"}
        case _:
            return {**files, "batches.meta.txt": b"../zebra\nant\ncat\n"}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("cut off", r"data_batch_2\.bin has 18433 bytes, not pictures of 3073 bytes each"),
        ("empty", r"data_batch_2\.bin has 0 bytes"),
        ("missing", r"data_batch_1\.bin is missing: unpack the archive again"),
        ("label", r"test_batch\.bin has the label 9, but 3 classes are named"),
        ("no class", r"batches\.meta\.txt names no class"),
        ("class twice", r"batches\.meta\.txt names no class, or one twice"),
        ("bad name", r"batches\.meta\.txt: the name '\.\./zebra' leads outside"),
    ],
)
def test_damaged_batches_are_refused_before_anything_is_stored(tmp_path: Path, fault: str, message: str) -> None:
    for name, content in damage(MadeUp().files(), fault).items():
        (tmp_path / "raw" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "raw" / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pickled_version_is_refused_and_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "raw/cifar-10-python.tar.gz"
    path.parent.mkdir()
    path.write_bytes(make_tar({"cifar-10-batches-py/data_batch_1": b"cos\nsystem\n(S'touch evil'\ntR."}))
    with pytest.raises(ValueError, match=r"not the binary version of CIFAR-10 or CIFAR-100.*unpickling can run any"):
        prepare(path, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*batch*"))


def test_two_archives_are_refused(tmp_path: Path) -> None:
    MadeUp().write(tmp_path / "raw")
    MadeUp(hundred=True).write(tmp_path / "raw")
    with pytest.raises(ValueError, match="several archives or folders of batches: give one of them as --raw_dir"):
        prepare(tmp_path / "raw", tmp_path / "out")


@pytest.mark.parametrize("place", ["raw", "out/raw"])
@pytest.mark.parametrize("fault", ["cut off", "empty", "missing", "label", "no class"])
def test_a_whole_archive_in_place_of_a_damaged_one_is_unpacked(tmp_path: Path, fault: str, place: str) -> None:
    made, raw, out = MadeUp(), tmp_path / place, tmp_path / "out"
    archive = made.write(raw)
    files = damage(made.files(), fault)
    archive.write_bytes(make_tar({f"cifar-10-batches-bin/{name}": content for name, content in files.items()}))
    with pytest.raises(ValueError, match=r"cifar-10-binary is removed, so the same command unpacks .* again\.$"):
        prepare(raw, out)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [archive]
    made.write(raw)
    prepare(raw, out)
    check(made, out)


@pytest.mark.parametrize("place", ["raw", "out/raw"])
def test_a_damaged_unpacked_folder_is_unpacked_again(tmp_path: Path, place: str) -> None:
    made, raw, out = MadeUp(), tmp_path / place, tmp_path / "out"
    made.write(raw)
    prepare(raw, out)
    batch = out / "raw/cifar-10-binary/cifar-10-batches-bin/data_batch_3.bin"
    batch.write_bytes(batch.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"data_batch_3\.bin has 18437 bytes"):
        prepare(raw, out)
    assert not batch.exists()
    prepare(raw, out)
    assert batch.stat().st_size == 6 * 3073
    check(made, out)


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_an_archive_beside_its_content(tmp_path: Path) -> None:
    made, raw = MadeUp(), tmp_path / "raw"
    made.write(raw)
    write_files(raw / "cifar-10-batches-bin", made.files())
    prepare(raw, tmp_path / "out")
    check(made, tmp_path / "out")
    assert not (tmp_path / "out/raw").exists(), "it is unpacked already"


@pytest.mark.parametrize("case", ["other data set", "other pixels", "other classes", "cut off", "pickled"])
def test_an_archive_beside_other_batches_is_refused(tmp_path: Path, case: str) -> None:
    made, raw = MadeUp(), tmp_path / "raw"
    files = made.files()
    archive = MadeUp(hundred=case == "other data set").write(raw)
    match case:
        case "other pixels":
            files["test_batch.bin"] = files["test_batch.bin"][:-1] + bytes([files["test_batch.bin"][-1] ^ 1])
        case "other classes":
            files["batches.meta.txt"] = b"zebra\nant\ncow\n"
        case "cut off":
            files["data_batch_5.bin"] = files["data_batch_5.bin"][:-3073]
        case "pickled":
            archive.write_bytes(make_tar({"cifar-10-batches-py/data_batch_1": b"cos\nsystem\n(S'touch evil'\ntR."}))
    write_files(raw / "cifar-10-batches-bin", files)
    with pytest.raises(
        ValueError, match=rf"cifar-10-batches-bin is not the content of .*/{archive.name} beside it: give"
    ):
        prepare(raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_archive_beside_batches_is_refused(tmp_path: Path) -> None:
    made, raw = MadeUp(), tmp_path / "raw"
    archive = made.write(raw)
    archive.write_bytes(archive.read_bytes()[:5000])
    write_files(raw / "cifar-10-batches-bin", made.files())
    with pytest.raises(ValueError, match=f"{archive.name} is damaged: delete it and fetch it again"):
        prepare(raw, tmp_path / "out")


def test_an_archive_that_leads_outside_is_refused(tmp_path: Path) -> None:
    link = tarfile.TarInfo("cifar-10-batches-bin/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    path = tmp_path / "raw/cifar-10-binary.tar.gz"
    path.parent.mkdir()
    for content in (make_tar({"../evil.bin": b"evil"}), make_tar({}, link)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="lead"):
            prepare(tmp_path / "raw", tmp_path / "out")
        assert not list(tmp_path.rglob("*evil*")) and not list((tmp_path / "out").rglob("*"))


def test_a_picture_that_cv2_reads(tmp_path: Path) -> None:
    """Any other program opens the stored pictures too."""
    made = MadeUp()
    prepare(made.write(tmp_path / "raw"), tmp_path / "out")
    read = cv2.imread(str(tmp_path / "out/pictures/zebra/train_00001.bmp"))
    assert read is not None
    np.testing.assert_array_equal(read[..., ::-1], made.records["data_batch_1.bin"][0][1])
