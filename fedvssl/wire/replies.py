"""Checks of what clients send: a reply is read whole, or refused with a reason in one line.

A client may send anything. Its arrays and metrics are compared with what the server knows: the arrays that were sent,
the names that the task reports, the number of videos that the client first introduced.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedvssl.wire.wire import Facts, Reply, Update

LARGEST = 1e30  # sums and means of a few such numbers are still finite, in float32 too
MOST_EXAMPLES = 2**53 - 1  # largest number of videos; a float64 has every whole number up to it
MOST_STEPS = 2**31  # by which a counter may rise in a round
LONGEST_LINE = 500
LONGEST_OWNER, MOST_PRECISIONS = 80, 8
DIGEST = re.compile("[0-9a-f]{64}")
# Facts of every client's training loop: least and largest value.
FACTS = {
    "num-clips": (0.0, LARGEST),
    "seconds-data": (0.0, LARGEST),
    "seconds-compute": (0.0, LARGEST),
    "data-share": (0.0, 1.0),
    "clips-per-second": (0.0, LARGEST),
    "seconds-on-client": (0.0, LARGEST),
}
# Names that the server alone writes, and so does every name that ends in "-weight" or begins with "eval-".
SERVERS_OWN = {
    *("server-round", "partition-id", "failed-partition-ids", "num-clients", "lr", "weight", "epoch"),
    *("bytes-up", "bytes-down"),
    *("seconds", "seconds-clients", "seconds-aggregate", "seconds-communication", "update-norm", "typical-update"),
}


@dataclass(frozen=True)
class Report:
    """Metrics that the server expects of a client.

    Args:
        names: metrics of the task beside "loss", in the order of the records. Others are left out of the records.
        least_loss: no loss of the task lies below it.

    Raises:
        ValueError: if the task uses a name that is not its own.
    """

    names: tuple[str, ...] = ()
    least_loss: float = 0.0

    def __post_init__(self) -> None:
        for name in self.names:
            if is_taken(name):
                raise ValueError(f"The task reports a metric '{name}', a name that is taken: give it another one.")

    def read(self, facts: Mapping[str, Any], *, num_examples: int) -> dict[str, float]:
        """The known metrics of a reply, in the order of the records.

        Args:
            facts: metrics as they came.
            num_examples: number of videos that the client has introduced.

        Raises:
            ValueError: for a name of the server's own, or a value out of its range.
        """
        if stolen := [name for name in facts if is_servers_own(name)]:
            raise ValueError(f"it reports '{stolen[0]}', which only the server writes")
        if "loss" not in facts:
            raise ValueError("the loss is missing")
        ranges = {name: (-LARGEST, LARGEST) for name in self.names} | FACTS
        metrics = {"loss": _number("the loss", facts["loss"], low=max(self.least_loss, -LARGEST))}
        for name, (low, high) in ranges.items():
            if name in facts:
                metrics[name] = _number(f"'{name}'", facts[name], low=low, high=high)
        trained_on = _number("the number of samples", facts.get("num-examples", 0), low=-LARGEST)
        if trained_on <= 0:
            raise ValueError("it trained on no sample")
        if trained_on != num_examples:
            raise ValueError(f"it trained on {trained_on:g} samples and introduced {num_examples}: restore its list")
        return {**metrics, "num-examples": float(num_examples)}

    def unknown(self, facts: Iterable[str]) -> list[str]:
        """Names of a reply that are left out of the records."""
        return [name for name in facts if name not in {*self.names, *FACTS, "loss", "num-examples"}]


UNKNOWN = Report()  # of a task that nobody has tried: the facts of the loop alone


def is_taken(name: str) -> bool:
    """True if a metric of a task, or a fact of a rule, may not have this name."""
    return is_servers_own(name) or name.replace("_", "-") in {*FACTS, "num-examples", "loss"}


def is_servers_own(name: str) -> bool:
    """True if no client and no task may use this name of a metric."""
    name = name.replace("_", "-")
    return name in SERVERS_OWN or name.endswith("-weight") or name.startswith("eval-")


@dataclass(frozen=True)
class Introduction:
    """What a node says of itself, checked.

    Args:
        partition_id, num_examples: its client, and how many videos that has.
        owner: name of whom the node belongs to, "" if it has none.
        digest: SHA-256 of the client's list, "" if the node does not tell it.
        precisions: those that it computes in, see `training.precision`; empty if it does not know.
    """

    partition_id: int
    num_examples: int
    owner: str = ""
    digest: str = ""
    precisions: tuple[str, ...] = ()


def read_introduction(facts: Facts, *, num_clients: int) -> Introduction:
    """Check what a node introduces itself with.

    Raises:
        ValueError: with the reason for leaving it out.
    """
    partition_id, num_examples = (facts.get(name) for name in ("partition-id", "num-examples"))
    precisions = facts.get("precisions", [])
    if not (isinstance(precisions, list) and all(isinstance(name, str) for name in precisions)):
        raise ValueError(f"its precisions are {precisions!r}, not a list of names")
    digest = str(facts.get("list", ""))
    if digest and not DIGEST.fullmatch(digest):
        raise ValueError(f"the digest of its list is {digest!r}, not a SHA-256")
    return Introduction(
        _whole("partition-id", partition_id, low=0, high=num_clients - 1),
        _whole("num-examples", num_examples, low=1, high=MOST_EXAMPLES),
        one_line(facts.get("owner", ""))[:LONGEST_OWNER],
        digest,
        tuple(map(one_line, precisions[:MOST_PRECISIONS])),
    )


def read_update(reply: Reply, *, expected: Mapping[str, np.ndarray], num_examples: int, report: Report) -> Update:
    """Check a reply to an order to train.

    Args:
        reply: as it came.
        expected: arrays that were sent.
        num_examples: number of videos that the client has introduced.
        report: metrics that it may report.

    Returns:
        The update, with "bytes-up" and "bytes-down" among its metrics, and "seconds-communication" if the client tells
        its own seconds: the round trip without the client's work. That is packing, transport and unpacking both ways,
        the wait for a free process, the start of processes in round 1, and the time until the server sees the reply.

    Raises:
        ValueError: with the reason for rejecting the reply, as part of a sentence; hostile replies raise other
            exceptions too.
    """
    if reply.error:
        raise ValueError(reply.error)
    if set(reply.arrays) != set(expected):
        raise ValueError(
            f"the reply has {len(reply.arrays)} arrays with other names than the {len(expected)} that were sent"
        )
    for name, sent in expected.items():
        _check(name, reply.arrays[name], sent)
    metrics = report.read(reply.facts, num_examples=num_examples)
    metrics |= {"bytes-up": float(reply.bytes_up), "bytes-down": float(reply.bytes_down)}
    if "seconds-on-client" in metrics:
        metrics["seconds-communication"] = max(0.0, reply.seconds - metrics["seconds-on-client"])
    return Update(reply.partition_id, reply.arrays, metrics, unknown=report.unknown(reply.facts))


def _check(name: str, array: np.ndarray, sent: np.ndarray) -> None:
    if array.shape != sent.shape or array.dtype != sent.dtype:
        raise ValueError(f"'{name}' is {array.dtype} {array.shape} instead of {sent.dtype} {sent.shape}")
    if array.size and array.dtype.kind in "fiub":
        low, high = _plausible(name, sent)
        numbers = array.view(np.uint8) if array.dtype.kind == "b" else array  # a bool may come as any byte
        least, most = numbers.min().item(), numbers.max().item()
        if not (math.isfinite(least) and math.isfinite(most)):
            raise ValueError(f"'{name}' has values that are not finite")
        if least < low or most > high:
            raise ValueError(f"'{name}' has values from {least:g} to {most:g}, outside of {low:g} to {high:g}")


def _plausible(name: str, sent: np.ndarray) -> tuple[float, float]:
    """Least and largest value of an array that training can have made of `sent`.

    Differences of floats stay finite. Integers are counters: one of BatchNorm never goes back, none runs over.
    """
    if sent.dtype.kind == "f":
        largest = float(np.finfo(sent.dtype).max) / 4
        return (0.0 if name.endswith("running_var") else -largest), largest
    if sent.dtype.kind == "b":
        return 0, 1
    back = 0 if name.endswith("num_batches_tracked") else MOST_STEPS
    return int(sent.min()) - back, int(sent.max()) + MOST_STEPS


def _number(what: str, value: Any, *, low: float, high: float = LARGEST) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{what} is {value!r}, not a number from {low:g} to {high:g}")
    return float(value)


def _whole(what: str, value: Any, *, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"its {what} is {value!r}, not a whole number from {low} to {high}")
    return value


def reason(error: Exception) -> str:
    """Line about an exception that a reply has caused; its class is named where the text alone may say nothing."""
    return one_line(error if isinstance(error, ValueError) and str(error) else f"{type(error).__name__}: {error}")


def one_line(text: object) -> str:
    """Printable characters of a text in one line of at most LONGEST_LINE characters."""
    start = str(text)[: 2 * LONGEST_LINE]
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in start).split())
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 4]} ..."


def first_line(text: object) -> str:
    """First non-empty line of an error, without the wrapping of Flower's engine."""
    start = "" if text is None else str(text)[: 20 * LONGEST_LINE]
    unwrapped = re.sub(r"^<class '(?:\w+\.)*(\w+)'>:<'(.*)'>$", r"\1: \2", start, flags=re.DOTALL)
    lines = [line for line in map(one_line, unwrapped.splitlines()) if line]
    return lines[0] if lines else "no reason given"
