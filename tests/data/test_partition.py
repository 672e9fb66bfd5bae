import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedvssl.data.partition import class_shard, partition_stats, uniform

label_lists = st.lists(st.integers(0, 7), min_size=1, max_size=60)


def everything_once(parts: list[np.ndarray], num_videos: int) -> bool:
    return sorted(np.concatenate(parts).tolist()) == list(range(num_videos))


def test_uniform_is_the_published_rule() -> None:
    videos = [f"video{i}" for i in range(11)]
    # The published script: seed the global generator, shuffle the list itself, cut it.
    random.seed(7)
    shuffled = list(videos)
    random.shuffle(shuffled)
    expected = [shuffled[int(i * 11 / 3) : int((i + 1) * 11 / 3)] for i in range(3)]
    assert [[videos[index] for index in part] for part in uniform([0] * 11, 3)] == expected


def test_uniform_does_not_touch_the_global_generator() -> None:
    random.seed(3)
    expected = random.random()
    random.seed(3)
    uniform([0] * 10, 2)
    assert random.random() == expected


def test_ucf101_over_five_clients_has_the_published_sizes() -> None:
    assert [len(part) for part in uniform([0] * 9537, 5)] == [1907, 1907, 1908, 1907, 1908]


@given(labels=label_lists, num_clients=st.integers(1, 20), seed=st.integers(0, 5))
def test_uniform_gives_every_video_to_one_client(labels: list[int], num_clients: int, seed: int) -> None:
    if num_clients > len(labels):
        with pytest.raises(ValueError, match="cannot share"):
            uniform(labels, num_clients, seed=seed)
        return
    parts = uniform(labels, num_clients, seed=seed)
    assert len(parts) == num_clients and all(len(part) for part in parts)
    assert everything_once(parts, len(labels))


@given(labels=label_lists, num_clients=st.integers(1, 20), classes_per_client=st.integers(1, 9))
def test_class_shard_gives_every_video_to_one_client(
    labels: list[int], num_clients: int, classes_per_client: int
) -> None:
    try:
        parts = class_shard(labels, num_clients, classes_per_client=classes_per_client)
    except ValueError:
        num_groups = -(-len(set(labels)) // classes_per_client)
        smallest = min(labels.count(label) for label in labels)
        # Refused only where classes would be left over or a class is too small for all who share it.
        assert num_clients < num_groups or smallest < -(-num_clients // num_groups)
        return
    assert everything_once(parts, len(labels))
    assert all(1 <= len({labels[i] for i in part}) <= classes_per_client for part in parts)


def test_class_shard_is_the_sound_kinetics_rule() -> None:
    counts = np.random.default_rng(0).permutation(np.arange(30, 430))  # 400 classes, all of different size
    labels = np.repeat(np.arange(400), counts)
    parts = class_shard(labels.tolist(), 100, classes_per_client=8)
    by_size = sorted(range(400), key=lambda label: counts[label])
    for i in range(50):
        classes = {*by_size[4 * i : 4 * i + 4], *by_size[400 - 4 * i - 4 : 400 - 4 * i]}
        for client in (i, i + 50):
            assert set(labels[parts[client]].tolist()) == classes
        for label in classes:
            first, second = (int((labels[parts[client]] == label).sum()) for client in (i, i + 50))
            assert first == counts[label] // 2 and first + second == counts[label]
    assert everything_once(parts, len(labels))


def test_class_shard_without_sharing_has_disjoint_classes() -> None:
    labels = [0] * 5 + [1] * 2 + [2] * 9 + [3] * 4
    parts = class_shard(labels, 2, classes_per_client=2)
    assert [{labels[i] for i in part} for part in parts] == [{1, 2}, {0, 3}], "smallest with largest"


def test_class_shard_depends_on_the_seed_only() -> None:
    labels = [0, 1] * 20
    first, again, other = (class_shard(labels, 4, classes_per_client=1, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("num_clients", "classes_per_client", "message"),
    [
        (0, 1, "at least one client"),
        (9, 1, "cannot share 8 videos"),
        (2, 1, "at least 4 clients or 2 classes per client"),
        (4, 0, "at least one class"),
        (8, 1, r"Client \d would own no video"),
    ],
)
def test_impossible_shards_are_refused(num_clients: int, classes_per_client: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_shard([0, 1, 1, 2, 2, 3, 3, 3], num_clients, classes_per_client=classes_per_client)


def test_stats_count_what_is_there() -> None:
    stats = partition_stats([0, 0, 1, 4, 4], [np.array([0, 2]), np.array([2, 3, 1])])
    assert (stats["num_videos"], stats["num_clients"], stats["num_classes"]) == (5, 2, 3)
    assert stats["unassigned_videos"] == 1
    assert stats["clients"][1] == {
        "client": 2, "videos": 3, "classes": 3, "videos_per_class": {"1": 1, "2": 1, "5": 1},
    }  # fmt: skip
    assert stats["video_overlap"] == [[2, 1], [1, 3]]
    assert stats["class_overlap"] == [[2, 2], [2, 3]]
