"""Baseline: straightforward Catch-the-Patch data and model, frame by frame, in float, on the CPU.

Follows a description of the public code: full-size JPEGs of quality 95 in a zip, OpenCV for decoding, resizing, colour,
float64 patches, float32 for the rest, a contiguous model. The same functions draw random numbers for both sides.
"""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from fedvssl.data import augment, sampling
from fedvssl.tasks.ctp import CtPSample
from fedvssl.tasks.patches import ELLIPSE, RECTANGLE

MEAN, STD = (255 * np.array([values]) for values in (augment.IMAGENET_MEAN, augment.IMAGENET_STD))


class PlainSample:
    """From a zip to the float clip that goes into the model.

    Args:
        settings: the settings of our side.
    """

    def __init__(self, settings: CtPSample) -> None:
        self.settings = settings

    def __call__(self, path: Path, rng: np.random.Generator) -> dict[str, Tensor]:
        """ "clips" float32 [3,T,H,W] and "boxes" int64 [P,T,4]."""
        settings, size = self.settings, self.settings.crop_size
        frames = self.decode(path, rng)
        frames = scale(frames, int(rng.choice(settings.short_sides)))
        height, width = frames[0].shape[:2]
        top, left = rng.integers(0, height - size + 1), rng.integers(0, width - size + 1)
        frames = [frame[top : top + size, left : left + size] for frame in frames]
        if rng.random() < settings.flip_prob:
            frames = [cv2.flip(frame, 1) for frame in frames]
        drawn = settings.patches.draw(rng, num_frames=len(frames), height=size, width=size)
        frames = paste_patches(frames, drawn)
        colour = settings.draw_colour(rng)
        if colour["hue_applied"]:
            frames = [shift_hue(frame, float(colour["hue"]), float(colour["saturation"])) for frame in frames]
        frames = [frame.astype(np.float32) for frame in frames]
        if colour["brightness"].any():
            frames = [
                np.clip(frame + np.float32(d), 0, 255) for frame, d in zip(frames, colour["brightness"], strict=True)
            ]
        if (colour["contrast"] != 1).any():
            frames = [
                np.clip(frame * np.float32(c), 0, 255) for frame, c in zip(frames, colour["contrast"], strict=True)
            ]
        return {"clips": to_tensor(frames), "boxes": torch.from_numpy(drawn["boxes"])}

    def decode(self, path: Path, rng: np.random.Generator) -> list[np.ndarray]:
        """T frames of a random clip, BGR."""
        settings = self.settings
        with zipfile.ZipFile(path) as archive:
            names = sorted(archive.namelist())
            indices = sampling.random_clip(
                len(names), rng, clip_len=settings.clip_len, strides=settings.strides, jitter=True
            )
            jpegs = [np.frombuffer(archive.read(names[index]), np.uint8) for index in indices]
        return [np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)) for jpeg in jpegs]


def scale(frames: list[np.ndarray], short_side: int) -> list[np.ndarray]:
    height, width = frames[0].shape[:2]
    factor = short_side / min(height, width)
    size = (int(width * factor + 0.5), int(height * factor + 0.5))
    return [cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) for frame in frames]


def paste_patches(frames: list[np.ndarray], drawn: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Blend every patch into every frame that has it, in float64, truncated to grey levels after each patch."""
    original, frames = frames, [frame.copy() for frame in frames]
    for patch, boxes in enumerate(drawn["boxes"]):
        source = drawn["source"][patch]
        x1, y1, x2, y2 = boxes[source]
        cut = original[source][y1:y2, x1:x2]
        mask = draw_mask(x2 - x1, y2 - y1, outline=drawn["outline"][patch], edge=drawn["edge"][patch])
        for index, (x1, y1, x2, y2) in enumerate(boxes):
            if not drawn["pasted"][patch, index]:
                continue
            region = frames[index][y1:y2, x1:x2]
            layer = cv2.resize(cut, (int(x2 - x1), int(y2 - y1))).reshape(region.shape)
            alpha = cv2.resize(mask, (int(x2 - x1), int(y2 - y1))) * drawn["opacity"][patch, index]
            alpha = alpha.reshape(*region.shape[:2], 1)
            region[...] = (region * (1 - alpha) + layer * alpha).astype(np.uint8)
    return frames


def draw_mask(width: int, height: int, *, outline: int, edge: float) -> np.ndarray:
    """Outline of a patch, float64 [height,width] in 0..1."""
    columns = np.abs(np.arange(width) - (width - 1) // 2) / width
    rows = np.abs(np.arange(height) - (height - 1) // 2) / height
    x, y = np.meshgrid(columns, rows)
    if outline == RECTANGLE:
        mask, distance = np.ones((height, width)), np.maximum(x, y)
    else:
        distance = np.sqrt(x**2 + y**2) if outline == ELLIPSE else x + y
        mask = (distance < 0.5).astype(np.float64)
    return mask * np.clip((0.5 - distance) / edge, 0, 1) if edge > 0 else mask


def shift_hue(frame: np.ndarray, hue: float, saturation: float) -> np.ndarray:
    hsv = cv2.cvtColor(frame, cv2.COLOR_BGR2HSV).astype(np.float32)
    hsv[..., 0] = np.clip(np.round(hsv[..., 0] + hue), 0, 179)
    hsv[..., 1] = np.clip(np.round(hsv[..., 1] * saturation), 0, 255)
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR)


def to_tensor(frames: list[np.ndarray]) -> Tensor:
    """BGR float frames -> normalised RGB clip, float32 [3,T,H,W]. OpenCV computes in place, the fastest plain way."""
    clip = np.empty((3, len(frames), *frames[0].shape[:2]), np.float32)
    for index, frame in enumerate(frames):
        cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, frame)
        cv2.subtract(frame, MEAN, frame)
        cv2.multiply(frame, 1 / STD, frame)
        clip[:, index] = frame.transpose(2, 0, 1)
    return torch.from_numpy(clip)
