"""Pixel arithmetic on batches of views, on the device: crop, flip, colours, grey, blur, normalisation.

A worker draws the random parameters of each view; the functions here only apply them, each as torchvision's functional
transform of a float tensor does to a single picture. Views are float32 [B,3,(T,)H,W] RGB from 0 to 1 until `normalize`;
all frames of a clip have the same parameters.
Shapes: B batch, T frames, H W pixels.
"""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import one_hot

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # columns of the factors, and entries of an order
GREY = (0.2989, 0.587, 0.114)  # weights of red, green and blue, ITU-R 601-2
SIGMAS = 3  # a Gaussian is cut off at as many standard deviations


def to_planes(frames: Tensor) -> Tensor:
    """uint8 [B,(T,)H,W,3] -> float32 [B,3,(T,)H,W] from 0 to 1."""
    return frames.movedim(-1, 1).float().div_(255)


def crop(pictures: Tensor, *, box: Tensor, flip: Tensor, size: int) -> Tensor:
    """Cut a box out of each picture, resize it bilinearly with antialiasing, and mirror it where `flip` is set.

    Both axes are resized by a matrix for each picture, so one product serves boxes of any size.

    Args:
        pictures: [B,3,H,W].
        box: top, left, height, width in whole pixels, int64 [B,4].
        flip: bool [B].
        size: H and W of the result.
    """
    top, left, height, width = box.unbind(1)
    rows = resize_matrix(pictures.shape[2], start=top, length=height, size=size)
    columns = resize_matrix(pictures.shape[3], start=left, length=width, size=size)
    columns = torch.where(flip[:, None, None], columns.flip(1), columns)
    return along_both_axes(pictures, rows, columns)


def resize_matrix(num_pixels: int, *, start: Tensor, length: Tensor, size: int) -> Tensor:
    """Weights of the pixels of a row in each pixel of the resized part of it: float32 [B,size,num_pixels].

    A triangle around each centre, as wide as a new pixel but no narrower than an old one, cut off at the part's ends.

    Args:
        num_pixels: length of the row.
        start, length: the part, int64 [B].
        size: pixels that the part becomes.
    """
    scale = (length.float() / size)[:, None, None]
    first, last = (edge[:, None, None] for edge in (start, start + length))
    centres = first + scale * (torch.arange(size, device=start.device)[None, :, None] + 0.5)
    pixels = torch.arange(num_pixels, device=start.device)[None, None]
    weights = (1 - (pixels + 0.5 - centres).abs() / scale.clamp(min=1)).clamp_(min=0)
    weights = weights * ((pixels >= first) & (pixels < last))
    return weights / weights.sum(2, keepdim=True)


