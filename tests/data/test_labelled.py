"""The labelled part that is held out of a federation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedvssl.data.labelled import draw_labelled


@given(st.lists(st.integers(2, 40), min_size=1, max_size=6), st.floats(0.001, 0.999), st.integers(0, 99))
def test_each_class_gives_its_share_but_never_none_nor_all(sizes: list[int], share: float, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    drawn = draw_labelled(labels.tolist(), share, seed=seed)
    assert (np.diff(drawn) > 0).all() or len(drawn) == 1
    for label, size in enumerate(sizes):
        number = int((labels[drawn] == label).sum())
        assert 1 <= number < size and abs(number - share * size) <= 1


def test_the_seed_decides_and_one_percent_is_a_part_of_ten() -> None:
    labels = [n % 3 for n in range(600)]
    few, many, other = (set(draw_labelled(labels, share, seed=s)) for share, s in ((0.01, 7), (0.1, 7), (0.1, 8)))
    assert (len(few), len(many)) == (6, 60) and few < many and many != other


def test_a_class_with_one_sample_cannot_give_any() -> None:
    with pytest.raises(ValueError, match="The class with label 2 has one sample"):
        draw_labelled([0, 0, 1], 0.5, seed=0)
