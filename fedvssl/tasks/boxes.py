"""Arithmetic on boxes x1, y1, x2, y2 in pixels. Shapes: P patches, T frames."""

import torch
from torch import Tensor


def box_targets(boxes: Tensor) -> Tensor:
    """Movement of the centre in pixels and change of the log size since the first frame: [B,P,T,4] -> [B,P,T,4]."""
    centers, sizes = center_and_size(boxes)
    return torch.cat([centers - centers[:, :, :1], torch.log(sizes) - torch.log(sizes[:, :, :1])], dim=-1)


def center_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and sizes [...,2] of boxes [...,4] in pixels; a size is at least 1."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]).clamp(min=1)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes in pairs: [...,4], [...,4] -> [...]."""
    overlap = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - overlap
    return overlap / union.clamp(min=1e-6)
