"""Jobs spread over worker processes, which end with this one."""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from fedvssl.files.parent import end_with_parent

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_processes(work: Callable[[Job], Result], jobs: Sequence[Job], *, num_workers: int) -> Iterator[Result]:
    """Result of each job, in order. Jobs that have begun are finished if the caller stops early, others are not begun.

    Raises:
        ValueError: if a worker dies.
    """
    if not jobs:
        return
    # Spawned, because the threads of the decoders and encoders do not survive a fork.
    pool = ProcessPoolExecutor(min(num_workers, len(jobs)), mp_context=get_context("spawn"), initializer=_prepare)
    try:
        yield from pool.map(work, jobs)
    except BrokenProcessPool as error:
        raise ValueError(
            "A worker process died, most likely for want of memory: run again with fewer --num_workers; "
            "finished videos are kept."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends the work in order
    end_with_parent()
