"""Frame indices of clips: random clips for training, evenly spread clips for testing.

Shapes: N clips per video, T frames per clip. Indices are zero-based.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cache

import numpy as np


def draw_index(probs: Sequence[float], rng: np.random.Generator) -> int:
    """Draw an index with the given probabilities: that of `rng.choice(len(probs), p=probs)` at a tenth of its cost.

    Raises:
        ValueError: if a probability is negative, or they do not sum to 1.
    """
    return bisect_right(_cumulative(tuple(probs)), rng.random())


@cache
def _cumulative(probs: tuple[float, ...]) -> list[float]:
    if abs(sum(probs) - 1) > 1e-6 or min(probs) < 0:
        raise ValueError(f"The probabilities {list(probs)} must sum to 1.")
    sums = np.cumsum(probs)
    return (sums / sums[-1]).tolist()


def random_clip(
    num_frames: int, rng: np.random.Generator, *, clip_len: int, strides: Sequence[int], jitter: bool
) -> np.ndarray:
    """Draw one clip.

    Args:
        num_frames: length of the video, >= 1.
        rng: source of all randomness.
        clip_len: T.
        strides: the distance between frames is drawn uniformly from these.
        jitter: move each frame by up to `stride - 1` frames. The range of the start ignores it, as published, so the
            last frames may be clamped to the end of the video.

    Returns:
        int64 [T], non-decreasing, clamped to the last frame of a short video.
    """
    stride = int(strides[int(rng.integers(len(strides)))])
    room = num_frames - (stride * (clip_len - 1) + 1)
    start = int(rng.integers(0, room, endpoint=True)) if room > 0 else 0
    indices = start + stride * np.arange(clip_len)
    if jitter:
        indices += rng.integers(0, stride, size=clip_len)
    return np.minimum(indices, num_frames - 1)


def uniform_clips(num_frames: int, *, num_clips: int, clip_len: int, stride: int) -> np.ndarray:
    """Spread `num_clips` clips evenly: each starts in the middle of its share of the possible starts.

    Returns:
        int64 [N,T]; identical, clamped clips if the video is too short for one.
    """
    num_starts = max(0, num_frames - clip_len * stride + 1)
    starts = (num_starts / num_clips * (np.arange(num_clips) + 0.5)).astype(np.int64)
    return np.minimum(starts[:, None] + stride * np.arange(clip_len), num_frames - 1)
