"""Which client owns which video. Every rule gives each video to exactly one client.

A rule maps labels [n] to one array of video indices per client; what it leaves unsaid (files, plots) is in
`data_tools.partition`. Pure: the same labels and seed give the same partition on every machine.
"""

import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

Partition = list[np.ndarray]


def uniform(labels: Sequence[int], num_clients: int, *, seed: int = 7) -> Partition:
    """Shuffle all videos and cut the list into `num_clients` slices, as published.

    Client i (from 0) owns shuffled[int(i * n / N) : int((i + 1) * n / N)], so classes are spread alike. Python's own
    `random` is used because the published lists come from it.

    Returns:
        N arrays of int64 indices, in shuffled order.

    Raises:
        ValueError: if there are no clients or more clients than videos.
    """
    _check_num_clients(num_clients, num_videos=len(labels))
    order = list(range(len(labels)))
    random.Random(seed).shuffle(order)
    return _slices(order, num_clients)


def class_shard(labels: Sequence[int], num_clients: int, *, classes_per_client: int, seed: int = 7) -> Partition:
    """Give each client `classes_per_client` classes, small ones together with large ones.

    The classes, sorted by their number of videos, are taken alternately from both ends and cut into
    G = ceil(K / classes_per_client) groups of as equal a size as possible. Client i serves group i mod G; the clients
    of a group share out the videos of each of its classes. With K = 400, 100 clients and 8 classes per client this is
    the sound form of the published Kinetics-400 rule: 50 groups of 8 classes, each class halved between clients i and
    i + 50. Where K is no multiple of `classes_per_client` the groups are smaller.

    Returns:
        N arrays of int64 indices, class by class.

    Raises:
        ValueError: if there are no clients, more clients than videos, too few clients to hold all classes, or a
            client would own no video.
    """
    _check_num_clients(num_clients, num_videos=len(labels))
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


def partition_stats(labels: Sequence[int], parts: Sequence[np.ndarray]) -> dict:
    """What a partition looks like, ready for JSON; labels are given one-based, as in the annotation files.

    Returns:
        "num_videos", "num_clients", "num_classes", "unassigned_videos"; "clients": one entry each with "client"
        (from 1), "videos", "classes" and "videos_per_class"; "video_overlap" and "class_overlap": [N,N] counts of
        the videos and classes that two clients share (the diagonal counts their own).
    """
    classes, class_of = np.unique(np.asarray(labels), return_inverse=True)
    owns_video = np.zeros((len(parts), len(class_of)), dtype=np.int32)
    per_class = np.zeros((len(parts), len(classes)), dtype=np.int64)
    for client, part in enumerate(parts):
        owns_video[client, part] = 1
        np.add.at(per_class[client], class_of[part], 1)
    owns_class = (per_class > 0).astype(np.int32)
    clients = [
        {
            "client": client,
            "videos": int(row.sum()),
            "classes": int((row > 0).sum()),
            "videos_per_class": {str(c + 1): int(n) for c, n in zip(classes, row, strict=True) if n},
        }
        for client, row in enumerate(per_class, start=1)
    ]
    return {
        "num_videos": len(class_of),
        "num_clients": len(parts),
        "num_classes": len(classes),
        "unassigned_videos": int((owns_video.sum(axis=0) == 0).sum()),
        "clients": clients,
        "video_overlap": (owns_video @ owns_video.T).tolist(),
        "class_overlap": (owns_class @ owns_class.T).tolist(),
    }


def _check_num_clients(num_clients: int, *, num_videos: int) -> None:
    if num_clients < 1:
        raise ValueError(f"num_clients={num_clients}: at least one client is needed.")
    if num_clients > num_videos:
        raise ValueError(f"{num_clients} clients cannot share {num_videos} videos: use at most {num_videos} clients.")


def _slices(order: Sequence[int], num_slices: int) -> Partition:
    """Cut a list into consecutive slices whose lengths differ by at most one."""
    n = len(order)
    bounds = [int(i * n / num_slices) for i in range(num_slices + 1)]
    return [np.array(order[start:stop], dtype=np.int64) for start, stop in pairwise(bounds)]


def _from_both_ends(values: np.ndarray) -> np.ndarray:
    """First, last, second, last but one, ..."""
    half = (len(values) + 1) // 2
    mixed = np.empty_like(values)
    mixed[0::2], mixed[1::2] = values[:half], values[half:][::-1]
    return mixed


def _deal(labels: np.ndarray, groups: Sequence[np.ndarray], num_clients: int, rng: random.Random) -> Partition:
    """Share out the videos of every class among the clients of its group."""
    owned: list[list[np.ndarray]] = [[] for _ in range(num_clients)]
    for group, classes in enumerate(groups):
        members = range(group, num_clients, len(groups))
        for label in classes:
            videos = np.flatnonzero(labels == label).tolist()
            rng.shuffle(videos)
            for client, part in zip(members, _slices(videos, len(members)), strict=True):
                owned[client].append(part)
    return [np.concatenate(parts) for parts in owned]
