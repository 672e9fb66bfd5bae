"""Memory layout of pictures in which the networks of this folder compute."""

from torch import Tensor

FEWEST_FOR_CHANNELS_LAST = 8  # channels


def without_overrun(pictures: Tensor, *, channels: int) -> Tensor:
    """Pictures [B,3,H,W] in a memory layout in which this processor computes narrow networks.

    On x86 without AVX-512 the gradient of a 1x1 convolution with a stride, of fewer than 8 channels in the layout
    channels_last, writes beyond its memory (oneDNN in torch 2.15), which ends the process at some later time.
    """
    return pictures.contiguous() if channels < FEWEST_FOR_CHANNELS_LAST and pictures.device.type == "cpu" else pictures
