"""What makes no batch that a task can train on is told before a run."""

from types import SimpleNamespace

import pytest

from fedvssl.training.batches import check_batches, least_samples

PLAIN, PAIRS = SimpleNamespace(), SimpleNamespace(least_batch=2)


def settings(batch_size: int = 4, *, drop_last: bool = False) -> dict:
    return {"batch_size": batch_size, "drop_last": drop_last}


def check(task: object, training: dict, *sizes: int) -> list[str]:
    """Warnings about lists of these sizes."""
    warnings: list[str] = []
    lists = {f"client_dist{number}.json": size for number, size in enumerate(sizes, start=1)}
    check_batches(task, training, lists, warn=warnings.append)
    return warnings


@pytest.mark.parametrize(
    ("task", "drop_last", "least"), [(PLAIN, False, 1), (PAIRS, False, 2), (PLAIN, True, 4), (PAIRS, True, 4)]
)
def test_the_least_batch_is_the_tasks_or_a_whole_one(task: object, drop_last: bool, least: int) -> None:
    assert least_samples(task, settings(drop_last=drop_last)) == least


@pytest.mark.parametrize(
    ("task", "training", "sizes", "sentence"),
    [
        (
            PAIRS,
            settings(1),
            [9],
            "training.batch_size=1: SimpleNamespace compares the samples of a batch, set 2 or more",
        ),
        (PAIRS, settings(), [9, 1], r"client_dist2\.json lists 1 sample, SimpleNamespace compares at least 2: give"),
        (
            PLAIN,
            settings(drop_last=True),
            [9, 3],
            r"client_dist2\.json lists 3 samples, which make no whole batch of 4",
        ),
    ],
)
def test_what_makes_no_batch_is_refused(task: object, training: dict, sizes: list[int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check(task, training, *sizes)


def test_a_task_may_refuse_its_largest_batch() -> None:
    found: list[int] = []
    task = SimpleNamespace(check_batch=found.append)
    check(task, settings(8), 5, 3)
    check(task, settings(4), 5, 3)
    assert found == [5, 4]


def test_short_lists_are_told_where_samples_are_compared() -> None:
    assert check(PLAIN, settings(8), 9, 3) == [] and check(PAIRS, settings(3), 9, 3) == []
    (warning,) = check(PAIRS, settings(8), 9, 3, 2)
    assert warning.startswith("2 of 3 lists are shorter than training.batch_size=8 (client_dist3.json: 2)")
