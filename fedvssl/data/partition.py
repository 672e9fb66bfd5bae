"""Rules that divide videos over clients. Every rule but `k400_paper` gives each video to exactly one client.

A rule maps labels [n] to one array of video indices per client. The same labels and seed give the same partition on
every machine. Files and plots are in `data_tools.partition`, statistics in `partition_stats`.
"""

import math
import random
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

Partition = list[np.ndarray]


def uniform(labels: Sequence[int], num_clients: int, *, seed: int = 7) -> Partition:
    """Shuffle all videos and cut the list into `num_clients` slices, as published.

    Client i (from 0) owns shuffled[int(i * n / N) : int((i + 1) * n / N)], so classes are spread evenly. The published
    lists come from Python's own `random`, so it is used here.

    Returns:
        N arrays of int64 indices, in shuffled order.

    Raises:
        ValueError: if there are no clients or more clients than videos.
    """
    _check_num_clients(num_clients, len(labels), of="videos")
    order = list(range(len(labels)))
    random.Random(seed).shuffle(order)
    return _slices(order, num_clients)


def class_shard(labels: Sequence[int], num_clients: int, *, classes_per_client: int, seed: int = 7) -> Partition:
    """Give each client `classes_per_client` classes, small ones together with large ones.

    The K classes are sorted by number of videos, taken alternately from both ends and cut into
    G = ceil(K / classes_per_client) groups, whose sizes differ by at most one. Client i serves group i mod G; the
    clients of a group split the videos of each class. With K = 400, 100 clients and 8 classes per client this corrects
    the published Kinetics-400 rule: 50 groups of 8 classes, each class halved between clients i and i + 50.

    Returns:
        N arrays of int64 indices, class by class.

    Raises:
        ValueError: if there are no clients, more clients than videos, too few clients to hold all classes, or a
            client would own no video.
    """
    _check_num_clients(num_clients, len(labels), of="videos")
    classes, counts = np.unique(np.asarray(labels), return_counts=True)
    if classes_per_client < 1:
        raise ValueError(f"classes_per_client={classes_per_client}: a client needs at least one class.")
    num_groups = -(-len(classes) // classes_per_client)
    if num_clients < num_groups:
        raise ValueError(
            f"{num_clients} clients with {classes_per_client} classes each cannot hold {len(classes)} classes: "
            f"use at least {num_groups} clients or {-(-len(classes) // num_clients)} classes per client."
        )
    by_size = classes[np.argsort(counts, kind="stable")]
    groups = np.array_split(_from_both_ends(by_size), num_groups)
    parts = _deal(np.asarray(labels), groups, num_clients, random.Random(seed))
    for client, part in enumerate(parts, start=1):
        if len(part) == 0:
            raise ValueError(f"Client {client} would own no video: use fewer clients or more classes per client.")
    return parts


def dirichlet(labels: Sequence[int], num_clients: int, *, alpha: float, seed: int = 7) -> Partition:
    """Split each class in proportions drawn from a Dirichlet distribution (Yurochkin et al., arXiv 1905.12022).

    A small alpha gives clients few classes and very different sizes; a large one makes them alike. A client without
    videos gets one from the client that has most at that time.

    Returns:
        N arrays of int64 indices, class by class.

    Raises:
        ValueError: if there are no clients, more clients than videos, or alpha is not a positive number.
    """
    _check_num_clients(num_clients, len(labels), of="videos")
    if not (alpha > 0 and math.isfinite(alpha)):
        raise ValueError(f"alpha={alpha}: the Dirichlet rule needs a number above 0, such as 0.5.")
    rng, values = np.random.default_rng(seed), np.asarray(labels)
    owned: list[list[int]] = [[] for _ in range(num_clients)]
    for label in np.unique(values):
        videos = rng.permutation(np.flatnonzero(values == label))
        shares = rng.dirichlet(np.full(num_clients, alpha))
        bounds = np.rint(np.cumsum(shares)[:-1] * len(videos)).astype(np.int64)
        for own, part in zip(owned, np.split(videos, bounds), strict=True):
            own += part.tolist()
    for own in owned:
        if not own:
            own.append(max(owned, key=len).pop())
    return [np.array(own, dtype=np.int64) for own in owned]


def by_group(groups: Sequence[str], num_clients: int, *, seed: int = 7) -> Partition:
    """Shuffle the groups and cut their list into `num_clients` slices: no group is split over clients.

    The clips of a UCF-101 group show one place and the same people, like the videos of one owner.

    Args:
        groups: group of each video, [n]; see `groups_of`.

    Returns:
        N arrays of int64 indices, group by group.

    Raises:
        ValueError: if there are no clients or more clients than groups.
    """
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    _check_num_clients(num_clients, len(members), of="groups")
    order = sorted(members)
    random.Random(seed).shuffle(order)
    bounds = _bounds(len(order), num_clients)
    return [np.array([i for g in order[start:stop] for i in members[g]], dtype=np.int64) for start, stop in bounds]


def groups_of(names: Sequence[str]) -> list[str]:
    """Group of each video, from its name: "Archery/v_Archery_g01_c02" -> "Archery/v_Archery_g01".

    Raises:
        ValueError: if a name holds no group.
    """
    found = [re.match(r"(.+_g\d+)_", name) for name in names]
    without = [name for name, match in zip(names, found, strict=True) if match is None]
    if without:
        raise ValueError(
            f"{len(without)} of {len(names)} videos name no group ({without[0]}): by-group needs names such as "
            "v_Archery_g01_c02, use another method."
        )
    return [match[1] for match in found if match]


def k400_paper(labels: Sequence[int], num_clients: int) -> Partition:
    """The published non-IID rule of Kinetics-400, with its fault: videos are owned by several clients or by none.

    Classes are sorted by size. Clients i and i + 50 take the 4 classes from place i on and 4 from the other end, never
    the largest one. The window moves by 1 instead of 4 (`class_shard` is the sound rule), so it reaches 106 classes.
    Each class is shuffled in place with a fixed seed and cut in halves for the two clients. The next two shuffle it
    again, so their halves are different.

    Returns:
        100 arrays of int64 indices, class by class.

    Raises:
        ValueError: if there are not exactly 400 classes and 100 clients.
    """
    values = np.asarray(labels)
    classes = np.unique(values)
    if len(classes) != 400 or num_clients != 100:
        raise ValueError(
            f"k400-paper is one fixed partition of 400 classes over 100 clients, not of {len(classes)} over "
            f"{num_clients}: use class-shard."
        )
    by_size = sorted((np.flatnonzero(values == label).tolist() for label in classes), key=len)
    owned: list[list[int]] = [[] for _ in range(num_clients)]
    for i in range(50):
        for window, seed in ((by_size[i : i + 4], 1234), (by_size[-i - 5 : -i - 1], 4321)):
            for videos in window:
                random.Random(seed).shuffle(videos)  # in place, so it is shuffled once more for the next i
                half = len(videos) // 2
                owned[i] += videos[:half]
                owned[i + 50] += videos[half:]
    return [np.array(own, dtype=np.int64) for own in owned]


def _check_num_clients(num_clients: int, number: int, *, of: str) -> None:
    if num_clients < 1:
        raise ValueError(f"num_clients={num_clients}: at least one client is needed.")
    if num_clients > number:
        raise ValueError(f"{num_clients} clients cannot share {number} {of}: use at most {number} clients.")


def _slices(order: Sequence[int], num_slices: int) -> Partition:
    return [np.array(order[start:stop], dtype=np.int64) for start, stop in _bounds(len(order), num_slices)]


def _bounds(length: int, num_slices: int) -> Iterable[tuple[int, int]]:
    """Start and stop of consecutive slices whose lengths differ by at most one."""
    return pairwise(int(i * length / num_slices) for i in range(num_slices + 1))


def _from_both_ends(values: np.ndarray) -> np.ndarray:
    """Values in the order first, last, second, last but one, ..."""
    half = (len(values) + 1) // 2
    mixed = np.empty_like(values)
    mixed[0::2], mixed[1::2] = values[:half], values[half:][::-1]
    return mixed


def _deal(labels: np.ndarray, groups: Sequence[np.ndarray], num_clients: int, rng: random.Random) -> Partition:
    """Split the videos of every class over the clients of its group."""
    owned: list[list[np.ndarray]] = [[] for _ in range(num_clients)]
    for group, classes in enumerate(groups):
        members = range(group, num_clients, len(groups))
        for label in classes:
            videos = np.flatnonzero(labels == label).tolist()
            rng.shuffle(videos)
            for client, part in zip(members, _slices(videos, len(members)), strict=True):
                owned[client].append(part)
    return [np.concatenate(parts) for parts in owned]
