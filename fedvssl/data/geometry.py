"""The only pixel work of a worker: resize the decoded frames once and crop them.

Shapes: H W pixels. Frames are uint8 [H,W,3].
"""

from collections.abc import Callable

import cv2
import mmcv
import numpy as np

from fedvssl.data.scale import Scale, resized_shape

cv2.setNumThreads(1)  # many workers with small frames: more threads would only wait for each other


def resize(frame: np.ndarray, scale: Scale) -> np.ndarray:
    """Bilinear resize of [H,W,3] uint8 to `resized_shape`; the frame itself if it has this shape."""
    height, width = resized_shape(frame.shape[0], frame.shape[1], scale)
    return frame if (height, width) == frame.shape[:2] else resize_to(frame, height=height, width=width)


def resize_to(image: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """Bilinear resize of [h,w,3], uint8 or float32, to [height,width,3]."""
    return np.asarray(mmcv.imresize(image, (width, height)))


class Crop:
    """Resizes each frame of one clip and cuts the same square out of it: [H,W,3] -> [size,size,3], a view.

    Args:
        scale: see `resized_shape`.
        size: side of the square in pixels.
        place: (largest top, largest left) -> (top, left); called once, at the first frame.
    """

    def __init__(self, scale: Scale, *, size: int, place: Callable[[int, int], tuple[int, int]]) -> None:
        self.scale, self.size, self.place = scale, size, place
        self._corner: tuple[int, int] | None = None

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Cut one frame.

        Raises:
            ValueError: if it is smaller than the square after resizing.
        """
        frame = resize(frame, self.scale)
        if self._corner is None:
            self._corner = self.place(*self._room(*frame.shape[:2]))
        top, left = self._corner
        return frame[top : top + self.size, left : left + self.size]

    def _room(self, height: int, width: int) -> tuple[int, int]:
        if min(height, width) < self.size:
            raise ValueError(
                f"A crop of {self.size} pixels does not fit into frames of {width}x{height}: "
                "lower crop_size or raise the sizes."
            )
        return height - self.size, width - self.size


def random_crop(scale: Scale, rng: np.random.Generator, *, size: int) -> Crop:
    """A square at a random place."""

    def place(top: int, left: int) -> tuple[int, int]:
        return int(rng.integers(0, top, endpoint=True)), int(rng.integers(0, left, endpoint=True))

    return Crop(scale, size=size, place=place)


def center_crop(scale: Scale, *, size: int) -> Crop:
    """The square in the middle."""
    return Crop(scale, size=size, place=lambda top, left: (top // 2, left // 2))
