"""What travels between server and clients, whatever carries it."""

from dataclasses import dataclass

from fedvssl.files.arrays import Arrays


class FederationError(RuntimeError):
    """The run cannot go on; the message is a sentence for the user."""


@dataclass(frozen=True)
class Update:
    """A valid reply: what one client learned (read-only) and reports; `metrics` has "loss" and "num-examples"."""

    partition_id: int
    arrays: Arrays
    metrics: dict[str, float]
