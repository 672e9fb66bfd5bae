"""Values that change smoothly over a clip: drawn at a few key frames, interpolated between them.

Used for the colour curves and the patch trajectories of Catch-the-Patch (arXiv 2105.02545).
Shapes: T frames, K key frames.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from fedvssl.data.sampling import draw_index

# Share of the way travelled after a share of the time, and the probability of each easing.
EASINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "uniform": lambda u: u,
    "accelerate": lambda u: u**2,
    "decelerate": lambda u: 1 - (1 - u) ** 2,
}
EASING_PROBS = (0.7, 0.15, 0.15)


def sample_key_frames(num_frames: int, probs: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Draw the key frames of a clip: always the first and the last, and up to `len(probs) - 1` inner ones.

    Args:
        num_frames: T >= 2.
        probs: probability of 0, 1, 2, ... inner key frames.

    Returns:
        int64 [K], increasing. The inner ones divide the clip evenly, each moved by up to a third of its share.
    """
    num_inner = draw_index(probs, rng)
    share = num_frames / (num_inner + 1)
    inner = [int(share * number) for number in range(1, num_inner + 1)]
    reach = int(share / 3)
    if inner and reach > 0:
        moves = rng.integers(-reach, reach, size=num_inner).tolist()
        inner = [frame + move for frame, move in zip(inner, moves, strict=True)]
    return np.array(sorted({0, *inner, num_frames - 1}))


def sample_easings(key_frames: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Draw an easing for each of the K-1 stretches between key frames."""
    names = tuple(EASINGS)
    return [names[draw_index(EASING_PROBS, rng)] for _ in range(len(key_frames) - 1)]


def interpolate(values: np.ndarray, key_frames: np.ndarray, easings: Sequence[str]) -> np.ndarray:
    """Fill the frames between key frames.

    Args:
        values: float [K,...] at the key frames.
        key_frames: int [K], increasing from 0 to T-1.
        easings: K-1 names out of `EASINGS`.

    Returns:
        float64 [T,...].
    """
    places = key_frames.tolist()
    frames = np.empty((places[-1] + 1, *values.shape[1:]))
    for stretch, easing in enumerate(easings):
        first, last = places[stretch], places[stretch + 1]
        way = _way(easing, last - first + 1).reshape(-1, *[1] * (values.ndim - 1))
        frames[first : last + 1] = values[stretch] + way * (values[stretch + 1] - values[stretch])
    return frames


@cache
def _way(easing: str, num_frames: int) -> np.ndarray:
    """Share of the way travelled in each frame, from 0 to 1: float64 [num_frames]."""
    return EASINGS[easing](np.linspace(0, 1, num_frames))


def random_curve(
    draw: Callable[[int], np.ndarray], *, num_frames: int, key_frame_probs: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """A curve through random values at random key frames: float64 [T]. draw: K -> float [K], the values."""
    key_frames = sample_key_frames(num_frames, key_frame_probs, rng)
    values = draw(len(key_frames))
    return interpolate(values, key_frames, sample_easings(key_frames, rng))
