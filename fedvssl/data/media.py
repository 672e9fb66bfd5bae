"""Files of the samples: a name in a list to the file of a video or picture, whatever its Sample makes of it."""

import glob
from functools import cache
from pathlib import Path

import numpy as np

from fedvssl.data.frame_zip import directory_digest
from fedvssl.data.image import read_picture
from fedvssl.data.video import PICTURE_SUFFIXES, VIDEO_SUFFIXES, VideoError, open_video, zip_path
from fedvssl.files.settings import sha256


def find_media(media_dir: Path, name: str) -> Path:
    """Path of the sample `name` ("<Class>/<stem>"): its zip of frames, or else a video or picture of that stem.

    A name with a suffix, such as "a/1.npy", is that file, whatever it holds; its Sample must know how to open it.

    Raises:
        ValueError: if there is none, or the name leads outside `media_dir`.
    """
    path = zip_path(media_dir, name)
    if path.is_file():
        return path
    named = path.with_suffix("")
    if named.suffix and named.is_file():
        return named
    candidates = [file for file in sorted(path.parent.glob(f"{glob.escape(path.stem)}.*")) if file.stem == path.stem]
    for suffixes in (VIDEO_SUFFIXES, PICTURE_SUFFIXES):  # in this order: a picture beside a video is its thumbnail
        for candidate in candidates:
            if candidate.suffix.lower() in suffixes:
                return candidate
    raise ValueError(
        f"No video {name} in {media_dir}: neither {name}.zip nor a container or picture of that name is there."
    )


def picture_of_sample(media_dir: Path, name: str) -> np.ndarray:
    """Picture that stands for a sample, uint8 [H,W,3] RGB: the middle frame of a video, or the picture itself.

    Of a file of another kind it is a grey square.

    Raises:
        ValueError: if there is no file, or it cannot be read.
    """
    path = find_media(media_dir, name)
    if path.suffix.lower() not in {".zip", *VIDEO_SUFFIXES, *PICTURE_SUFFIXES}:
        return np.full((64, 64, 3), 128, np.uint8)
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        video = open_video(path)
        return video.read([len(video) // 2])[0]
    return read_picture(path)


def is_picture(media_dir: Path, name: str) -> bool:
    """True if the file of the sample `name` is a picture; False for anything else, and where there is none."""
    try:
        return find_media(media_dir, name).suffix.lower() in PICTURE_SUFFIXES
    except ValueError:
        return False


def content_key(path: Path) -> str:
    """Key of a video's content, by which what was computed from it can be kept: not its place, size or date.

    Raises:
        VideoError: if the file cannot be read.
    """
    try:
        stat = path.stat()
        return _content_key(path, stat.st_size, stat.st_mtime_ns)
    except Exception as error:  # zipfile has many for what it cannot read
        raise VideoError(f"{path} cannot be read: extract its frames again.") from error


@cache
def _content_key(path: Path, _size: int, _mtime_ns: int) -> str:
    return directory_digest(path) if path.suffix.lower() == ".zip" else sha256(path)
