"""Reading videos: a zip of JPEG frames, or any container that PyAV decodes.

Shapes: T frames, H W pixels. Frames are uint8 [T,H,W,3] RGB, indices are zero-based.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import simplejpeg

from fedvssl.data.container import Container, VideoError, pixel_converter
from fedvssl.data.frame_zip import open_frames
from fedvssl.data.image import TooLargeError, check_sides
from fedvssl.files.names import check_name

# Suffixes of videos when a folder is searched; reading itself trusts the content, not the suffix.
# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mkv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv",
    ".y4m",
})
# fmt: on


PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
Indices = Sequence[int] | np.ndarray
Step = Callable[[np.ndarray], np.ndarray]


def whole(frame: np.ndarray) -> np.ndarray:
    return frame


class Video(Protocol):
    """A video whose frames can be read in any order."""

    def __len__(self) -> int:
        """Number of frames, >= 1."""
        ...

    def read(self, indices: Indices, then: Step = whole) -> np.ndarray:
        """Read frames as uint8 [len(indices),H,W,3] RGB, in the given order; a repeated frame is decoded once.

        Args:
            indices: zero-based.
            then: applied to each frame, uint8 [H,W,3], right after decoding; its result is kept. Cropping here and not
                afterwards keeps the work within the processor's cache.
        """
        ...


class ZipVideo:
    """Frames `img_00001.jpg` ... in a zip; only the requested frames are decoded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._frames = open_frames(path)
        except Exception as error:  # zipfile has many for what it cannot read
            raise VideoError(f"{path} is not a readable zip of frames: extract its frames again.") from error
        if not len(self._frames):
            raise VideoError(f"{path} holds no JPEG frames: extract its frames again.")

    def __len__(self) -> int:
        return len(self._frames)

    def read(self, indices: Indices, then: Step = whole) -> np.ndarray:
        needed, places = _needed(indices, num_frames=len(self), path=self.path)
        return _stack(map(then, self._decode(needed)), places)

    def _decode(self, indices: list[int]) -> Iterator[np.ndarray]:
        """Yield frames, each valid until the next one."""
        frame = first = None
        try:
            for index in indices:
                jpeg = self._frames.read(index)
                height, width, *_ = simplejpeg.decode_jpeg_header(jpeg)
                check_sides(int(height), int(width), self.path)
                frame = simplejpeg.decode_jpeg(jpeg, buffer=frame)
                first = first or frame.shape
                if frame.shape != first:
                    raise VideoError(f"{self.path} has frames of several sizes: extract its frames again.")
                yield frame
        except (VideoError, TooLargeError):
            raise
        except Exception as error:  # of zipfile and simplejpeg, for damaged and encrypted frames
            kind = "an encrypted" if "encrypted" in str(error) else "a damaged"
            raise VideoError(f"{self.path} has {kind} frame, number {index + 1}: extract its frames again.") from error


class ContainerVideo:
    """Any container that PyAV decodes; always decoded from the start, because seeking is not exact in every format.

    Frames are counted by decoding them, because the counts in headers are wrong too often. Damaged ones are left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._length = sum(1 for _ in Container(path).decoded())

    def __len__(self) -> int:
        return self._length

    def read(self, indices: Indices, then: Step = whole) -> np.ndarray:
        needed, places = _needed(indices, num_frames=len(self), path=self.path)
        return _stack(map(then, self._pick(needed)), places)

    def _pick(self, indices: list[int]) -> Iterator[np.ndarray]:
        wanted, to_rgb = set(indices), pixel_converter()
        for index, frame in enumerate(Container(self.path).decoded()):
            if index in wanted:
                yield to_rgb(frame)
            if index == indices[-1]:
                return


def open_video(path: Path) -> Video:
    """Open a zip of JPEG frames or a container.

    Raises:
        VideoError: if the file is a picture, cannot be read or holds no frame.
    """
    if path.suffix.lower() in PICTURE_SUFFIXES:
        raise VideoError(
            f"{path} is a picture, and this Sample needs a video: for pictures set input=pictures, in pre-training a "
            "task such as simclr; the motion probe has no use for them."
        )
    return ZipVideo(path) if path.suffix.lower() == ".zip" else ContainerVideo(path)


def zip_path(media_dir: Path, name: str) -> Path:
    """Path of the zip with the frames of the video `name` ("<Class>/<stem>"); it need not exist.

    Raises:
        ValueError: if the name leads outside `media_dir`.
    """
    return media_dir / f"{check_name(name, where=media_dir)}.zip"


def _needed(indices: Indices, *, num_frames: int, path: Path) -> tuple[list[int], np.ndarray]:
    """Sorted distinct indices, and the position of each requested frame among them."""
    needed, places = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
    if len(needed) and not 0 <= needed[0] <= needed[-1] < num_frames:
        raise IndexError(f"{path} has {num_frames} frames; frames {needed[0]}..{needed[-1]} were asked for.")
    return needed.tolist(), places


def _stack(frames: Iterator[np.ndarray], places: np.ndarray) -> np.ndarray:
    """Copy frames as they come, one per distinct place, ascending, and arrange them by places [n]: [n,H,W,3]."""
    distinct = None
    for number, frame in enumerate(frames):
        if distinct is None:
            distinct = np.empty((places.max() + 1, *frame.shape), np.uint8)
        distinct[number] = frame
    assert distinct is not None
    return distinct if np.array_equal(places, np.arange(len(distinct))) else distinct[places]
