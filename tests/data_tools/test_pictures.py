"""From folders and zips of pictures to stored pictures and lists, with faulty ones left out."""

import io
import json
import lzma
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data_tools.extract_frames import FrameFormat
from data_tools.picture_format import PictureError, convert
from data_tools.prepare import main
from data_tools.raw_pictures import RawPicture
from fedvssl.data.annotations import Annotation, class_names, read_annotations
from fedvssl.data.media import find_media, picture_of_sample

KEEP = FrameFormat(short_side=0)
SMALL = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
# Smooth, so that a JPEG is near to it.
LARGE = cv2.resize(SMALL[:5, :6], (120, 100), interpolation=cv2.INTER_LINEAR)


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(content: bytes) -> np.ndarray:
    """What a Sample sees, uint8 [H,W,3] RGB."""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels[..., ::-1]


def write(path: Path, content: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(SMALL) if content is None else content)
    return path


def write_zip(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for number, name in enumerate(names):
            file.writestr(name, "" if name.endswith("/") else encoded(SMALL + np.uint8(number)))
    return path


def prepare(raw_dir: Path, *flags: str) -> Path:
    """Run the command; return the folder of the pictures."""
    out = raw_dir.parent / "out"
    main(["--raw_dir", str(raw_dir), "--out_dir", str(out), "--num_workers", "1", *flags])
    return out / "pictures"


def listed(raw_dir: Path, part: str) -> list[Annotation]:
    return read_annotations(raw_dir.parent / f"out/annotations/{part}_split_1.json")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Starting a process takes longer than most tests; `test_several_processes` and the scripts do it."""
    if request.function.__name__ != "test_several_processes":
        monkeypatch.setattr("data_tools.pictures.in_processes", lambda work, jobs, **_: map(work, jobs))


# One picture


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP", "TIFF"])
def test_lossless_pictures_are_stored_without_loss(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    for pixels, expected in ((SMALL, ".bmp"), (LARGE, ".png")):
        suffix, content = convert(encoded(pixels, kind, **options), frames=KEEP)
        assert suffix == expected
        np.testing.assert_array_equal(decoded(content), pixels)


def test_a_large_jpeg_stays_as_it_is_and_a_small_one_is_decoded() -> None:
    jpeg = encoded(LARGE, "JPEG", quality=60)
    assert convert(jpeg, frames=KEEP) == (".jpg", jpeg)
    grey = encoded(LARGE[..., 0], "JPEG")
    assert convert(grey, frames=KEEP) == (".jpg", grey)
    small = encoded(SMALL, "JPEG")
    suffix, content = convert(small, frames=KEEP)
    assert suffix == ".bmp"
    np.testing.assert_array_equal(decoded(content), np.asarray(Image.open(io.BytesIO(small))))


def test_grey_palette_alpha_and_16_bits_become_rgb() -> None:
    grey = SMALL[..., 0]
    repeated = np.repeat(grey[..., None], 3, axis=2)
    deep = grey.astype(np.uint16) * 256 + 255
    palette = Image.fromarray(SMALL).quantize(200)
    alpha = np.dstack([SMALL, grey])
    deep_rgba = cv2.imencode(".png", np.dstack([SMALL[..., ::-1], grey]).astype(np.uint16) * 256)[1].tobytes()
    clear = io.BytesIO()
    palette.save(clear, "PNG", transparency=3)
    cases = {
        "grey": (encoded(grey), repeated),
        "one bit": (encoded(Image.fromarray(grey > 127)), np.where(repeated > 127, 255, 0)),
        "grey and alpha": (encoded(Image.fromarray(np.dstack([grey, 255 - grey]), "LA")), repeated),
        "16 bits": (encoded(deep), repeated),
        "16 bits, RGBA": (deep_rgba, SMALL),
        "16 bits, TIFF": (encoded(deep, "TIFF"), repeated),
        "palette": (encoded(palette), np.asarray(palette.convert("RGB"))),
        "palette with transparency": (clear.getvalue(), np.asarray(palette.convert("RGB"))),
        "RGBA": (encoded(alpha), SMALL),
    }
    for name, (content, expected) in cases.items():
        np.testing.assert_array_equal(decoded(convert(content, frames=KEEP)[1]), expected, err_msg=name)


@pytest.mark.parametrize(
    ("dtype", "largest", "expected"),
    [
        (np.int32, 0, 0),
        (np.int32, 255, 255),
        (np.int32, 256, 1),
        (np.int32, 65535, 255),
        (np.uint16, 255, 0),  # 16 bits say how many they are: this picture is as good as black
    ],
)
def test_the_largest_value_tells_the_bits_of_32(dtype: type, largest: int, expected: int) -> None:
    values = np.zeros((4, 5), dtype)
    values[1, 2] = largest
    pixels = decoded(convert(encoded(values, "TIFF"), frames=KEEP)[1])
    assert pixels[1, 2].tolist() == [expected] * 3 and pixels.sum() == 3 * expected


def test_32_bits_of_8_stay_as_they_are() -> None:
    grey = SMALL[..., 0]
    stored = convert(encoded(grey.astype(np.int32), "TIFF"), frames=KEEP)[1]
    np.testing.assert_array_equal(decoded(stored), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("value", [65536, -1])
def test_more_than_16_bits_are_refused(value: int) -> None:
    with pytest.raises(PictureError, match="has more than 16 bits a channel"):
        convert(encoded(np.full((4, 5), value, np.int32), "TIFF"), frames=KEEP)


TURNED = {
    1: lambda p: p,
    2: np.fliplr,
    3: lambda p: np.rot90(p, 2),
    4: np.flipud,
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNED)
def test_the_rotation_of_exif_is_honoured(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    suffix, content = convert(encoded(SMALL, exif=exif), frames=KEEP)
    np.testing.assert_array_equal(decoded(content), TURNED[orientation](SMALL))
    jpeg = encoded(LARGE, "JPEG", quality=95, subsampling=0, exif=exif)
    suffix, content = convert(jpeg, frames=KEEP)
    assert suffix == ".jpg" and (content == jpeg) == (orientation == 1)
    upright = np.asarray(Image.open(io.BytesIO(content)))  # without a look at EXIF: the pixels themselves are upright
    assert abs(upright.astype(int) - TURNED[orientation](LARGE)).mean() < 4


def test_short_side() -> None:
    suffix, content = convert(encoded(LARGE), frames=FrameFormat(short_side=70))
    assert suffix == ".png" and decoded(content).shape == (70, 84, 3)
    assert abs(decoded(content).astype(int) - cv2.resize(LARGE, (84, 70), interpolation=cv2.INTER_AREA)).mean() < 2
    suffix, content = convert(encoded(LARGE, "JPEG"), frames=FrameFormat(short_side=70))
    assert suffix == ".jpg" and decoded(content).shape == (70, 84, 3)
    assert decoded(convert(encoded(SMALL), frames=FrameFormat(short_side=40))[1]).shape == (40, 60, 3)
    board = np.indices((64, 64)).sum(0)[..., None].repeat(3, 2) % 2 * 255
    reduced = decoded(convert(encoded(board.astype(np.uint8)), frames=FrameFormat(short_side=16))[1])
    assert abs(reduced[1:-1, 1:-1].astype(int) - 127).max() < 3, "all pixels count, or fine patterns would alias"


PNG = encoded(LARGE)
FAULTY = {
    "empty": (b"", "is empty"),
    "text": (b"no picture at all", "is no picture that can be read"),
    "cut off": (PNG[: len(PNG) // 2], "is damaged"),
    "cut off JPEG": (encoded(LARGE, "JPEG")[:-200], "is damaged"),
    "changed": (PNG[:60] + bytes([PNG[60] ^ 255]) + PNG[61:], "is damaged"),
    "floats": (encoded(SMALL[..., 0].astype(np.float32), "TIFF"), "has more than 16 bits a channel"),
    "32 bits": (encoded(SMALL[..., 0].astype(np.int32) * 1000, "TIFF"), "has more than 16 bits a channel"),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_faulty_pictures_are_told_from_good_ones(fault: str) -> None:
    content, message = FAULTY[fault]
    with pytest.raises(PictureError, match=message):
        convert(content, frames=KEEP)


# A data set


def test_folders_without_parts_are_training_pictures(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for name in ("dog/1.png", "cat/b.JPG", "cat/a.webp", "cat/.hidden.png", "__MACOSX/cat/._a.png"):
        write(raw / name, encoded(SMALL, "JPEG") if name.endswith("JPG") else None)
    write(raw / "readme.txt", b"text")
    pictures = prepare(raw)
    expected = [Annotation("cat/a.bmp", 0), Annotation("cat/b.bmp", 0), Annotation("dog/1.bmp", 1)]
    assert listed(raw, "train") == expected and class_names(expected) == {0: "cat", 1: "dog"}
    assert sorted(p.name for p in (tmp_path / "out/annotations").iterdir()) == ["train_split_1.json"]
    for annotation in expected:
        assert find_media(pictures, annotation.name) == pictures / annotation.name
    np.testing.assert_array_equal(picture_of_sample(pictures, "dog/1.bmp"), SMALL)
    assert json.loads((pictures / "prepare_report.json").read_text()) == {
        "frames": {"short_side": 0, "quality": 90},
        "written": 3,
        "kept": 0,
        "failed": {},
    }


@pytest.mark.parametrize("form", ["folders", "zips", "zips of folders in a folder", "one zip", "zips of classes"])
def test_train_and_test(tmp_path: Path, form: str) -> None:
    """A class may be missing in a part, and a name may be in both: nothing is mixed up."""
    raw, parts = (
        tmp_path / "raw",
        {"train": ["ant/1.png", "cat/1.png", "cat/2.png"], "test": ["bee/1.png", "cat/1.png"]},
    )
    for part, names in parts.items():
        match form:
            case "folders":
                for number, name in enumerate(names):
                    write(raw / part / name, encoded(SMALL + np.uint8(number)))
            case "zips":
                write_zip(raw / f"{part.upper()}.zip", *names)
            case "zips of folders in a folder":
                write_zip(raw / f"set/{part}.zip", *(f"pictures/{name}" for name in names))
            case "zips of classes":
                for name in names:
                    cls = [other for other in names if other.startswith(name[:3])]
                    write_zip(raw / f"{part}/{name[:3]}.zip", *(other[4:] for other in cls))
    if form == "one zip":
        raw = write_zip(raw / "all.zip", "all/", *(f"all/{part}/{name}" for part in parts for name in parts[part]))
    pictures = prepare(raw)
    labels = {"ant": 0, "bee": 1, "cat": 2}
    for part, names in parts.items():
        expected = [Annotation(f"{name[:4]}{part}_{name[4]}.bmp", labels[name[:3]]) for name in names]
        assert listed(raw, part) == expected
    if form in ("folders", "zips"):
        np.testing.assert_array_equal(picture_of_sample(pictures, "cat/train_1.bmp"), SMALL + np.uint8(1))
        np.testing.assert_array_equal(picture_of_sample(pictures, "cat/train_2.bmp"), SMALL + np.uint8(2))
    assert not list(tmp_path.glob("out/*/*/*.zip")), "nothing is unpacked"


def test_pictures_of_64_pixels(tmp_path: Path) -> None:
    """The form of Tiny-ImageNet, with val in the place of test."""
    for part in ("train", "val"):
        write(tmp_path / f"raw/{part}/n01/p.jpg", encoded(cv2.resize(LARGE, (64, 64)), "JPEG"))
    pictures = prepare(tmp_path / "raw")
    assert listed(tmp_path / "raw", "test") == [Annotation("n01/test_p.bmp", 0)]
    assert picture_of_sample(pictures, "n01/test_p.bmp").shape == (64, 64, 3)


def test_faulty_pictures_are_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    raw = tmp_path / "raw"
    for number, (content, _) in enumerate(FAULTY.values()):
        write(raw / f"train/cat/{number}.png", content)
    write(raw / "train/cat/good.png")
    write(raw / "train/dog/good.png")
    write(raw / "test/dog/bad.png", b"")
    pictures, names = prepare(raw), [f"cat/train_{number}" for number in range(len(FAULTY))]
    assert listed(raw, "train") == [Annotation("cat/train_good.bmp", 0), Annotation("dog/train_good.bmp", 1)]
    assert json.loads((tmp_path / "out/annotations/left_out.json").read_text()) == [*names, "dog/test_bad"]
    printed = capsys.readouterr().out
    assert "2 pictures stored, 0 kept from before, 8 failed." in printed and "cat/train_0 is empty" in printed
    assert "train_split_1.json: 2 pictures, 7 left out" in printed
    assert "test_split_1.json: not written, none of its 1 pictures can be read" in printed
    assert "pictures that cannot be read, left out: 8 (cat/train_0, " in printed
    failed = json.loads((pictures / "prepare_report.json").read_text())["failed"]
    assert failed.keys() == {*names, "dog/test_bad"} and failed["cat/train_1"] == "is no picture that can be read"
    # Once they are mended, the same command takes them and no other one.
    write(raw / "test/dog/bad.png")
    for number in range(len(FAULTY)):
        write(raw / f"train/cat/{number}.png")
    prepare(raw)
    assert "8 pictures stored, 2 kept from before, 0 failed." in capsys.readouterr().out
    assert len(listed(raw, "train")) == 9 and not (tmp_path / "out/annotations/left_out.json").exists()


def test_a_stop_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    raw = tmp_path / "raw"
    for number in range(6):
        write(raw / f"cat/{number}.png")

    def until_stopped(work, jobs, **_: object):
        for number, job in enumerate(jobs):
            if number == stop_at:
                raise KeyboardInterrupt
            yield work(job)

    monkeypatch.setattr("data_tools.pictures.CHUNK", 2)
    monkeypatch.setattr("data_tools.pictures.in_processes", until_stopped)
    stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        prepare(raw)
    assert not (tmp_path / "out/annotations").exists(), "no list of a part of the pictures"
    stop_at = -1
    prepare(raw)
    assert "2 pictures stored, 4 kept from before" in capsys.readouterr().out and len(listed(raw, "train")) == 6


def test_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_tools.pictures.CHUNK", 2)
    names = [f"{cls}/{number}.png" for cls in ("cat", "dog") for number in range(3)]
    write_zip(tmp_path / "raw/train.zip", *names)
    pictures = prepare(tmp_path / "raw", "--num_workers", "2")
    for number, name in enumerate(names):
        stored = picture_of_sample(pictures, f"{name[:4]}train_{name[4]}.bmp")
        np.testing.assert_array_equal(stored, SMALL + np.uint8(number))


def test_a_full_disk_is_no_fault_of_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "raw/cat/1.png")

    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*1\.bmp'"):
        prepare(tmp_path / "raw")


def test_another_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "raw/cat/1.png")
    prepare(tmp_path / "raw", "--short_side", "16")
    with pytest.raises(ValueError, match="have --short_side 16 --quality 90: use the same, or another output folder"):
        prepare(tmp_path / "raw")


def test_the_output_lies_outside_of_the_raw_folder(tmp_path: Path) -> None:
    write(tmp_path / "cat/1.png")
    for out in (tmp_path, tmp_path / "out"):
        with pytest.raises(ValueError, match="so a later run would take its pictures for raw ones: move it"):
            main(["--raw_dir", str(tmp_path), "--out_dir", str(out)])
    assert [path.name for path in tmp_path.iterdir()] == ["cat"]


def test_an_archive_beside_its_pictures_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "raw/cat/1.png")
    write(tmp_path / "raw/pictures.tar.gz", b"whatever")
    prepare(tmp_path / "raw")
    assert listed(tmp_path / "raw", "train") == [Annotation("cat/1.bmp", 0)]


def test_videos_come_before_pictures(tmp_path: Path) -> None:
    """A picture beside a video is its thumbnail."""
    write(tmp_path / "raw/cat/1.png")
    write(tmp_path / "raw/cat/1.avi", b"no video")
    with pytest.raises(ValueError, match="None of the 1 listed videos has a zip"):
        prepare(tmp_path / "raw")


REFUSED = {
    "an empty folder": (["cat/1.png", "dog/"], r"raw/dog is a class folder without a picture \(bmp, jpeg, jpg"),
    "an empty folder of a part": (["train/cat/1.png", "test/cat/"], "raw/test/cat is a class folder without"),
    "no class": (["1.png"], r"raw/1\.png lies in no class folder: the folder of a picture is its class"),
    "no class in a part": (["train/1.png"], "lies in no class folder"),
    "one class": (["a/images/1.png", "b/images/2.png"], "a/images and (all/)?b/images would both be the class images"),
    "inside and outside": (["train/cat/1.png", "cat/2.png"], "cat lies in neither train nor test"),
    "test and val": (["train/c/1.png", "test/c/1.png", "val/c/1.png"], "both test and val: give a folder with one"),
    "no training picture": (["test/cat/1.png"], "no training picture: put the folders of the classes into a folder"),
    "a device of Windows": (["cat/con.png"], r"the name 'cat/con(\.png)?' has the part .* a device of Windows"),
}


# In a zip the first would be a picture of the class "all", and both places of the second lie in one part.
ZIPPED = sorted(REFUSED.keys() - {"no class", "inside and outside"})


@pytest.mark.parametrize(("case", "zipped"), [*((case, False) for case in REFUSED), *((case, True) for case in ZIPPED)])
def test_one_sentence_before_anything_is_stored(tmp_path: Path, case: str, zipped: bool) -> None:
    names, message = REFUSED[case]
    for name in () if zipped else names:
        (tmp_path / "raw" / name).mkdir(parents=True) if name.endswith("/") else write(tmp_path / "raw" / name)
    if zipped:
        write_zip(tmp_path / "raw/all.zip", *names)
        message = message.replace("raw/", "").replace(r"dog is", "dog/ is").replace("cat is", "cat/ is")
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path / "raw")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../evil.png", "/tmp/evil.png", "cat/../../evil.png", "..\\evil.png", "C:/evil.png"])
def test_members_with_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    write_zip(tmp_path / "raw/train.zip", "cat/1.png", name)
    with pytest.raises(ValueError, match="leads outside the folder"):
        prepare(tmp_path / "raw")
    assert not (tmp_path / "out").exists()


def test_damaged_and_encrypted_zips_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "raw/train.zip", b"no zip")
    with pytest.raises(ValueError, match=r"train\.zip is damaged"):
        prepare(tmp_path / "raw")
    content = bytearray(write_zip(path, "cat/1.png").read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"train\.zip is encrypted: unpack it by hand"):
        prepare(tmp_path / "raw")


def test_a_damaged_member_is_left_out(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "raw/train.zip", "cat/1.png", "cat/2.png")
    content = bytearray(path.read_bytes())
    content[len("PK....") + 24 + len("cat/1.png") + 40] ^= 255  # a byte of the first picture
    path.write_bytes(content)
    prepare(tmp_path / "raw")
    assert listed(tmp_path / "raw", "train") == [Annotation("cat/train_2.bmp", 0)]
    assert json.loads((tmp_path / "out/annotations/left_out.json").read_text()) == ["cat/train_1"]


def set_size(path: Path, size: int) -> None:
    """Write another size of the first member into the zip's directory."""
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\1\2") + 24
    content[start : start + 4] = size.to_bytes(4, "little")
    path.write_bytes(content)


def test_a_member_larger_than_any_picture_is_left_out_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = write_zip(tmp_path / "raw/train.zip", "cat/1.png", "cat/2.png"), []
    whole = zipfile.ZipFile.read
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda self, name: read.append(name) or whole(self, name))
    set_size(path, 200_000_001)
    failed = json.loads((prepare(tmp_path / "raw") / "prepare_report.json").read_text())["failed"]
    assert failed == {"cat/train_1": "has 200.0 MB in its zip, more than the 200.0 MB of a picture"}
    assert read == ["cat/2.png"] and listed(tmp_path / "raw", "train") == [Annotation("cat/train_2.bmp", 0)]


