"""A baseline without a network: colours and brightness of a picture, or of a clip's mean frame, on a coarse grid.

What it reaches can be told from single frames without any learning.
Shapes: B clips or pictures, T frames, H W pixels. Pictures have no T.
"""

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

CELLS = 8  # per side


class MeanFrame(nn.Module):
    """Backbone without weights: normalised [B,3,(T,)H,W] -> [B,192,(1,)1,1], the mean over time in 8x8 cells."""

    out_channels = 3 * CELLS**2

    def forward(self, clips: Tensor) -> Tensor:
        frames = clips.mean(dim=2) if clips.ndim == 5 else clips
        return adaptive_avg_pool2d(frames, CELLS).flatten(1).view(len(clips), -1, *[1] * (clips.ndim - 2))

    def extra_repr(self) -> str:
        """Text by which `fingerprint` tells features of another grid apart."""
        return f"cells={CELLS}"
