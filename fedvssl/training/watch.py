"""Warnings, once each, when the records of a run show that nothing is learned."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

LEAST_ACTIVE = 0.01  # share of a hidden layer's units that are positive; below, hardly a gradient passes
BEATEN = 0.95  # a predictor is beaten by a loss of less than this fraction of its own
TRIVIAL = "trivial_"


@dataclass
class Watch:
    """Looks at one record after the other.

    Args:
        unit: "round" or "epoch", for the sentences.
        warn_after: rounds or epochs after which the loss must have beaten each trivial predictor.
        warn: takes a sentence.
    """

    unit: str
    warn_after: int
    warn: Callable[[str], None]
    told: set[str] = field(default_factory=set)

    def __call__(self, record: Mapping[str, Any], *, position: int) -> None:
        """Check the record of a round or epoch, counted from 1: "loss", "trivial_<name>", "active_share"."""
        share = record.get("active_share", 1.0)
        if share < LEAST_ACTIVE:
            self._tell(
                "dead",
                f"{self.unit} {position}: the head is dead, {100 * share:.1f} % of its hidden units are active and "
                "hardly a gradient reaches the backbone: lower training.lr, or set task.module.head_init=kaiming.",
            )
        if position < self.warn_after:
            return
        for name, loss in record.items():
            if name.startswith(TRIVIAL) and record["loss"] > BEATEN * loss:
                self._tell(
                    name,
                    f"{self.unit} {position}: the loss {record['loss']:.3f} has not beaten that of "
                    f"'{name.removeprefix(TRIVIAL)}', {loss:.3f}, which does not look at the clips. It may need more "
                    "steps, larger pictures or another training.lr.",
                )

    def _tell(self, reason: str, sentence: str) -> None:
        if reason not in self.told:
            self.told.add(reason)
            self.warn(sentence)
