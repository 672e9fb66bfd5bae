"""Types shared by server and clients, independent of the transport."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedvssl.files.arrays import Arrays


class FederationError(RuntimeError):
    """The run cannot go on; the message is a sentence for the user."""


@dataclass(frozen=True)
class Update:
    """A valid reply of one client.

    Args:
        partition_id: the client.
        arrays: what it has trained, read-only.
        metrics: those that the server knows, with "loss" and "num-examples".
        unknown: names of further metrics, which are left out.
    """

    partition_id: int
    arrays: Arrays
    metrics: dict[str, float]
    unknown: Sequence[str] = ()