def test_the_bound_of_a_member_itself_is_read(tmp_path: Path) -> None:
    set_size(write_zip(tmp_path / "train.zip", "cat/1.png"), 200_000_000)
    assert RawPicture("cat/1", "train", tmp_path / "train.zip", "cat/1.png").read() == encoded(SMALL)


@pytest.mark.parametrize(
    ("method", "error"),
    [(zipfile.ZIP_BZIP2, OSError), (zipfile.ZIP_LZMA, lzma.LZMAError), (zipfile.ZIP_DEFLATED, zlib.error)],
)
def test_a_damaged_member_of_any_method_is_left_out(tmp_path: Path, method: int, error: type[Exception]) -> None:
    path = tmp_path / "raw/train.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", method) as file:
        for name in ("cat/1.png", "cat/2.png"):
            file.writestr(name, encoded(LARGE, "BMP"))
    content = bytearray(path.read_bytes())
    start = 30 + len("cat/1.png")
    content[start : start + 60] = b"\xff" * 60
    if method == zipfile.ZIP_LZMA:
        content[start : start + 4] = b"\x09\x04\x05\x00"  # its header stays, but for the properties that follow
    path.write_bytes(content)
    with zipfile.ZipFile(path) as file, pytest.raises(error):
        file.read("cat/1.png")
    prepare(tmp_path / "raw")
    assert listed(tmp_path / "raw", "train") == [Annotation("cat/train_2.png", 0)]
    assert json.loads((tmp_path / "out/annotations/left_out.json").read_text()) == ["cat/train_1"]


ERRORS_OF_MEMBERS = (
    MemoryError(),
    RuntimeError("is encrypted"),
    NotImplementedError("method 97"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "name"),
)


@pytest.mark.parametrize("error", ERRORS_OF_MEMBERS)
def test_a_member_that_cannot_be_read_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    assert_read_raises(tmp_path, monkeypatch, error, PictureError, str(error) or type(error).__name__)


def test_an_error_of_the_disk_is_no_fault_of_a_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_read_raises(tmp_path, monkeypatch, OSError(5, "Input/output error"), OSError, "Input/output error")


def assert_read_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: type[Exception], message: str
) -> None:
    def fail(self: zipfile.ZipFile, name: str) -> bytes:
        raise error

    path = write_zip(tmp_path / "train.zip", "cat/1.png")
    monkeypatch.setattr(zipfile.ZipFile, "read", fail)
    with pytest.raises(expected, match=message):
        RawPicture("cat/1", "train", path, "cat/1.png").read()
