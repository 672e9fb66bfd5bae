"""Federated averaging (McMahan et al., arXiv 1602.05629), which every strategy here builds on."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedvssl.files.arrays import Arrays
from fedvssl.files.round_records import RoundReport
from fedvssl.strategy.average import mix
from fedvssl.strategy.intake import Intake
from fedvssl.strategy.patterns import check_patterns, fits
from fedvssl.strategy.rounds import Rounds
from fedvssl.wire.wire import Order, Wire


class FedAvg:
    """Average the shared arrays by number of videos.

    A subclass chooses the kinds of average (`averages`), a client's weight in each (`log_weights`), the use of the
    means (`aggregate`), and what it keeps from round to round (`state`, `restore`).

    Args:
        share: patterns of the names of arrays that travel, such as "backbone.*"; one that begins with "!" excludes.
            The last pattern that fits a name decides.
        rounds: the arguments of `Rounds`.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(self, *, share: Sequence[str], **rounds: Any) -> None:
        self.share = check_patterns(share, where="strategy.share")
        self.rounds = Rounds(**rounds)

    def is_shared(self, name: str) -> bool:
        """True if the state entry `name` travels."""
        return fits(name, self.share)

    def withhold(self, private: Sequence[str]) -> None:
        """Leave arrays with their client that match these patterns, whatever `share` has.

        Raises:
            ValueError: if they are no list of words.
        """
        self.share += [f"!{pattern}" for pattern in check_patterns(private, where="task.private")]

    def averages(self) -> dict[str, float]:
        """Share of each kind of average over the replies; the shares sum to 1, and a kind with share 0 is not made."""
        return {"video": 1.0}

    def log_weights(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Logarithm of a client's weight in each kind of average; only differences between clients count.

        Args:
            metrics: report of the client, with "loss" and "num-examples".
        """
        return {"video": math.log(metrics["num-examples"])}

    def aggregate(self, server_round: int, means: Mapping[str, Arrays], previous: Arrays) -> Arrays:
        """Compute the new shared arrays.

        Args:
            means: averages of the replies by kind, which may be overwritten.
            previous: the shared arrays that the clients started from, read-only.
        """
        return mix(means, self.averages())

    def begin(self, settings: str) -> None:
        """Take what clients will be told, before the first `restore`: for a strategy whose server trains too.

        Args:
            settings: "model", "task", "training", "rule" and "seed" of the configuration, as JSON text.

        Raises:
            ValueError: if the strategy cannot serve them.
        """

    def check_network(self, examples: Mapping[int, int], *, rounds: int) -> None:
        """Refuse clients behind a network, before the first round: for a strategy of more than a message a round.

        Args:
            examples: numbers of samples of the clients that can be reached, by partition id.
            rounds: that are to be trained.

        Raises:
            ValueError: if the messages would take too long, or must not leave a process.
        """

    def state(self) -> Arrays:
        """What the strategy keeps for later rounds, saved beside each round file."""
        return {}

    def restore(self, state: Arrays, shared: Arrays) -> None:
        """Take what `state` gave after the last saved round; {} at the start of a run, which decides names and shapes.

        Args:
            shared: the shared arrays at that time, read-only.
        """

    def intake(self, partition_ids: Iterable[int]) -> Intake:
        """An intake for the replies of these clients."""
        return Intake(partition_ids, averages=self.averages(), log_weights=self.log_weights)

    def round(self, wire: Wire, server_round: int, shared: Arrays, order: Order) -> tuple[Arrays, RoundReport]:
        """One round: all that lies between two checkpoints.

        Args:
            shared: the shared arrays, read-only.
            order: settings of the round for every client.

        Raises:
            FederationError: if too few clients can be reached or send valid replies.
        """
        return self.rounds.train(wire, server_round, shared, order, method=self)
