"""Replies of a round on their way in: counted, timed, and logged as progress."""

import logging
import time
from collections.abc import Iterator

from flwr.app import Message, MetricRecord

from fedvssl.files.progress import Progress
from fedvssl.wire.record import METRICS

log = logging.getLogger(__name__)
PROGRESS_SECONDS = 30.0


class Arrivals(Iterator[Message]):
    """Replies of a round as they come in; logs their number and adds the time of each.

    Args:
        replies: passed on; no reference to a reply is kept.
        sent: `time.perf_counter` when the messages were sent.
        expected: largest number of replies.
        label: label of the progress lines.
    """

    def __init__(self, replies: Iterator[Message], *, sent: float, expected: int, label: str) -> None:
        self.seconds = time.perf_counter() - sent  # of waiting for replies, without the work on them
        self._replies = replies
        self._sent = sent
        self._count, self._expected = 0, expected
        self._progress = Progress(label, expected, write=log.info, every_seconds=PROGRESS_SECONDS)

    def __next__(self) -> Message:
        started = time.perf_counter()
        try:
            reply = next(self._replies)
        finally:
            self.seconds += time.perf_counter() - started
        time_communication(reply, seconds=time.perf_counter() - self._sent)
        self._count += 1
        if self._count < self._expected:
            self._progress.update(self._count)
        return reply


def time_communication(reply: Message, *, seconds: float) -> None:
    """Add "seconds-communication" to a reply's facts: its round trip of `seconds` minus the client's own work.

    It covers packing, transport and unpacking both ways, the wait for a free actor, the start of actors in round 1, and
    the time until the server sees the reply: up to POLL_SECONDS, or as long as the server is busy with another reply.
    """
    facts = reply.content.get(METRICS) if reply.has_content() else None
    if isinstance(facts, MetricRecord) and "seconds-on-client" in facts:
        facts["seconds-communication"] = seconds - float(facts["seconds-on-client"])  # pyright: ignore
