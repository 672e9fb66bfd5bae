"""The labelled part of a data set for learning from few labels: drawn class by class and held out of the federation.

Clips of one group, such as v_Archery_g08_c01 and v_Archery_g08_c02, show the same scene, so a group is drawn whole.

Shapes: n samples.
"""

from collections.abc import Sequence

import numpy as np


def draw_labelled(labels: Sequence[int], share: float, *, groups: Sequence[str], seed: int) -> np.ndarray:
    """Draw about the same share of each class in whole groups: at least one group of it and never all.

    Args:
        labels: of all samples, [n].
        share: of each class, above 0 and below 1; reached as nearly as whole groups in a random order allow.
        groups: of all samples, [n]; see `group_of`, by which a sample may be a group of its own.
        seed: of the choice; a smaller share is a part of a larger one with the same seed.

    Returns:
        Indices in ascending order, int64.

    Raises:
        ValueError: if `share` is no such number, or a class has a single group.
    """
    if not 0 < share < 1:
        raise ValueError(f"--labelled_share {share} must be above 0 and below 1, such as 0.01.")
    values, drawn = np.asarray(labels), []
    for label in np.unique(values):
        own: dict[str, list[int]] = {}
        for index in np.flatnonzero(values == label).tolist():
            own.setdefault(groups[index], []).append(index)
        if len(own) < 2:
            raise ValueError(
                f"The class with label {label + 1} has one sample, or one group of them, which cannot be held out: "
                "add samples, or take the class out of the list."
            )
        order = [[*own.values()][n] for n in np.random.default_rng((seed, int(label))).permutation(len(own))]
        sizes = np.cumsum([len(group) for group in order])
        number = 1 + int(np.argmin(np.abs(sizes[:-1] - max(1, round(share * sizes[-1])))))
        drawn += [index for group in order[:number] for index in group]
    return np.sort(np.array(drawn))
