"""Features made in the test."""

import torch

from fedvssl.evaluation.features import Features


def clusters(num_videos: int, *, num_classes: int, noise: float, seed: int, num_clips: int = 3) -> Features:
    """Features of dimension 8 (and 144 of the grid) around one direction for each class, the same for every seed."""
    directions = torch.randn(num_classes, 8, generator=torch.Generator().manual_seed(0))
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_videos) % num_classes
    clips = directions[labels][:, None] + noise * torch.randn(num_videos, num_clips, 8, generator=rng)
    grid = directions[labels].repeat(1, 18) + noise * torch.randn(num_videos, 144, generator=rng)
    return Features(
        clips=clips, grid=grid, labels=labels, names=[f"c{int(n)}/{seed}_{i}" for i, n in enumerate(labels)]
    )
