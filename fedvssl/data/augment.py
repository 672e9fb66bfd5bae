"""Pixel arithmetic on whole batches, on the device: flip, colour, normalisation.

A worker draws the random parameters, the functions here only apply them; they have no randomness of their own.
Frames are float32 [B,T,H,W,3], RGB, 0..255, until `normalize` turns them into model input [B,3,T,H,W].
Shapes: B batch, T frames, H W pixels.
"""

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# 8-bit HSV as OpenCV computes it: hue 0..179 and saturation 0..255 by fixed-point division with 12 fractional bits.
_SHIFT = 12
_SATURATION_TABLE = [0] + [round((255 << _SHIFT) / value) for value in range(1, 256)]
_HUE_TABLE = [0] + [round((180 << _SHIFT) / (6 * value)) for value in range(1, 256)]


def flip(frames: Tensor, flags: Tensor) -> Tensor:
    """Mirror the clips whose flag is set. flags: bool [B]."""
    return torch.where(flags.view(-1, 1, 1, 1, 1), frames.flip(3), frames)


def brightness(frames: Tensor, delta: Tensor) -> Tensor:
    """Add grey levels, clipped to 0..255. delta: float [B,T]; 0 leaves a frame as it is."""
    return (frames + delta[:, :, None, None, None]).clamp(0, 255)


def contrast(frames: Tensor, factor: Tensor) -> Tensor:
    """Multiply, clipped to 0..255. factor: float [B,T]; 1 leaves a frame as it is."""
    return (frames * factor[:, :, None, None, None]).clamp(0, 255)


def hue_saturation(frames: Tensor, *, flags: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
    """Shift the hue and scale the saturation of the clips whose flag is set.

    The 8-bit HSV arithmetic of OpenCV, as published: frames are rounded to grey levels and the shifted hue is clipped
    to 0..179 instead of being wrapped around.
    Deviation: the way back rounds in every column. OpenCV 5 truncates in those columns that its vector code handles
    and rounds in the rest of a row, so the two differ there by at most one grey level.

    Args:
        frames: float32 [B,T,H,W,3] RGB.
        flags: bool [B].
        hue: float [B], added to the hue, which has 180 steps.
        saturation: float [B], factor of the saturation.
    """
    per_clip = (-1, 1, 1, 1)
    h, s, v = _rgb_to_hsv(frames.clamp(0, 255).round())
    h = (h + hue.view(per_clip)).clamp(0, 255).round().clamp(max=179)
    s = (s * saturation.view(per_clip)).clamp(0, 255).round()
    return torch.where(flags.view(-1, 1, 1, 1, 1), _hsv_to_rgb(h, s, v), frames)


def normalize(frames: Tensor) -> Tensor:
    """[B,T,H,W,3] in 0..255 -> [B,3,T,H,W] with ImageNet's mean 0 and standard deviation 1.

    The result has the memory layout channels_last_3d, which the convolutions want, without a copy.
    """
    mean = torch.tensor(IMAGENET_MEAN, device=frames.device)
    std = torch.tensor(IMAGENET_STD, device=frames.device)
    return ((frames / 255 - mean) / std).permute(0, 4, 1, 2, 3)


def _rgb_to_hsv(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whole numbers [...,3] in 0..255 -> hue 0..179, saturation 0..255, value 0..255, each float32 [...]."""
    levels = rgb.to(torch.int32)
    r, g, b = levels.unbind(-1)
    v = levels.amax(-1)
    spread = v - levels.amin(-1)
    hue_table = torch.tensor(_HUE_TABLE, dtype=torch.int32, device=rgb.device)
    saturation_table = torch.tensor(_SATURATION_TABLE, dtype=torch.int32, device=rgb.device)
    half = 1 << (_SHIFT - 1)
    s = (spread * saturation_table[v] + half) >> _SHIFT
    sector = torch.where(v == r, g - b, torch.where(v == g, b - r + 2 * spread, r - g + 4 * spread))
    h = (sector * hue_table[spread] + half) >> _SHIFT
    return torch.where(h < 0, h + 180, h).float(), s.float(), v.float()


def _hsv_to_rgb(h: Tensor, s: Tensor, v: Tensor) -> Tensor:
    """Hue 0..179, saturation 0..255, value 0..255 -> whole numbers [...,3] in 0..255."""
    h, s = h * (6 / 180), s * (1 / 255)
    sector = h.floor()
    rest = h - sector
    p, q, t = v * (1 - s), v * (1 - s * rest), v * (1 - s * (1 - rest))
    levels = torch.stack([v, p, q, t], dim=-1)
    # Which of v, p, q, t is red, green, blue in each sixth of the hue circle.
    order = torch.tensor([[0, 3, 1], [2, 0, 1], [1, 0, 3], [1, 2, 0], [3, 1, 0], [0, 1, 2]], device=h.device)
    return levels.gather(-1, order[sector.long()]).round()
