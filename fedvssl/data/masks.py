"""Objects of pictures: connected components of a mask, the file that holds them, and the boxes that point to them.

`data_tools.masks` writes the file once beside its picture, so that a training reads objects and need not find them. It
is a PNG of three channels: the class of a pixel's object, and the object's number in two bytes, both 0 outside of
objects. Shapes: H W pixels, O objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fedvssl.data.image import TooLargeError, padded, read_picture

SUFFIX = ".objects.png"  # in the place of the picture's own
MOST_OBJECTS, MOST_CLASSES = 65535, 255


@dataclass(frozen=True)
class Objects:
    """Objects of one picture.

    Args:
        numbers: of the object of each pixel, int32 [H,W], from 1; 0 outside of objects.
        classes: ids of the classes of objects 1, 2, ..., int [O], from 1.
    """

    numbers: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    def mask(self, number: int) -> np.ndarray:
        """Pixels of one object, bool [H,W]; objects count from 1."""
        return self.numbers == number


def find_objects(class_ids: np.ndarray, *, least_area: int) -> Objects:
    """Find the connected components of each class: pixels that touch, corners included.

    Args:
        class_ids: of each pixel, uint8 [H,W]; 0 is the background.
        least_area: fewest pixels of an object; smaller components become background.

    Raises:
        ValueError: if there are more objects than a file can hold.
    """
    numbers, classes = np.zeros(class_ids.shape, np.int32), list[int]()
    for class_id in np.unique(class_ids[class_ids > 0]).tolist():
        _, found, stats, _ = cv2.connectedComponentsWithStats((class_ids == class_id).astype(np.uint8))
        labels = np.asarray(found)
        large = 1 + np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= least_area)
        renumbered = np.zeros(len(stats), np.int32)
        renumbered[large] = len(classes) + 1 + np.arange(len(large))
        numbers += renumbered[labels]
        classes += [class_id] * len(large)
    if len(classes) > MOST_OBJECTS:
        raise ValueError(f"it has {len(classes)} objects, at most {MOST_OBJECTS} can be stored: raise the least area")
    return Objects(numbers, np.array(classes, np.int64))


def main_class(objects: Objects) -> int:
    """The class whose objects have most pixels; the lowest of several. There must be an object."""
    areas = np.bincount(objects.numbers.ravel(), minlength=len(objects) + 1)[1:]
    return int(np.bincount(objects.classes, weights=areas).argmax())


def objects_path(picture: Path) -> Path:
    """File of the objects of a picture."""
    return picture.with_suffix(SUFFIX)


def encode_objects(objects: Objects) -> bytes:
    """Content of the file, a PNG."""
    of_pixel = np.concatenate([[0], objects.classes])[objects.numbers]
    channels = np.stack([of_pixel, objects.numbers >> 8, objects.numbers & 255], axis=-1).astype(np.uint8)
    done, content = cv2.imencode(".png", channels)
    assert done
    return content.tobytes()


def read_objects(picture: Path) -> Objects:
    """Read the objects of a picture.

    Raises:
        ValueError: if the file is missing, damaged, without an object, or announces too many pixels.
    """
    path, advice = objects_path(picture), "prepare the pictures and masks with data_tools.masks."
    if not path.is_file():
        raise ValueError(f"{path} is missing: {advice}")
    try:
        pixels = read_picture(path)[..., ::-1]
    except TooLargeError:
        raise
    except ValueError as error:
        raise ValueError(f"{path} is no picture: {advice}") from error
    numbers = (pixels[..., 1].astype(np.int32) << 8) + pixels[..., 2].astype(np.int32)
    classes = np.zeros(int(numbers.max()) + 1, np.int64)
    classes[numbers] = pixels[..., 0]
    if len(classes) < 2 or not classes[1:].all():
        raise ValueError(f"{path} holds no objects: {advice}")
    return Objects(numbers, classes[1:])


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """First and last column and row of a mask, bool [H,W], as x0, y0, x1, y1; it must not be empty."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def widened(box: Sequence[int], shifts: Sequence[int], *, height: int, width: int) -> tuple[int, int, int, int]:
    """Move each side of a box outwards, no farther than the edge of its picture.

    Args:
        box: x0, y0, x1, y1 in pixels.
        shifts: of x0, x1, y0, y1 in pixels, at least 0.
        height, width: of the picture; x1 may become `width`, y1 `height`.
    """
    left, right, up, down = map(int, shifts)
    x0, y0, x1, y1 = map(int, box)
    return max(0, x0 - left), max(0, y0 - up), min(width, x1 + right), min(height, y1 + down)


def filled(box: Sequence[int], *, height: int, width: int) -> np.ndarray:
    """Pixels of a box, its last column and row included, bool [height,width]."""
    x0, y0, x1, y1 = map(int, box)
    mask = np.zeros((height, width), bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def low_resolution(mask: np.ndarray, side: int) -> np.ndarray:
    """A mask, bool [H,W], with its longest side resized to `side`, in the corner of uint8 [side,side]."""
    height, width = mask.shape
    factor = side / max(height, width)
    size = max(1, int(width * factor + 0.5)), max(1, int(height * factor + 0.5))
    return padded(cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT), side)
