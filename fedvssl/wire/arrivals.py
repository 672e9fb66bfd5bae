"""Replies of a round on their way in: counted, and logged as progress."""

import logging
import time
from collections.abc import Iterator

from fedvssl.files.progress import Progress
from fedvssl.wire.wire import Reply

log = logging.getLogger(__name__)
PROGRESS_SECONDS = 30.0


class Arrivals(Iterator[Reply]):
    """Replies of a round as they come in; logs their number.

    Args:
        replies: passed on; no reference to a reply is kept.
        sent: `time.perf_counter` when the messages were sent.
        expected: largest number of replies.
        label: label of the progress lines.
    """

    def __init__(self, replies: Iterator[Reply], *, sent: float, expected: int, label: str) -> None:
        self.seconds = time.perf_counter() - sent  # of waiting for replies, without the work on them
        self._replies = replies
        self._count, self._expected = 0, expected
        self._progress = Progress(label, expected, write=log.info, every_seconds=PROGRESS_SECONDS)

    def __next__(self) -> Reply:
        started = time.perf_counter()
        try:
            reply = next(self._replies)
        finally:
            self.seconds += time.perf_counter() - started
        self._count += 1
        if self._count < self._expected:
            self._progress.update(self._count)
        return reply
