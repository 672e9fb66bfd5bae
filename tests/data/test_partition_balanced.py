from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedvssl.data.partition_balanced
from fedvssl.data.partition import Partition
from fedvssl.data.partition_balanced import LEAST_SAMPLES, by_class, dirichlet_balanced, iid, shards
from tests.data.test_partition import everything_once, label_lists

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 60))


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def sizes(parts: Partition) -> list[int]:
    return [len(part) for part in parts]


@given(labels=label_lists, num_clients=st.integers(1, 20), seed=st.integers(0, 5))
def test_iid_gives_every_sample_to_one_client_in_equal_parts(labels: list[int], num_clients: int, seed: int) -> None:
    if num_clients > len(labels):
        with pytest.raises(ValueError, match=f"cannot share {len(labels)} samples: use at most {len(labels)} clients"):
            iid(labels, num_clients, rng=generator())
        return
    parts = iid(labels, num_clients, rng=generator(seed))
    assert everything_once(parts, len(labels)) and all(part.dtype == np.int64 for part in parts)
    small, more = divmod(len(labels), num_clients)
    assert sizes(parts) == [small] * (num_clients - more) + [small + 1] * more, "larger ones last"


@given(labels=label_lists, num_clients=st.integers(1, 12), k=st.integers(1, 8), seed=st.integers(0, 5))
def test_by_class_gives_the_next_part_of_the_class_used_least(
    labels: list[int], num_clients: int, k: int, seed: int
) -> None:
    counts = Counter(labels)
    num_parts = -(-num_clients * k // len(counts))
    try:
        parts = by_class(labels, num_clients, classes_per_client=k, rng=generator(seed))
    except ValueError:
        assert k > len(counts) or min(counts.values()) < num_parts or num_clients > len(labels)
        return
    used = dict.fromkeys(sorted(counts), 0)
    for part in parts:
        expected = []
        for _ in range(k):  # the rule as it is published, step by step
            label = min(used, key=lambda label: (used[label], label))
            small, more = divmod(counts[label], num_parts)
            expected += [label] * (small + (used[label] >= num_parts - more))
            used[label] += 1
        assert [labels[index] for index in part] == expected
    given_out = np.concatenate(parts)
    assert len(set(given_out.tolist())) == len(given_out), "nothing twice"
    assert max(used.values()) <= num_parts


def test_two_of_ten_classes_each_for_five_clients_are_whole_classes() -> None:
    parts = by_class(LABELS, 5, classes_per_client=2, rng=generator())
    assert [sorted(set(LABELS[part].tolist())) for part in parts] == [[2 * i, 2 * i + 1] for i in range(5)]
    assert everything_once(parts, len(LABELS))


@given(labels=label_lists, num_clients=st.integers(1, 12), k=st.integers(1, 6), seed=st.integers(0, 5))
def test_shards_are_pieces_of_the_sorted_list(labels: list[int], num_clients: int, k: int, seed: int) -> None:
    if num_clients * k > len(labels):
        with pytest.raises(
            ValueError, match="cannot share" if num_clients > len(labels) else "give a number from 1 to"
        ):
            shards(labels, num_clients, shards_per_client=k, rng=generator(seed))
        return
    parts = shards(labels, num_clients, shards_per_client=k, rng=generator(seed))
    size = len(labels) // (num_clients * k)
    place = np.argsort(np.argsort(labels, kind="stable"))  # of each sample in the sorted list
    owners = Counter()
    for part in parts:
        assert (np.diff(part) > 0).all() and len(part) == k * size
        numbers = Counter((place[part] // size).tolist())
        assert len(numbers) == k and set(numbers.values()) == {size}, "whole shards"
        owners.update(numbers.keys())
    assert owners == dict.fromkeys(range(num_clients * k), 1), "each drawn by one client"


@given(alpha=st.sampled_from([0.05, 0.1, 0.5, 5.0, 1e4]), num_clients=st.integers(1, 8), seed=st.integers(0, 5))
def test_dirichlet_balanced_gives_every_sample_to_one_client(alpha: float, num_clients: int, seed: int) -> None:
    parts = dirichlet_balanced(LABELS, num_clients, alpha=alpha, rng=generator(seed))
    assert everything_once(parts, len(LABELS)) and min(sizes(parts)) >= LEAST_SAMPLES
    # A client takes no further class once it has its share, so it exceeds it by less than a class, and by the sample
    # that the rounding may leave to the last client.
    assert max(sizes(parts)) < len(LABELS) / num_clients + 60 + 10


def test_a_small_alpha_gives_few_classes() -> None:
    classes = [
        np.mean(
            [
                len(set(LABELS[part]))
                for seed in range(5)
                for part in dirichlet_balanced(LABELS, 5, rng=generator(seed), **a)
            ]
        )
        for a in ({}, {"alpha": 0.1}, {"alpha": 1.0}, {"alpha": 100.0})
    ]
    assert classes[0] == classes[1] < classes[2] < classes[3] == 10, "0.1 is the default"


def every_rule(rng: np.random.Generator) -> list[Partition]:
    return [
        iid(LABELS, 7, rng=rng),
        by_class(LABELS, 7, classes_per_client=3, rng=rng),
        shards(LABELS, 7, shards_per_client=2, rng=rng),
        dirichlet_balanced(LABELS, 7, alpha=0.5, rng=rng),
    ]


def test_the_seed_alone_decides_and_labels_stay_as_they_are() -> None:
    before = LABELS.copy()
    first, again, other = (every_rule(generator(seed)) for seed in (1, 1, 2))
    for one, same, another in zip(first, again, other, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
        assert not all(np.array_equal(a, b) for a, b in zip(one, another, strict=True))
    assert np.array_equal(LABELS, before)


@pytest.mark.parametrize(
    ("rule", "num_clients", "options", "message"),
    [
        (iid, 0, {}, "num_clients=0: at least one client"),
        (iid, 13, {}, "13 clients cannot share 12 samples: use at most 12 clients"),
        (by_class, 2, {"classes_per_client": 4}, "=4: the list has 3 classes, give a number from 1 to 3"),
        (by_class, 2, {"classes_per_client": 0}, "=0: the list has 3 classes"),
        (by_class, 12, {"classes_per_client": 1}, "into 4 parts, but class 3 has 2 samples: use fewer clients"),
        (shards, 4, {"shards_per_client": 4}, "cannot draw 16 shards of 12 samples, give a number from 1 to 3"),
        (shards, 4, {"shards_per_client": 0}, "shards_per_client=0"),
        (dirichlet_balanced, 2, {}, "2 clients cannot share 12 samples with at least 10 each: use at most 1 clients"),
        (dirichlet_balanced, 1, {"alpha": 0.0}, r"alpha=0\.0: the Dirichlet rule needs a number above 0"),
        (dirichlet_balanced, 1, {"alpha": float("nan")}, "alpha=nan: the Dirichlet rule needs a number above 0"),
    ],
)
def test_impossible_partitions_are_refused(rule, num_clients: int, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rule([0] * 5 + [1] * 5 + [2] * 2, num_clients, **options, rng=generator())


def test_draws_that_never_suffice_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fedvssl.data.partition_balanced, "MOST_DRAWS", 20)
    with pytest.raises(ValueError, match="none of 20 draws gave each of 20 clients 10 of the 600 samples"):
        dirichlet_balanced(LABELS, 20, alpha=1e-6, rng=generator())
