"""Types shared by server and clients, independent of the transport."""

from dataclasses import dataclass

from fedvssl.files.arrays import Arrays


class FederationError(RuntimeError):
    """The run cannot go on; the message is a sentence for the user."""


@dataclass(frozen=True)
class Update:
    """A valid reply of one client: its trained arrays, read-only, and its metrics with "loss" and "num-examples"."""

    partition_id: int
    arrays: Arrays
    metrics: dict[str, float]
