"""Reading pictures of every kind, and putting them into one square."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from fedvssl.data.image import fit_into, read_picture
from fedvssl.data.video import open_video


def picture(height: int = 12, width: int = 20) -> np.ndarray:
    """uint8 [H,W,3] RGB, reddish on the left."""
    image = np.full((height, width, 3), (40, 90, 200), np.uint8)
    image[:, : width // 2] = (220, 60, 30)
    return image


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_pictures_are_read_as_rgb(tmp_path: Path, suffix: str) -> None:
    cv2.imwrite(str(tmp_path / f"a{suffix}"), picture()[..., ::-1])
    found = read_picture(tmp_path / f"a{suffix}")
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    # JPEG and WebP halve the resolution of colours, so the columns at the border differ.
    np.testing.assert_allclose(found[:, [0, -1]].astype(int), picture()[:, [0, -1]], atol=12)


@pytest.mark.parametrize("kind", ["grey", "16 bit", "transparent"])
def test_other_kinds_become_eight_bits_of_three_colours(tmp_path: Path, kind: str) -> None:
    stored = {
        "grey": np.full((6, 8), 77, np.uint8),
        "16 bit": np.full((6, 8, 3), 77 * 257, np.uint16),
        "transparent": np.full((6, 8, 4), (77, 77, 77, 9), np.uint8),
    }[kind]
    cv2.imwrite(str(tmp_path / "a.png"), stored)
    found = read_picture(tmp_path / "a.png")
    assert found.shape == (6, 8, 3) and (found == 77).all()


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_what_is_no_picture_gets_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png is not a readable picture"):
        read_picture(tmp_path / "a.png")


def test_pictures_of_any_size_fit_into_a_square() -> None:
    whole = picture(16, 16)
    square, height, width = fit_into(whole, 16)
    assert square is whole and (height, width) == (16, 16)
    square, height, width = fit_into(picture(12, 20), 32)
    assert square.shape == (32, 32, 3) and (height, width) == (12, 20), "never enlarged"
    np.testing.assert_array_equal(square[:12, :20], picture(12, 20))
    assert not square[12:].any() and not square[:, 20:].any()
    square, height, width = fit_into(picture(24, 40), 20)
    assert (height, width) == (12, 20)
    np.testing.assert_array_equal(square[:12, [0, 19]], picture(12, 20)[:, [0, 19]])
    assert fit_into(picture(1, 400), 20)[1:] == (1, 20)


def announcing(data: bytes, *, side: int) -> bytes:
    """A JPEG whose header tells another height and width."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + side.to_bytes(2, "big") * 2 + data[at + 4 :]


def test_a_picture_that_announces_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    _, jpeg = cv2.imencode(".jpg", picture())
    (path := tmp_path / "a.jpg").write_bytes(announcing(jpeg.tobytes(), side=65000))
    with pytest.raises(ValueError, match=r"a\.jpg announces more than 89,478,485 pixels"):
        read_picture(path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as frames:
        frames.write(path, "img_00001.jpg")
    with pytest.raises(ValueError, match=r"a\.zip announces more than 89,478,485 pixels"):
        open_video(tmp_path / "a.zip").read([0])
