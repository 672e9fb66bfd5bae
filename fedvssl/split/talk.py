"""The server's side of one client's messages in a round: what it is owed, what has counted, what has travelled."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from fedvssl.files.arrays import Arrays
from fedvssl.split.messages import Message
from fedvssl.wire.wire import Reply


@dataclass
class Talk:
    """Messages with one client in a round.

    Args:
        partition_id: the client.
        num_examples: samples in its list.
        weights: that its next message brings.
    """

    partition_id: int
    num_examples: int
    weights: Arrays
    gradient: Arrays = field(default_factory=dict)  # that its next message brings
    number: int = -1  # of the last message
    after: int = -1  # the last message whose answer counted
    steps: int = 0  # that it took part in
    missed: int = 0
    finished: bool = False
    divergence: float = 0.0
    failure: str = ""
    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def ask(self, *, step: int, num_steps: int, size: int, keep: bool) -> tuple[Arrays, dict[str, Any]]:
        """The client's next message: its arrays, and its settings."""
        self.number += 1
        limits = {"step": step, "num_steps": num_steps, "size": size, "keep": int(keep)}
        message = Message(number=self.number, after=self.after, **limits)
        return {**self.weights, **self.gradient}, message.to_order()

    def count(self, reply: Reply) -> None:
        """Take an answer as one that counts: what it was sent is not owed any more."""
        self.after, self.weights, self.gradient = self.number, {}, {}
        self.sums["num-clips"] += float(reply.facts.get("num-clips", 0))
        self.tally(reply)

    def tally(self, reply: Reply) -> None:
        """Add what has travelled, whether the answer counts or not."""
        self.sums["bytes-up"] += reply.bytes_up
        self.sums["bytes-down"] += reply.bytes_down

    def metrics(self, scalars: dict[str, float]) -> dict[str, float]:
        """Facts of the round for its record."""
        told = {"num-examples": float(self.num_examples), "missed-steps": float(self.missed)}
        return {**scalars, **told, "divergence": self.divergence, **self.sums}


def check_latents(arrays: Arrays, *, rows: int, shape: tuple[int, ...]) -> None:
    """Reject latents of another number of rows, or of another shape than the cut makes of a view.

    Raises:
        ValueError: naming the array, and both shapes.
    """
    for name, array in arrays.items():
        if array.shape != (rows, *shape):
            raise ValueError(f"'{name}' is {array.shape} instead of {rows} rows of {shape}, as this cut makes them")
