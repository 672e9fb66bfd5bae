"""Videos made in the test."""

import zipfile
from pathlib import Path

import av
import numpy as np
import simplejpeg

from fedvssl.data.video import Step, whole


class ArrayVideo:
    """Frames in memory behind the interface of `fedvssl.data.video.Video`."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, indices: np.ndarray, then: Step = whole) -> np.ndarray:
        return np.stack([then(frame) for frame in self.frames[indices]])


def moving_square(*, num_frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """A bright square crossing a textured background: uint8 [T,H,W,3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    background = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    frames = np.tile(background, (num_frames, 1, 1, 1))
    side = height // 4
    for t, frame in enumerate(frames):
        left = (seed + 2 * t) % (width - side)
        frame[side : 2 * side, left : left + side] = 255
    return frames


def write_video(path: Path, frames: np.ndarray, *, codec: str = "mpeg4", title: str = "") -> Path:
    """Encode uint8 [T,H,W,3] to a real video file with a tag in its container."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        container.metadata["title"] = title
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_frames(path: Path, frames: np.ndarray, *, quality: int = 90) -> Path:
    """A zip of JPEG frames as the preprocessing writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for number, frame in enumerate(frames, start=1):
            archive.writestr(
                f"img_{number:05d}.jpg", simplejpeg.encode_jpeg(np.ascontiguousarray(frame), quality=quality)
            )
    return path
