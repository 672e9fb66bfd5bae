"""The only pixel work a worker does: resize the decoded frames once and cut the crop out of them.

Shapes: T frames, H W pixels. Frames are uint8 [T,H,W,3].
"""

import cv2
import mmcv
import numpy as np

cv2.setNumThreads(1)  # frames are small and workers are many: threads below them would only wait for each other

Scale = int | tuple[int, int]


def resized_shape(height: int, width: int, scale: Scale) -> tuple[int, int]:
    """Height and width after resizing.

    Args:
        scale: the new short side (the other follows the aspect ratio), or (long, short) sides which are taken as they
            are, portrait videos turned.
    """
    if isinstance(scale, int):
        factor = scale / min(height, width)
        return (scale, int(width * factor + 0.5)) if height <= width else (int(height * factor + 0.5), scale)
    long, short = scale
    return (short, long) if height <= width else (long, short)


def resize(frames: np.ndarray, scale: Scale) -> np.ndarray:
    """Bilinear resize of [T,H,W,3] uint8 to `resized_shape`."""
    height, width = resized_shape(frames.shape[1], frames.shape[2], scale)
    if (height, width) == frames.shape[1:3]:
        return frames
    return np.stack([np.asarray(mmcv.imresize(frame, (width, height))) for frame in frames])


def crop(frames: np.ndarray, *, top: int, left: int, size: int) -> np.ndarray:
    """A square of `size` pixels: [T,H,W,3] -> [T,size,size,3], contiguous."""
    return np.ascontiguousarray(frames[:, top : top + size, left : left + size])


def random_crop(frames: np.ndarray, rng: np.random.Generator, *, size: int) -> np.ndarray:
    """A square at a random place, the same in all frames.

    Raises:
        ValueError: if the frames are smaller than the crop.
    """
    height, width = _checked_shape(frames, size)
    top = int(rng.integers(0, height - size, endpoint=True))
    left = int(rng.integers(0, width - size, endpoint=True))
    return crop(frames, top=top, left=left, size=size)


def center_crop(frames: np.ndarray, *, size: int) -> np.ndarray:
    """The square in the middle.

    Raises:
        ValueError: if the frames are smaller than the crop.
    """
    height, width = _checked_shape(frames, size)
    return crop(frames, top=(height - size) // 2, left=(width - size) // 2, size=size)


def _checked_shape(frames: np.ndarray, size: int) -> tuple[int, int]:
    height, width = frames.shape[1:3]
    if min(height, width) < size:
        raise ValueError(
            f"A crop of {size} pixels does not fit into frames of {width}x{height}: lower crop_size or raise the sizes."
        )
    return height, width
