"""Made-up media: a video and a picture of noise with an object, on which a machine without data can try a task."""

import zipfile
from pathlib import Path

import numpy as np
import simplejpeg

from fedvssl.data.annotations import Annotation
from fedvssl.data.masks import encode_objects, find_objects, objects_path

NUM_FRAMES, SIDE = 64, 256  # enough for the clips and crops of the published settings
KINDS = ("video", "picture")


def write_made_up(folder: Path) -> list[Annotation]:
    """Write a video and a picture of noise; return them by their names, in this order.

    The picture has an object, a square in its middle, for tasks on pictures with masks.
    """
    rng = np.random.default_rng(0)
    frames = [_jpeg(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(2)]
    with zipfile.ZipFile(folder / f"{KINDS[0]}.zip", "w") as archive:
        for number in range(1, NUM_FRAMES + 1):
            archive.writestr(f"img_{number:05d}.jpg", frames[number % 2])
    picture = folder / f"{KINDS[1]}.jpg"
    picture.write_bytes(frames[0])
    class_ids = np.pad(np.ones((SIDE // 2, SIDE // 2), np.uint8), SIDE // 4)
    objects_path(picture).write_bytes(encode_objects(find_objects(class_ids, least_area=1)))
    return [Annotation(name, label=0) for name in KINDS]


def _jpeg(frame: np.ndarray) -> bytes:
    return simplejpeg.encode_jpeg(frame, quality=90)
