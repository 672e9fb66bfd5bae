"""Signs of a collapsed representation, which no longer tells videos apart: two numbers that need no labels.

Shapes: V videos, D features.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize


def feature_std(features: Tensor) -> float:
    """Spread of the directions (Chen and He, CVPR 2021, arXiv 2011.10566).

    Args:
        features: float [V,D], of any length.

    Returns:
        standard deviation of each entry over the videos, after L2 normalisation, averaged over the entries, times
        sqrt(D): 0 where all videos have the same direction, 1 where the directions cover the sphere.
    """
    return float(normalize(features, dim=1).std(dim=0, correction=0).mean()) * math.sqrt(features.shape[1])


def effective_rank(features: Tensor) -> float:
    """Number of dimensions that the directions fill (RankMe, Garrido et al., ICML 2023, arXiv 2210.02885).

    Args:
        features: float [V,D].

    Returns:
        exp of the entropy of the normalised singular values: from 1 (all directions are the same) to min(V, D).
    """
    singular = torch.linalg.svdvals(normalize(features.double(), dim=1))
    if singular[0] == 0:
        return 1.0  # features that are all zero tell no video apart either
    shares = singular / singular.sum()
    return float(torch.exp(torch.special.entr(shares).sum()))
