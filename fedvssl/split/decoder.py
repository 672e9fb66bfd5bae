"""An attacker's decoder, latents to pictures, and how near its pictures are.

Decoder of ResSFL (Li et al., CVPR 2022) as TAResSFL uses it; SSIM of Wang et al., 2004, zero-padded as in that method.
Shapes: B batch, C channels and h sides of a latent, H sides of a picture.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

CHANNELS = 64
WINDOW, SIGMA, C1, C2 = 11, 1.5, 1e-4, 9e-4  # of SSIM


class Decoder(nn.Module):
    """Pictures of latents: float [B,C,h,h] -> [B,3,H,H] in [0,1]; H is 1, 2 or 4 times h.

    Args:
        channels: C.
        times: H / h.

    Raises:
        ValueError: for another enlargement.
    """

    def __init__(self, channels: int, times: int) -> None:
        super().__init__()
        if times not in (1, 2, 4):
            raise ValueError(f"The decoder enlarges latents by 1, 2 or 4, and the cut asks for {times}: cut elsewhere.")
        layers: list[nn.Module] = [Residual(channels, CHANNELS), nn.ReLU()]
        for _ in range(4):
            layers += [Residual(CHANNELS, CHANNELS), nn.ReLU()]
        for slot in range(2):
            if times > 2**slot:
                enlarge = nn.ConvTranspose2d(CHANNELS, CHANNELS, 3, 2, padding=1, output_padding=1)
                layers += [enlarge, nn.BatchNorm2d(CHANNELS), nn.ReLU()]
            else:
                layers += [Residual(CHANNELS, CHANNELS), nn.ReLU()]
        self.m = nn.Sequential(*layers, Residual(CHANNELS, 3), nn.Sigmoid())

    def forward(self, latents: Tensor) -> Tensor:
        return self.m(latents)


class Residual(nn.Module):
    """BatchNorm, ReLU and a 3x3 convolution, twice, beside a shortcut: [B,in_channels,h,h] -> [B,channels,h,h]."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.bn0, self.conv1 = nn.BatchNorm2d(in_channels), nn.Conv2d(in_channels, channels, 3, padding=1)
        self.bn1, self.conv2 = nn.BatchNorm2d(channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != channels:
            convolution = nn.Conv2d(in_channels, channels, 1, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        residual = self.conv1(torch.relu(self.bn0(x)))
        return self.conv2(torch.relu(self.bn1(residual))) + self.shortcut(x)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of pictures in [0,1], the mean over the whole zero-padded map: [B,3,H,H] twice -> [B]."""
    channels = a.shape[1]
    steps = torch.arange(WINDOW, dtype=a.dtype, device=a.device) - WINDOW // 2
    window = torch.exp(-(steps**2) / (2 * SIGMA**2))
    window = window / window.sum()
    kernel = (window[:, None] * window[None]).expand(channels, 1, WINDOW, WINDOW)

    def mean(x: Tensor) -> Tensor:
        return conv2d(x, kernel, padding=WINDOW // 2, groups=channels)

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b, both = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2, mean(a * b) - mean_a * mean_b
    near = (2 * mean_a * mean_b + C1) * (2 * both + C2)
    return (near / ((mean_a**2 + mean_b**2 + C1) * (var_a + var_b + C2))).mean((1, 2, 3))


def nearness(pictures: Tensor, reconstructions: Tensor) -> dict[str, Tensor]:
    """ "mse", "ssim" and "psnr" (dB) of each picture in [0,1]: [B,3,H,H] twice -> [B] each."""
    mse = (pictures - reconstructions).square().mean((1, 2, 3))
    return {"mse": mse, "ssim": ssim(pictures, reconstructions), "psnr": -10 / math.log(10) * mse.log()}
