import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedvssl.data.partition import by_group, class_shard, dirichlet, groups_of, k400_paper, uniform
from fedvssl.data.partition_stats import partition_stats

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


def kinetics_labels() -> np.ndarray:
    """400 classes of 5 to 24 videos, many of the same size, in mixed order."""
    rng = np.random.default_rng(0)
    return rng.permutation(np.repeat(np.arange(400), rng.integers(5, 25, 400)))


def published_kinetics_rule(labels: np.ndarray) -> dict[int, list[int]]:
    """The published rule, sentence by sentence, with labels and clients counted from 1."""
    videos = {label: [i for i in range(len(labels)) if labels[i] == label - 1] for label in range(1, 401)}
    by_number = sorted(range(1, 401), key=lambda label: len(videos[label]))  # stable
    clients: dict[int, list[int]] = {client: [] for client in range(1, 101)}
    state = random.getstate()
    for i in range(0, 50):
        for label in by_number[i : i + 4]:
            random.seed(1234)
            random.shuffle(videos[label])
            clients[i + 1].extend(videos[label][: len(videos[label]) // 2])
            clients[i + 51].extend(videos[label][len(videos[label]) // 2 :])
        for label in by_number[-i - 5 : -i - 1]:
            random.seed(4321)
            random.shuffle(videos[label])
            clients[i + 1].extend(videos[label][: len(videos[label]) // 2])
            clients[i + 51].extend(videos[label][len(videos[label]) // 2 :])
    random.setstate(state)
    return clients


def test_k400_paper_is_the_published_rule_with_its_fault() -> None:
    labels = kinetics_labels()
    parts = k400_paper(labels.tolist(), 100)
    for client, expected in published_kinetics_rule(labels).items():
        assert parts[client - 1].tolist() == expected

    by_size = np.argsort(np.bincount(labels), kind="stable")
    reached = {*by_size[:53], *by_size[-54:-1]}  # 50 windows of 4, moved by 1; the largest class is left out
    assert len(reached) == 106 and set(labels[np.concatenate(parts)].tolist()) == reached
    stats = partition_stats(labels.tolist(), parts)
    distinct = int(np.isin(labels, list(reached)).sum())
    assert stats["classes_reached"] == 106 and stats["unassigned_videos"] == len(labels) - distinct
    assert all(client["classes"] == 8 for client in stats["clients"])
    assert stats["num_entries"] == sum(map(len, parts)) > 3 * distinct > 3 * stats["shared_videos"] > 2.5 * distinct
    assert all(len(set(part.tolist())) == len(part) for part in parts), "no client has a video twice"


@pytest.mark.parametrize(("num_classes", "num_clients"), [(399, 100), (400, 99), (6, 5)])
def test_k400_paper_is_for_kinetics_only(num_classes: int, num_clients: int) -> None:
    labels = np.repeat(np.arange(num_classes), 2).tolist()
    with pytest.raises(ValueError, match=f"not of {num_classes} over {num_clients}: use class-shard"):
        k400_paper(labels, num_clients)


@given(
    labels=label_lists,
    num_clients=st.integers(1, 20),
    alpha=st.sampled_from([1e-6, 0.01, 0.5, 1, 100, 1e9]),
    seed=st.integers(0, 3),
)
def test_dirichlet_gives_every_video_to_one_client(
    labels: list[int], num_clients: int, alpha: float, seed: int
) -> None:
    if num_clients > len(labels):
        with pytest.raises(ValueError, match="cannot share"):
            dirichlet(labels, num_clients, alpha=alpha, seed=seed)
        return
    parts = dirichlet(labels, num_clients, alpha=alpha, seed=seed)
    assert len(parts) == num_clients and all(len(part) for part in parts) and everything_once(parts, len(labels))
    again = dirichlet(labels, num_clients, alpha=alpha, seed=seed)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


def test_a_small_alpha_makes_clients_differ() -> None:
    labels = np.repeat(np.arange(20), 100).tolist()
    divergences = [
        partition_stats(labels, dirichlet(labels, 10, alpha=alpha))["mean_divergence"] for alpha in (0.05, 0.5, 5, 500)
    ]
    assert divergences == sorted(divergences, reverse=True)
    assert divergences[0] > 1.5 and divergences[-1] < 0.05
    shares = np.array([len(part) for part in dirichlet(labels, 10, alpha=500)]) / len(labels)
    assert np.allclose(shares, 0.1, atol=0.01)
    one, other = (dirichlet(labels, 10, alpha=0.5, seed=seed) for seed in (1, 2))
    assert any(len(a) != len(b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_alpha_is_a_positive_number(alpha: float) -> None:
    with pytest.raises(ValueError, match=f"alpha={alpha}: the Dirichlet rule needs a number above 0"):
        dirichlet([0, 1], 2, alpha=alpha)


def test_by_group_never_splits_a_group() -> None:
    names = [
        f"{cls}/v_{cls}_g{g:02d}_c{c:02d}" for cls in ("Archery", "Bowling") for g in range(1, 8) for c in (1, 2, 3)
    ]
    groups = groups_of(names)
    assert groups[0] == "Archery/v_Archery_g01" and len(set(groups)) == 14, (
        "the same number of another class is another"
    )
    parts = by_group(groups, 4)
    assert everything_once(parts, len(names)) and [len(part) for part in parts] == [9, 12, 9, 12]
    owners = {group: {c for c, part in enumerate(parts) for i in part if groups[i] == group} for group in groups}
    assert all(len(owner) == 1 for owner in owners.values())
    assert [part.tolist() for part in parts] == [part.tolist() for part in by_group(groups, 4)]
    assert [part.tolist() for part in parts] != [part.tolist() for part in by_group(groups, 4, seed=8)]
    assert sorted(len(part) for part in by_group(groups, 14)) == [3] * 14
    with pytest.raises(ValueError, match="15 clients cannot share 14 groups: use at most 14 clients"):
        by_group(groups, 15)


def test_names_without_a_group_get_one_error() -> None:
    with pytest.raises(ValueError, match=r"2 of 3 videos name no group \(wave/clip_g1\)"):
        groups_of(["A/v_A_g01_c01", "wave/clip_g1", "wave/other"])
