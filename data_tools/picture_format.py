"""Decoding any picture to RGB, and the form in which it is stored for training.

Shapes: H W pixels, uint8 [H,W,3] RGB.
"""

from io import BytesIO

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from fedvssl.data.scale import resized_shape

from .extract_frames import FrameFormat

ORIENTATION = 0x0112  # EXIF tag; 1 is upright
# Up to this area a BMP is stored: it is decoded three times as fast as a PNG, and on a disk with blocks of 4 KiB a
# picture of 32x32 takes no more room than as PNG or JPEG.
SMALL = 64 * 64


class PictureError(ValueError):
    """A file that is no whole picture; the message says why and not which."""


def convert(content: bytes, *, frames: FrameFormat) -> tuple[str, bytes]:
    """Picture file -> suffix and content of the file that is stored: RGB, 8 bits, upright.

    Small pictures become BMP. Of larger ones a JPEG stays as it is if nothing has to be changed and is encoded anew
    otherwise; all others become PNG.

    Args:
        frames: `short_side`, 0 keeps the size; `quality` of a JPEG that has to be encoded anew.

    Raises:
        PictureError: if the file is empty, damaged, no picture, or has more than 16 bits a channel.
    """
    pixels, is_jpeg, unchanged = decode(content)
    resized = resize(pixels, frames.short_side) if frames.short_side else pixels
    if is_jpeg and resized.shape[0] * resized.shape[1] > SMALL:
        if unchanged and resized is pixels:
            return ".jpg", content
        return ".jpg", simplejpeg.encode_jpeg(resized, quality=frames.quality, colorspace="RGB", colorsubsampling="420")
    return encode(resized)


def encode(pixels: np.ndarray) -> tuple[str, bytes]:
    """Suffix and content of a lossless file."""
    suffix = ".bmp" if pixels.shape[0] * pixels.shape[1] <= SMALL else ".png"
    done, content = cv2.imencode(suffix, pixels[..., ::-1])
    assert done
    return suffix, content.tobytes()


def decode(content: bytes) -> tuple[np.ndarray, bool, bool]:
    """Pixels of the first picture in a file, whether it is a JPEG, and whether its own pixels are RGB or grey, upright.

    Of 16 bits the higher 8 stay; 32 bits of grey are taken for 8 or 16 by their largest value. Transparency is ignored.

    Raises:
        PictureError: see `convert`.
    """
    if not content:
        raise PictureError("is empty")
    try:
        with Image.open(BytesIO(content)) as picture:
            picture.load()
            is_jpeg = picture.format in ("JPEG", "MPO")
            unchanged = picture.mode in ("RGB", "L") and picture.getexif().get(ORIENTATION, 1) == 1
            pixels = _to_rgb(ImageOps.exif_transpose(picture))
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError("is no picture that can be read") from None
    except Exception as error:  # a damaged file may raise anything and must not stop the rest
        raise PictureError(f"is damaged ({str(error) or type(error).__name__})") from error
    return pixels, is_jpeg, unchanged


def resize(pixels: np.ndarray, short_side: int) -> np.ndarray:
    """Resize to a short side at the same aspect ratio, bilinear, over all pixels that become one."""
    height, width = resized_shape(pixels.shape[0], pixels.shape[1], short_side)
    if (height, width) == pixels.shape[:2]:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def _to_rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture)
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 0xFFFF:
            raise PictureError("has more than 16 bits a channel")
        # 32 bits (mode I) do not say how many are used: a picture of 8 bits would become black.
        only_8 = picture.mode == "I" and values.max() <= 0xFF
        return np.repeat((values if only_8 else values >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if "transparency" in picture.info:  # or Pillow warns
        picture = picture.convert("RGBA")
    return np.asarray(picture.convert("RGB"))
