"""A baseline without a network: colours and brightness of a clip's mean frame on a coarse grid.

What it reaches can be told from single frames without any learning.
Shapes: B clips, T frames, H W pixels.
"""

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

CELLS = 8  # per side


class MeanFrame(nn.Module):
    """Backbone without weights: normalised clips [B,3,T,H,W] -> [B,192,1,1,1], the mean over time in 8x8 cells."""

    out_channels = 3 * CELLS**2

    def forward(self, clips: Tensor) -> Tensor:
        return adaptive_avg_pool2d(clips.mean(dim=2), CELLS).flatten(1)[..., None, None, None]

    def extra_repr(self) -> str:
        """Text by which `fingerprint` tells features of another grid apart."""
        return f"cells={CELLS}"
