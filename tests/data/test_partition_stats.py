import json

import numpy as np
import pytest

from fedvssl.data.partition_stats import divergence, entropy, partition_stats


def test_stats_count_what_is_there() -> None:
    stats = partition_stats([0, 0, 1, 4, 4], [np.array([0, 2]), np.array([2, 3, 1])])
    assert (stats["num_videos"], stats["num_clients"], stats["num_classes"], stats["num_entries"]) == (5, 2, 3, 5)
    assert (stats["unassigned_videos"], stats["shared_videos"], stats["classes_reached"]) == (1, 1, 3)
    assert stats["videos_per_class"] == {"1": 2, "2": 1, "5": 2}
    second = stats["clients"][1]
    assert (second["client"], second["videos"], second["classes"]) == (2, 3, 3)
    assert second["videos_per_class"] == {"1": 1, "2": 1, "5": 1}
    assert stats["video_overlap"] == [[2, 1], [1, 3]]
    assert stats["class_overlap"] == [[2, 2], [2, 3]]
    assert json.loads(json.dumps(stats)) == stats


def test_entropy_and_divergence_in_bits() -> None:
    assert entropy(np.array([7, 0, 0])) == 0
    assert entropy(np.array([5, 5, 0, 5, 5])) == pytest.approx(2)
    assert entropy(np.array([1, 3])) == pytest.approx(0.25 * 2 + 0.75 * np.log2(4 / 3))
    assert divergence(np.array([2, 4]), np.array([1, 2])) == 0
    assert divergence(np.array([3, 0]), np.array([5, 5])) == pytest.approx(1)
    assert divergence(np.array([1, 3]), np.array([3, 1])) == pytest.approx(0.5 * np.log2(3))


def test_the_mean_divergence_tells_disjoint_classes_from_equal_ones() -> None:
    labels = [0, 0, 1, 1, 2, 2, 3, 3]
    disjoint = partition_stats(labels, np.split(np.arange(8), 4))
    assert (disjoint["mean_entropy"], disjoint["pooled_entropy"], disjoint["mean_divergence"]) == (0, 2, 2)
    equal = partition_stats(labels, [np.arange(0, 8, 2), np.arange(1, 8, 2)])
    assert (equal["mean_entropy"], equal["pooled_entropy"], equal["mean_divergence"]) == (2, 2, 0)
