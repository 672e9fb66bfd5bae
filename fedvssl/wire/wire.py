"""How a server asks clients, whatever carries the messages: named arrays and an order go out, arrays and facts return.

A Wire speaks for all clients of a run. wire/grid.py sends Flower's messages, wire/local.py calls the clients of this
process. Replies come from strangers: wire/replies.py checks them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fedvssl.files.arrays import Arrays

TRAIN = "train"  # action of a client
STEP = "train.step"  # one of many messages of a round, which the strategy's rule answers
Order = Mapping[str, str | int | float]  # settings of an action that the server sends with the arrays
Facts = Mapping[str, Any]  # numbers that a client reports, as they came


class FederationError(RuntimeError):
    """The run cannot go on; the message is a sentence for the user."""


@dataclass(frozen=True)
class Reply:
    """What has come back from one client, or the reason why nothing has. Nobody has checked it.

    Args:
        partition_id: the client that was asked.
        arrays: read-only.
        facts: its report.
        error: reason in one line; "" if there are arrays and facts.
        bytes_up, bytes_down: size of the arrays that it sent and received, as .npy.
        seconds: since the clients were asked.
    """

    partition_id: int
    arrays: Arrays = field(default_factory=dict)
    facts: Facts = field(default_factory=dict)
    error: str = ""
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: float = 0.0


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


class Wire(Protocol):
    """Clients of a run that can be asked."""

    @property
    def left_out(self) -> Mapping[int, str]:
        """Reasons in one line, by node id, of the nodes that cannot take part in this round."""
        ...

    def clients(self) -> dict[int, int]:
        """Wait for the clients; return the number of samples of each one that can be asked, by partition id."""
        ...

    def ready(self, arrays: Arrays) -> Arrays:
        """The same arrays, read-only, in the form in which they travel: asking with them makes no further copy."""
        ...

    def ask(self, action: str, orders: Mapping[int, tuple[Arrays, Order]]) -> Iterator[Reply]:
        """Ask clients by partition id; iterate over one reply of each as they come in, silence included.

        The caller keeps no reference to a reply that it is done with, and neither does the iterator.
        """
        ...
