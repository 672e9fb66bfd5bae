"""Rules of federated self-supervision on pictures that give clients about equal shares; videos may be divided alike.

`iid`, `by_class` and `dirichlet_balanced` are the rules of FedU (arXiv 2108.06492) and FedEMA (arXiv 2204.04385),
`shards` that of MocoSFL (ICLR 2023). The published lists come from numpy's legacy generator: with a RandomState as
`rng` they come out index by index, with a Generator the rules are the same.
Shapes: n samples, N clients, K classes.
"""

import math
from collections.abc import Sequence

import numpy as np

from fedvssl.data.partition import Partition

Rng = np.random.Generator | np.random.RandomState
LEAST_SAMPLES = 10  # of a client of `dirichlet_balanced`
MOST_DRAWS = 10_000  # of all proportions, until each client has `LEAST_SAMPLES`


def iid(labels: Sequence[int], num_clients: int, *, rng: Rng) -> Partition:
    """Shuffle all samples and cut the list into N parts, whose sizes differ by at most one; larger ones come last.

    Returns:
        N arrays of int64 indices, in shuffled order.

    Raises:
        ValueError: if there are no clients or more clients than samples.
    """
    _check_enough(num_clients, len(labels))
    order = np.arange(len(labels))
    rng.shuffle(order)
    return _cut(_shuffled(order, rng), num_clients)  # the second shuffle is published, and changes no distribution