def along_both_axes(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Multiply from the left by `rows` and from the right by the transposed `columns`, each [B,new,old]."""
    shape = (len(x), *[1] * (x.ndim - 3))
    return rows.view(*shape, *rows.shape[1:]) @ x @ columns.view(*shape, *columns.shape[1:]).mT


def flip(x: Tensor, flags: Tensor) -> Tensor:
    """Mirror the views whose flag is set, bool [B]."""
    return torch.where(_along(flags, x), x.flip(-1), x)


def jitter(x: Tensor, *, factors: Tensor, order: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hue of each view in an order of its own.

    Args:
        x: [B,3,(T,)H,W].
        factors: float32 [B,4]: of brightness, contrast and saturation, 1 for none; hue in turns, 0 for none.
        order: int64 [B,4], each row a permutation of BRIGHTNESS, CONTRAST, SATURATION, HUE.
    """
    for kind in order.unbind(1):
        # The first three mix a view with black, with its mean grey, and with its own grey.
        tone = grey(x)
        mean = tone.mean((-2, -1), keepdim=True)
        other = torch.where(_along(kind == CONTRAST, x), mean, tone)
        other = torch.where(_along(kind == BRIGHTNESS, x), torch.zeros_like(other), other)
        factor = factors.gather(1, kind[:, None])[:, 0]
        ratio = _along(torch.where(kind == HUE, torch.ones_like(factor), factor), x)
        x = (x * ratio + other * (1 - ratio)).clamp_(0, 1)
        x = shift_hue(x, torch.where(kind == HUE, factor, torch.zeros_like(factor)))
    return x


def grey(x: Tensor) -> Tensor:
    """[B,3,(T,)H,W] -> [B,1,(T,)H,W]."""
    red, green, blue = x.unbind(1)
    return (GREY[0] * red + GREY[1] * green + GREY[2] * blue).unsqueeze(1)


def to_grey(x: Tensor, flags: Tensor) -> Tensor:
    """Take the colours of the views whose flag is set, bool [B]; they keep three channels."""
    return torch.where(_along(flags, x), grey(x), x)


def shift_hue(x: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of each view; float32 [B] in turns, and 0 leaves a view as it is."""
    if x.is_cuda:  # a look at the flags would wait for the device
        return torch.where(_along(shift != 0, x), _shift_hue(x, shift), x)
    if (chosen := shift != 0).any():
        x = x.clone()
        x[chosen] = _shift_hue(x[chosen], shift[chosen])
    return x


def _shift_hue(x: Tensor, shift: Tensor) -> Tensor:
    red, green, blue = x.unbind(1)
    value, least = x.amax(1), x.amin(1)
    spread = value - least
    safe = torch.where(spread == 0, torch.ones_like(spread), spread)
    sector = torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    sector = torch.where(value == red, (green - blue) / safe, sector)  # 0 of a grey pixel, whose spread stays 0
    sector = sector + 6 * _along(shift, sector)
    # Distance of each channel from the largest one at this hue: between 0 and 1 on the edges of the colour hexagon.
    distances = [((offset + sector) % 6) for offset in (5, 3, 1)]
    return torch.stack([value - spread * torch.minimum(d, 4 - d).clamp_(0, 1) for d in distances], dim=1)


def blur(x: Tensor, *, sigma: Tensor, most: float) -> Tensor:
    """Blur each view by a Gaussian; at the edges the picture is reflected.

    Args:
        x: [B,3,(T,)H,W] with H = W.
        sigma: standard deviation in pixels, float32 [B]; 0 leaves a view as it is.
        most: largest that sigma can be. It gives the kernel's width, the same for all views.
    """
    size = x.shape[-1]
    radius = min(max(1, round(SIGMAS * most)), size - 1)
    offsets = torch.arange(-radius, radius + 1, device=x.device)
    kernel = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-3)[:, None]).square())
    kernel = kernel / kernel.sum(1, keepdim=True)
    places = (torch.arange(size, device=x.device)[:, None] + offsets).abs()
    places = torch.where(places >= size, 2 * (size - 1) - places, places)
    matrix = torch.einsum("bk,ikj->bij", kernel, one_hot(places, size).float())
    return torch.where(_along(sigma > 0, x), along_both_axes(x, matrix, matrix), x)


def normalize(x: Tensor, *, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtract a mean and divide by a standard deviation, each of red, green and blue from 0 to 1.

    The result has the memory layout channels_last, or channels_last_3d of clips, which the convolutions want.
    """
    factor, summand = _normalisation(tuple(mean), tuple(std), x.device)
    shape = (3, *[1] * (x.ndim - 2))
    layout = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    return torch.addcmul(summand.view(shape), x, factor.view(shape)).contiguous(memory_format=layout)


@cache
def _normalisation(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Factor and summand of the channels, float32 [3] each. Cached, because a copy to a GPU would wait for it."""
    means, stds = torch.tensor(mean), torch.tensor(std)
    return (1 / stds).to(device), (-means / stds).to(device)


def _along(values: Tensor, x: Tensor) -> Tensor:
    """Values [B] with dimensions of size 1, to be combined with [B,...]."""
    return values.view(-1, *[1] * (x.ndim - 1))
