"""Statistics of a partition: owned videos, shared videos and the difference between the clients' classes."""

from collections.abc import Sequence

import numpy as np


def partition_stats(labels: Sequence[int], parts: Sequence[np.ndarray]) -> dict:
    """Statistics ready for JSON; labels are one-based, as in the annotation files, and entropies are in bits.

    Returns:
        "num_videos", "num_clients", "num_classes" and "videos_per_class" of the list; "num_entries" over all clients,
        "unassigned_videos", "shared_videos" (with two clients or more) and "classes_reached"; "clients": one entry each
        with "client" (from 1), "videos", "classes", "videos_per_class", "entropy" of its classes and "divergence"
        (Kullback-Leibler) from the pooled ones; "pooled_entropy" of the entries of all clients, "mean_entropy" and
        "mean_divergence" over the clients; "video_overlap" and "class_overlap": [N,N] counts of the videos and classes
        that two clients share (the diagonal counts their own).
    """
    classes, class_of = np.unique(np.asarray(labels), return_inverse=True)
    # float32 has a fast product and counts exactly up to 16 million.
    owns_video = np.zeros((len(parts), len(class_of)), dtype=np.float32)
    per_class = np.zeros((len(parts), len(classes)), dtype=np.int64)
    for client, part in enumerate(parts):
        owns_video[client, part] = 1
        np.add.at(per_class[client], class_of[part], 1)
    owners, owns_class = owns_video.sum(axis=0), (per_class > 0).astype(np.float32)
    pooled = per_class.sum(axis=0)
    clients = [
        {
            "client": client,
            "videos": int(row.sum()),
            "classes": int((row > 0).sum()),
            "entropy": round(entropy(row), 4),
            "divergence": round(divergence(row, pooled), 4),
            "videos_per_class": _by_class(classes, row),
        }
        for client, row in enumerate(per_class, start=1)
    ]
    return {
        "num_videos": len(class_of),
        "num_clients": len(parts),
        "num_classes": len(classes),
        "num_entries": int(pooled.sum()),
        "unassigned_videos": int((owners == 0).sum()),
        "shared_videos": int((owners > 1).sum()),
        "classes_reached": int((pooled > 0).sum()),
        "pooled_entropy": round(entropy(pooled), 4),
        "mean_entropy": round(float(np.mean([client["entropy"] for client in clients])), 4),
        "mean_divergence": round(float(np.mean([client["divergence"] for client in clients])), 4),
        "videos_per_class": _by_class(classes, np.bincount(class_of)),
        "clients": clients,
        "video_overlap": (owns_video @ owns_video.T).astype(int).tolist(),
        "class_overlap": (owns_class @ owns_class.T).astype(int).tolist(),
    }


def entropy(counts: np.ndarray) -> float:
    """Entropy of counts [K] in bits: 0 for one class, log2(K) for K equal classes."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum()) + 0.0  # + 0.0: no negative zero


def divergence(counts: np.ndarray, pooled: np.ndarray) -> float:
    """Kullback-Leibler divergence in bits of counts [K] from pooled counts [K], which include them; 0 if alike."""
    there = counts > 0
    share, expected = counts[there] / counts.sum(), pooled[there] / pooled.sum()
    return max(0.0, float((share * np.log2(share / expected)).sum()))


def _by_class(classes: np.ndarray, counts: np.ndarray) -> dict[str, int]:
    return {str(label + 1): int(count) for label, count in zip(classes, counts, strict=True) if count}