def by_class(labels: Sequence[int], num_clients: int, *, classes_per_client: int, rng: Rng) -> Partition:
    """Give each client exactly `classes_per_client` classes, and one part of each.

    Each class is shuffled and cut into ceil(N k / K) parts, larger ones last. The clients in order take k times the
    next part of the class that was used least, the lowest of several: the classes come in turn. Parts may be left over.

    Returns:
        N arrays of int64 indices, class by class.

    Raises:
        ValueError: if there are no clients, k is not from 1 to K, or a part would be empty.
    """
    values = np.asarray(labels)
    classes, counts = np.unique(values, return_counts=True)
    _check_enough(num_clients, len(values))
    if not 1 <= classes_per_client <= len(classes):
        raise ValueError(
            f"classes_per_client={classes_per_client}: the list has {len(classes)} classes, "
            f"give a number from 1 to {len(classes)}."
        )
    num_parts = -(-num_clients * classes_per_client // len(classes))
    if counts.min() < num_parts:
        raise ValueError(
            f"{num_clients} clients with {classes_per_client} classes each cut every class into {num_parts} parts, but "
            f"class {classes[counts.argmin()] + 1} has {counts.min()} samples: use fewer clients or classes per client."
        )
    parts = [_cut(_shuffled(np.flatnonzero(values == label), rng), num_parts) for label in classes]
    turns = [divmod(turn, len(classes)) for turn in range(num_clients * classes_per_client)]
    taken = [parts[number][use] for use, number in turns]
    k = classes_per_client
    return [np.concatenate(taken[client * k : (client + 1) * k]) for client in range(num_clients)]


def shards(labels: Sequence[int], num_clients: int, *, shards_per_client: int, rng: Rng) -> Partition:
    """Sort the samples by class, cut them into N k shards of floor(n / (N k)), and let each client draw k of them.

    Two shards of a client may be of one class, and a shard may straddle two. The rest of the n samples is left over.
    Published is k = 0.2 K and 0.5 K.

    Returns:
        N arrays of int64 indices, ascending.

    Raises:
        ValueError: if there are no clients, no shards, or more shards than samples.
    """
    _check_enough(num_clients, len(labels))
    num_shards = num_clients * shards_per_client
    if not 1 <= num_shards <= len(labels):
        raise ValueError(
            f"shards_per_client={shards_per_client}: {num_clients} clients cannot draw {num_shards} shards of "
            f"{len(labels)} samples, give a number from 1 to {len(labels) // num_clients}."
        )
    size = len(labels) // num_shards
    # Stable, so that the lists are the same on every machine.
    cut = np.argsort(np.asarray(labels), kind="stable")[: num_shards * size].reshape(num_shards, size)
    left, parts = list(range(num_shards)), []
    for _ in range(num_clients):
        drawn = rng.choice(left, shards_per_client, replace=False)
        left = list({*left} - {*drawn.tolist()})  # in the order of a set, which the published lists have
        parts.append(np.sort(cut[drawn].ravel()))
    return parts


def dirichlet_balanced(labels: Sequence[int], num_clients: int, *, alpha: float = 0.1, rng: Rng) -> Partition:
    """Split each class in Dirichlet proportions over those clients that have less than n / N samples by then.

    All is drawn again until each client has at least `LEAST_SAMPLES`.

    Args:
        alpha: above 0; a small one gives clients few classes.

    Returns:
        N arrays of int64 indices, in shuffled order.

    Raises:
        ValueError: if there are no clients, fewer than `LEAST_SAMPLES` samples for each, alpha is not a positive
            number, or no draw gives each client so many.
    """
    _check_enough(num_clients, len(labels), each=LEAST_SAMPLES)
    if not (alpha > 0 and math.isfinite(alpha)):
        raise ValueError(f"alpha={alpha}: the Dirichlet rule needs a number above 0, such as 0.1.")
    values = np.asarray(labels)
    members = [np.flatnonzero(values == label) for label in np.unique(values)]
    for _ in range(MOST_DRAWS):
        parts = _draw_dirichlet(members, num_clients, alpha=alpha, rng=rng)
        if parts and min(map(len, parts)) >= LEAST_SAMPLES:
            return [_shuffled(part, rng) for part in parts]
    raise ValueError(
        f"alpha={alpha}: none of {MOST_DRAWS} draws gave each of {num_clients} clients {LEAST_SAMPLES} of the "
        f"{len(labels)} samples, use fewer clients or a larger alpha."
    )


def _draw_dirichlet(members: Sequence[np.ndarray], num_clients: int, *, alpha: float, rng: Rng) -> Partition | None:
    """Samples of each client; None if a class would have no taker."""
    owned: list[list[np.ndarray]] = [[] for _ in range(num_clients)]
    sizes, share = np.zeros(num_clients, dtype=np.int64), sum(map(len, members)) / num_clients
    for samples in members:
        shuffled = _shuffled(samples, rng)
        proportions = rng.dirichlet(np.full(num_clients, alpha)) * (sizes < share)
        if not proportions.sum() > 0:  # a tiny alpha gives all to one client, who may have enough, or no number at all
            return None
        bounds = (np.cumsum(proportions / proportions.sum()) * len(samples)).astype(np.int64)[:-1]
        for client, part in enumerate(np.split(shuffled, bounds)):
            owned[client].append(part)
            sizes[client] += len(part)
    return [np.concatenate(parts) for parts in owned]


def _check_enough(num_clients: int, num_samples: int, *, each: int = 1) -> None:
    if num_clients < 1:
        raise ValueError(f"num_clients={num_clients}: at least one client is needed.")
    if num_clients * each > num_samples:
        raise ValueError(
            f"{num_clients} clients cannot share {num_samples} samples"
            f"{f' with at least {each} each' if each > 1 else ''}: use at most {num_samples // each} clients."
        )


def _shuffled(indices: np.ndarray, rng: Rng) -> np.ndarray:
    shuffled = indices.copy()
    rng.shuffle(shuffled)
    return shuffled


def _cut(indices: np.ndarray, num_parts: int) -> Partition:
    """Consecutive parts whose lengths differ by at most one; larger ones come last."""
    size, larger = divmod(len(indices), num_parts)
    lengths = [size] * (num_parts - larger) + [size + 1] * larger
    return np.split(indices, np.cumsum(lengths)[:-1])
