"""Reading a picture file."""

import warnings
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 2**26  # of a picture or frame, 268 MB once it is decoded
TOO_LARGE = f"announces more than {MOST_PIXELS:,} pixels: make it smaller."


class TooLargeError(ValueError):
    """A picture with more pixels than MOST_PIXELS; the message names the file."""


def check_sides(height: int, width: int, path: Path) -> None:
    """Reject a picture that announces more pixels than MOST_PIXELS, before memory is taken for them.

    Raises:
        TooLargeError: naming the file.
    """
    if height * width > MOST_PIXELS:
        raise TooLargeError(f"{path} {TOO_LARGE}")


def read_picture(path: Path) -> np.ndarray:
    """Read a picture of any kind that OpenCV knows as uint8 [H,W,3] RGB, turned as its EXIF entry says.

    Grey and palettes become RGB, 16 bits become 8, and a transparency is left out.

    Raises:
        ValueError: if the file is empty or no picture, or announces too many pixels.
    """
    data = path.read_bytes()
    _check_header(data, path)
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:
        picture = None
    if picture is None:
        raise ValueError(f"{path} is not a readable picture.")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _check_header(data: bytes, path: Path) -> None:
    """Check the sides that a header tells, read by Pillow, which reads no more; OpenCV may know other kinds."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(BytesIO(data)) as header:
                check_sides(header.height, header.width, path)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise TooLargeError(f"{path} {TOO_LARGE}") from error
        except (OSError, SyntaxError):
            return


def fit_into(picture: np.ndarray, side: int) -> tuple[np.ndarray, int, int]:
    """Put a picture into the upper left corner of a black square, so that pictures of any size make a batch.

    Args:
        picture: uint8 [H,W,3]; it is shrunk if it is larger than the square, and never enlarged.
        side: of the square.

    Returns:
        The square, uint8 [side,side,3], and height and width of the picture in it.
    """
    factor = side / max(picture.shape[:2])
    if factor < 1:
        height, width = (max(1, round(factor * length)) for length in picture.shape[:2])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    height, width = picture.shape[:2]
    if (height, width) == (side, side):
        return picture, side, side
    square = np.zeros((side, side, 3), np.uint8)
    square[:height, :width] = picture
    return square, height, width


def longest_side(picture: np.ndarray, side: int) -> np.ndarray:
    """Resize a picture to a longest side at the same aspect ratio, bilinear, over all pixels that become one.

    Args:
        picture: uint8 [H,W,3].
        side: pixels; smaller pictures are enlarged.
    """
    height, width = picture.shape[:2]
    factor = side / max(height, width)
    size = max(1, int(width * factor + 0.5)), max(1, int(height * factor + 0.5))
    if size == (width, height):
        return picture
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))


def padded(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture, uint8 [H,W,...], in the upper left corner of a square of zeros, uint8 [side,side,...]."""
    square = np.zeros((side, side, *picture.shape[2:]), np.uint8)
    square[: picture.shape[0], : picture.shape[1]] = picture
    return square
