"""Client half of a strategy: what a client makes of arriving arrays, and what it keeps for its next round.

A strategy's YAML names its rule as `strategy.rule`. The client calls `receive`, trains, calls `keep`, and saves what it
gives in a file of the round, which nobody else reads. numpy only: a rule knows names, not models.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from fedvssl.files.arrays import Arrays

FACT = "rule/"  # begins the names of 0-d arrays that a rule keeps beside those of the state


@dataclass(frozen=True)
class When:
    """Time of a contact.

    Args:
        server_round: from 1.
        last_round: the last round in which the client's reply counted, 0 at its first contact.
    """

    server_round: int
    last_round: int


class Rule(Protocol):
    """Client half of a strategy.

    It keeps nothing in `self`: one object serves many clients, and a client may meet another one in its next round.

    Optional: `send(state, shared) -> arrays`, see `sent`.

    Optional: `warning(reports) -> str`, called on the server with what each client of a round has reported of
    `reports`, where a broken client may leave a name out: why the method does not do its work and what to set, or "".
    The log has the sentence once, when two rounds in a row bring one.

    Attributes:
        reports: names of facts that it keeps as "rule/<name>", which the client reports with each reply.
    """

    reports: Sequence[str]

    def check(self, state: Arrays, shared: Collection[str]) -> None:
        """Reject settings that do not fit a task, before a run starts.

        Args:
            state: initial arrays of the task.
            shared: names of those that travel.

        Raises:
            ValueError: naming the setting.
        """
        ...

    def receive(self, arrived: Arrays, kept: Arrays, initial: Arrays, when: When) -> Arrays:
        """State to train from: every array that arrives, and every one that does not.

        Args:
            arrived: the shared arrays, read-only.
            kept: what `keep` gave in round `when.last_round`; {} at the first contact.
            initial: fresh arrays for all that does not travel, read-only.
        """
        ...

    def keep(self, kept: Arrays, start: Arrays, state: Arrays, shared: Collection[str]) -> Arrays:
        """Arrays to keep after training. Before a run it is called once with a `state` that has not moved.

        Args:
            kept: as for `receive`.
            start: what `receive` gave.
            state: the same arrays after training.
            shared: names of those that travel.
        """
        ...


class Replace:
    """What arrives replaces, all else is the client's own: FedAvg, FedVSSL, FedBN."""

    reports: Sequence[str] = ()

    def check(self, state: Arrays, shared: Collection[str]) -> None:
        """Any task will do."""

    def receive(self, arrived: Arrays, kept: Arrays, initial: Arrays, when: When) -> Arrays:
        own = kept if when.last_round else initial
        return {name: own[name] for name in initial} | arrived

    def keep(self, kept: Arrays, start: Arrays, state: Arrays, shared: Collection[str]) -> Arrays:
        return {name: array for name, array in state.items() if name not in shared}


def sent(rule: Rule, state: Arrays, shared: Collection[str]) -> Arrays:
    """Arrays of a client's reply, under the names that arrived: what the rule's `send` makes of them, or its own.

    Args:
        state: after training.
        shared: names of the arrays that travel.
    """
    own = {name: state[name] for name in shared}
    return rule.send(state, shared) if hasattr(rule, "send") else own  # pyright: ignore[reportAttributeAccessIssue]


def facts_of(kept: Arrays, reports: Sequence[str]) -> dict[str, float]:
    """Facts that a client reports of what its rule keeps."""
    return {name: float(kept[FACT + name]) for name in reports if FACT + name in kept}
