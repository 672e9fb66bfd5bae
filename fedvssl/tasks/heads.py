"""Parts that the tasks of two views share: projector and predictor, the embedding of a view, its signs of life.

A view is a picture or a clip, and the tasks do not tell them apart: "view1" and "view2" are float32 [B,3,(T,)H,W].
Shapes: B batch, T frames, H W pixels, D features, E entries of an embedding.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, normalize

from fedvssl.tasks.task import Batch

Views = Callable[[Batch], Batch]  # the device's half of a Sample: a batch as it is loaded -> "view1", "view2", "index"
MakeHead = Callable[[int], "Head"]  # number of features -> head
# One sample has no other to be compared with, and BatchNorm no variance to divide by where its map is one pixel.
FEWEST_SAMPLES = 2
# Two rows become +1 and -1 whatever they are and pass no gradient but rounding, so the running statistics serve them.
FEWEST_ROWS = 3


class Head(nn.Module):
    """Linear, BatchNorm or none, ReLU, Linear, or one Linear: [B,in_channels] -> [B,out_channels], float32 at least.

    Args:
        in_channels: D.
        hidden_channels: of the hidden layer; "input" for as many as come in; None for one Linear alone.
        out_channels: E.
        batch_norm: False leaves the hidden layer as it is.

    Attributes:
        active_share: fraction of positive units of the hidden layer in the last forward pass, a scalar; None without a
            hidden layer.

    Raises:
        ValueError: if a number of channels is none.
    """

    active_share: Tensor | None

    def __init__(
        self, in_channels: int, *, hidden_channels: int | str | None, out_channels: int, batch_norm: bool = True
    ) -> None:
        super().__init__()
        hidden = in_channels if hidden_channels == "input" else hidden_channels
        for name, channels in (("hidden_channels", hidden), ("out_channels", out_channels)):
            if channels is not None and not (isinstance(channels, int) and channels >= 1):
                raise ValueError(f"{name}={channels} of a head must be a whole number, at least 1.")
        self.has_hidden, self.out_channels, self.active_share = isinstance(hidden, int), out_channels, None
        if isinstance(hidden, int):
            self.hidden, self.bn = nn.Linear(in_channels, hidden), nn.BatchNorm1d(hidden) if batch_norm else None
        self.out = nn.Linear(hidden if isinstance(hidden, int) else in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.has_hidden:
            x = torch.relu(self._normalised(self.hidden(x)))
            self.active_share = (x.detach() > 0).float().mean()
        x = self.out(x)
        return x.to(torch.promote_types(x.dtype, torch.float32))  # losses need more digits than bfloat16 has

    def _normalised(self, x: Tensor) -> Tensor:
        if self.bn is None:
            return x
        if self.training and len(x) < FEWEST_ROWS:
            return batch_norm(x, self.bn.running_mean, self.bn.running_var, self.bn.weight, self.bn.bias)
        return self.bn(x)


def embed(backbone: nn.Module, projector: nn.Module, view: Tensor) -> Tensor:
    """Global average of the backbone's last stage, projected: [B,3,(T,)H,W] -> [B,E]."""
    return projector(backbone(view).flatten(2).mean(2))


def features_of(backbone: Any) -> int:
    """Number of features D of a backbone.

    Raises:
        ValueError: if it does not tell it.
    """
    if not isinstance(getattr(backbone, "out_channels", None), int):
        raise ValueError(f"{type(backbone).__name__} needs the whole number out_channels, its features.")
    return backbone.out_channels


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of the directions of rows, 2 - 2 cos, never below 0 by rounding: [B,E], [B,E] -> [B]."""
    a, b = normalize(a, dim=1), normalize(b, dim=1)
    without_direction = 2 - a.square().sum(1).round() - b.square().sum(1).round()  # a row of zeros has a cosine of 0
    return (a - b).square().sum(1) + without_direction


def embedding_std(embeddings: Tensor) -> Tensor:
    """Spread of the directions in a batch: [B,E] -> scalar, 0 where all are the same, about 1 where they spread out.

    Standard deviation of each entry after L2 normalisation, averaged over the entries, times sqrt(E); Chen and He,
    arXiv 2011.10566, figure 2.
    """
    directions = normalize(embeddings.detach(), dim=1)
    return directions.std(0, correction=0).mean() * math.sqrt(directions.shape[1])


def health_of(embeddings: Tensor, head: Head) -> Batch:
    """Scalars "embedding_std" and, of a head with a hidden layer, "active_share"."""
    share = {} if head.active_share is None else {"active_share": head.active_share}
    return {"embedding_std": embedding_std(embeddings), **share}


def check_temperature(temperature: object) -> None:
    """Check the number that cosines are divided by.

    Raises:
        ValueError: if it is not above 0.
    """
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not temperature > 0:
        raise ValueError(f"task.module.temperature={temperature} must be a number above 0.")
