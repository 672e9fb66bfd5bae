"""Sizes of the batches that a task can train on, which its optional `least_batch` and `check_batch` tell."""

from collections.abc import Callable, Mapping
from typing import Any


def least_samples(task: Any, training: Mapping[str, Any]) -> int:
    """Fewest samples of a batch: the last one of an epoch is left out if it has fewer.

    Args:
        task: a Task.
        training: section of the configuration.
    """
    return training["batch_size"] if training["drop_last"] else getattr(task, "least_batch", 1)


def least_of(task: Any, *, world_size: int) -> int:
    """Fewest samples of a batch of all processes together, of which each takes its share."""
    return getattr(task, "least_batch", 1) * world_size


def check_list(task: Any, number: int, *, batch_size: int, world_size: int) -> None:
    """Check that a single list makes a batch that the task can train on.

    Args:
        task: a Task.
        number: of the samples in the list.
        batch_size: of all processes together.
        world_size: number of processes.

    Raises:
        ValueError: naming the setting or the list.
    """
    least, name = least_of(task, world_size=world_size), type(task).__name__
    if batch_size < least:
        raise ValueError(f"training.batch_size={batch_size} is too small for {name}: set {least} or more.")
    if number < getattr(task, "least_batch", 1):
        raise ValueError(f"The training list gives {number} sample, {name} needs {least} or more: give more.")


def check_batches(
    task: Any, training: Mapping[str, Any], sizes: Mapping[str, int], *, warn: Callable[[str], object]
) -> None:
    """Check that every list makes a batch that the task can train on.

    Args:
        task, training: as for `least_samples`.
        sizes: number of samples of each list, by the name of its file.
        warn: receives a sentence about lists that are shorter than a batch of a task that compares its samples.

    Raises:
        ValueError: naming the setting or the list.
    """
    batch_size, least, name = training["batch_size"], getattr(task, "least_batch", 1), type(task).__name__
    if batch_size < least:
        raise ValueError(
            f"training.batch_size={batch_size}: {name} compares the samples of a batch, set {least} or more."
        )
    shortest, size = min(sizes.items(), key=lambda item: item[1])
    if size < least:
        raise ValueError(f"{shortest} lists {size} sample, {name} compares at least {least}: give this client more.")
    if training["drop_last"] and size < batch_size:
        raise ValueError(
            f"{shortest} lists {size} samples, which make no whole batch of {batch_size}: lower training.batch_size, "
            "or set training.drop_last=false."
        )
    if hasattr(task, "check_batch"):
        task.check_batch(min(batch_size, max(sizes.values())))
    if least > 1 and size < batch_size:
        short = sum(number < batch_size for number in sizes.values())
        warn(
            f"{short} of {len(sizes)} lists are shorter than training.batch_size={batch_size} ({shortest}: {size}): "
            f"the batches of these clients are smaller, in which {name} compares less."
        )
