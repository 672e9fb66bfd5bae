"""The labelled part that is held out of a federation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedvssl.data.labelled import draw_labelled


def single(labels: list[int], share: float, *, seed: int) -> np.ndarray:
    """Draw samples that are groups of their own."""
    return draw_labelled(labels, share, groups=[f"p{n}" for n in range(len(labels))], seed=seed)


@given(st.lists(st.integers(2, 40), min_size=1, max_size=6), st.floats(0.001, 0.999), st.integers(0, 99))
def test_each_class_gives_its_share_but_never_none_nor_all(sizes: list[int], share: float, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    drawn = single(labels.tolist(), share, seed=seed)
    assert (np.diff(drawn) > 0).all() or len(drawn) == 1
    for label, size in enumerate(sizes):
        number = int((labels[drawn] == label).sum())
        assert 1 <= number < size and abs(number - share * size) <= 1


def test_the_seed_decides_and_one_percent_is_a_part_of_ten() -> None:
    labels = [n % 3 for n in range(600)]
    few, many, other = (set(single(labels, share, seed=s)) for share, s in ((0.01, 7), (0.1, 7), (0.1, 8)))
    assert (len(few), len(many)) == (6, 60) and few < many and many != other


def test_a_class_with_one_sample_cannot_give_any() -> None:
    with pytest.raises(ValueError, match="The class with label 2 has one sample"):
        single([0, 0, 1], 0.5, seed=0)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=12), st.floats(0.001, 0.999), st.integers(0, 99))
def test_groups_are_drawn_whole_and_as_near_to_the_share_as_their_order_allows(
    sizes: list[int], share: float, seed: int
) -> None:
    groups = np.random.default_rng(seed).permutation(np.repeat([f"g{n}" for n in range(len(sizes))], sizes)).tolist()
    drawn = {groups[index] for index in draw_labelled([0] * len(groups), share, groups=groups, seed=seed)}
    number = sum(groups.count(name) for name in drawn)
    assert number == len(draw_labelled([0] * len(groups), share, groups=groups, seed=seed)), "no part of a group"
    assert 1 <= len(drawn) < len(sizes)
    assert len(drawn) == 1 or number - max(sizes) <= share * len(groups) + 1
    assert len(drawn) == len(sizes) - 1 or number + max(sizes) >= share * len(groups) - 1
    more = draw_labelled([0] * len(groups), min(0.999, 1.5 * share), groups=groups, seed=seed)
    assert drawn <= {groups[index] for index in more}


def test_a_class_of_one_group_cannot_give_it() -> None:
    with pytest.raises(ValueError, match="label 1 has one sample, or one group of them, which cannot be held out: add"):
        draw_labelled([0, 0, 0], 0.5, groups=["g1", "g1", "g1"], seed=0)
