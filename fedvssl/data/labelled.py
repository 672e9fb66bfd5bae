"""The labelled part of a data set for learning from few labels: drawn class by class and held out of the federation.

Shapes: n samples.
"""

from collections.abc import Sequence

import numpy as np


def draw_labelled(labels: Sequence[int], share: float, *, seed: int) -> np.ndarray:
    """Draw about the same share of each class, at least one sample and never all.

    Args:
        labels: of all samples, [n].
        share: of each class, above 0 and below 1; a fraction of a sample is rounded.
        seed: of the choice; a smaller share is a part of a larger one with the same seed.

    Returns:
        Indices in ascending order, int64.

    Raises:
        ValueError: if `share` is no such number, or a class has a single sample.
    """
    if not 0 < share < 1:
        raise ValueError(f"--labelled_share {share} must be above 0 and below 1, such as 0.01.")
    values, drawn = np.asarray(labels), []
    for label in np.unique(values):
        own = np.flatnonzero(values == label)
        if len(own) < 2:
            raise ValueError(f"The class with label {label + 1} has one sample, none of which can be held out.")
        number = min(max(1, round(share * len(own))), len(own) - 1)
        drawn.append(np.random.default_rng((seed, int(label))).permutation(own)[:number])
    return np.sort(np.concatenate(drawn))
