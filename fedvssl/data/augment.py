"""Pixel arithmetic on whole batches, on the device: flip, colour, normalisation.

A worker draws the random parameters; the functions here only apply them.
Frames are float32 [B,T,H,W,3], RGB, 0..255, until `normalize` turns them into model input [B,3,T,H,W].
Shapes: B batch, T frames, H W pixels.
"""

from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor

from fedvssl.tasks.task import Batch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def parts(batch: Batch) -> Iterator[Batch]:
    """Parts of a batch to augment at a time: on a GPU the whole batch, on a CPU one clip.

    On a CPU a clip stays in the cache between operations, and needless operations are skipped. On a GPU that check
    would wait for the device, and an operation costs one launch for any number of clips.
    """
    size = len(batch["frames"])
    if batch["frames"].is_cuda:
        yield batch
    else:
        yield from ({name: value[clip : clip + 1] for name, value in batch.items()} for clip in range(size))


def flip(frames: Tensor, flags: Tensor) -> Tensor:
    """Mirror the clips whose flag is set. frames: [B,T,H,W,3] of any dtype. flags: bool [B]."""
    return _where(flags, lambda chosen: chosen.flip(3), frames)


def brightness(frames: Tensor, delta: Tensor) -> Tensor:
    """Add grey levels, clipped to 0..255. delta: float [B,T]; 0 leaves a frame as it is."""
    if _is_needless(delta == 0):
        return frames
    return (frames + delta[:, :, None, None, None]).clamp_(0, 255)


def contrast(frames: Tensor, factor: Tensor) -> Tensor:
    """Multiply, clipped to 0..255. factor: float [B,T]; 1 leaves a frame as it is."""
    if _is_needless(factor == 1):
        return frames
    return (frames * factor[:, :, None, None, None]).clamp_(0, 255)


def hue_saturation(frames: Tensor, *, flags: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
    """Shift the hue and scale the saturation of the clips whose flag is set.

    The 8-bit HSV arithmetic of OpenCV, as published: frames are rounded to grey levels and the shifted hue is clipped
    to 0..179 instead of being wrapped around.
    Deviation: the conversion back rounds in every column. OpenCV 5 truncates in the columns that its vector code
    handles, so the two differ there by at most one grey level; elsewhere only where a value lies between two levels.

    Args:
        frames: float32 [B,T,H,W,3] RGB.
        flags: bool [B].
        hue: float [B], added to the hue, which has 180 steps.
        saturation: float [B], factor of the saturation.
    """

    def shift(chosen: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
        h, s, v = _rgb_to_hsv(chosen.clamp(0, 255).round_())
        h = h.add_(hue.view(-1, 1, 1, 1)).clamp_(0, 179).round_()
        s = s.mul_(saturation.view(-1, 1, 1, 1)).clamp_(0, 255).round_()
        return _hsv_to_rgb(h, s, v)

    return _where(flags, shift, frames, hue, saturation)


def normalize(frames: Tensor) -> Tensor:
    """[B,(T,)H,W,3] in 0..255 -> [B,3,(T,)H,W] with ImageNet's mean 0 and standard deviation 1.

    The result has the memory layout channels_last_3d, or channels_last of pictures, which the convolutions want,
    without a copy.
    """
    scale, shift = _normalisation(frames.shape[-2], frames.device)
    # Along a row of W*3 values, since broadcasting along 3 takes a CPU eight times longer.
    return torch.addcmul(shift, frames.flatten(-2), scale).view_as(frames).movedim(-1, 1)


@cache
def _normalisation(width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Factor and summand of a row, float32 [W*3] each. Cached, because a copy to a GPU would wait for it."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return (1 / (255 * std)).repeat(width).to(device), (-mean / std).repeat(width).to(device)


def _is_needless(neutral: Tensor) -> bool:
    """True if all values are neutral; on a GPU always False, because the check would wait for the device."""
    return not neutral.is_cuda and bool(neutral.all())


def _where(flags: Tensor, change: Callable[..., Tensor], frames: Tensor, *parameters: Tensor) -> Tensor:
    """Apply `change(frames, *parameters)` to the flagged clips; a GPU changes all clips and selects afterwards."""
    if frames.is_cuda:
        return torch.where(flags.view(-1, 1, 1, 1, 1), change(frames, *parameters), frames)
    if _is_needless(~flags):
        return frames
    if flags.all():
        return change(frames, *parameters)
    changed = frames.clone()
    changed[flags] = change(frames[flags], *(values[flags] for values in parameters))
    return changed


def _rgb_to_hsv(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whole numbers [...,3] in 0..255 -> hue 0..179, saturation 0..255, value 0..255, each float32 [...].

    OpenCV divides through tables with 12 fractional bits. All numbers are below 2**24, so float32 computes the same.
    `lerp` with a weight of 0 or 1 selects, on a CPU faster than `where`.
    """
    r, g, b = (channel.contiguous() for channel in rgb.unbind(-1))
    v = torch.maximum(r, g).max(b)
    spread = v - torch.minimum(r, g).min(b)
    sector = (r - g).add_(spread, alpha=4)  # where blue is the largest channel
    sector.lerp_((b - r).add_(spread, alpha=2), (v == g).float())
    sector.lerp_(g - b, (v == r).float())
    h = _fixed_point(sector, spread, 180 / 6)
    return h.add_((h < 0).float(), alpha=180), _fixed_point(spread, v, 255), v


def _fixed_point(numerator: Tensor, denominator: Tensor, scale: float) -> Tensor:
    """scale * numerator / denominator, rounded half up, with 4096 * scale / denominator rounded before; 0 / 0 = 0."""
    factor = (4096 * scale / denominator.clamp(min=1)).round_()
    return factor.mul_(numerator).mul_(1 / 4096).add_(0.5).floor_()


def _hsv_to_rgb(h: Tensor, s: Tensor, v: Tensor) -> Tensor:
    """Hue 0..179, saturation 0..255, value 0..255 -> whole numbers [...,3] in 0..255."""
    h, s = h * (6 / 180), s * (-1 / 255)
    rgb = torch.empty((*h.shape, 3), device=h.device)
    # Nearness of each channel to the smallest one at this hue, 0 to 1 after clamping.
    distances = (2 - (h - 3).abs_(), (h - 2).abs_().sub_(1), (h - 4).abs_().sub_(1))
    for channel, distance in enumerate(distances):
        rgb[..., channel] = distance.clamp_(0, 1).mul_(s).add_(1).mul_(v).round_()
    return rgb
