"""Warnings, once each, when the records of a run show that nothing is learned."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedvssl.files.names import client_number

LEAST_ACTIVE = 0.01  # share of a hidden layer's units that are positive; below, hardly a gradient passes
BEATEN = 0.95  # a predictor is beaten by a loss of less than this fraction of its own
TRIVIAL = "trivial_"


def beside_trivial(record: Mapping[str, Any]) -> str:
    """Words for a line of progress: "loss 1.063 (still 1.667)  iou 0.624 (still 0.500)".

    A metric stands beside that of each trivial predictor if the record has both, as "iou" and "iou_still".
    """
    trivial = [name.removeprefix(TRIVIAL) for name in record if name.startswith(TRIVIAL)]
    words = []
    for name, value in record.items():
        others = {other: record.get(TRIVIAL + other if name == "loss" else f"{name}_{other}") for other in trivial}
        if name == "loss" or (others and None not in others.values()):
            beside = ", ".join(f"{other} {number:.3f}" for other, number in others.items())
            words.append(f"{name} {value:.3f}" + (f" ({beside})" if beside else ""))
    return "  ".join(words)


def unbeaten(record: Mapping[str, Any]) -> list[str]:
    """Names of the trivial predictors whose loss the record's has not beaten by five percent."""
    losses = {name.removeprefix(TRIVIAL): loss for name, loss in record.items() if name.startswith(TRIVIAL)}
    return [name for name, loss in losses.items() if not record["loss"] <= BEATEN * loss]


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
    before: str = ""  # what the last call of `doubt` brought

    def __call__(self, record: Mapping[str, Any], *, position: int) -> None:
        """Check the record of a round or epoch, counted from 1, or of a client in a round, which has "partition_id"."""
        share = record.get("active_share", 1.0)
        whose = (
            f"the head of client {client_number(record['partition_id'])}" if "partition_id" in record else "the head"
        )
        if share < LEAST_ACTIVE:
            self._tell(
                "dead",
                f"{self.unit} {position}: {whose} is dead, {100 * share:.1f} % of its hidden units are active and "
                "hardly a gradient reaches the backbone: lower training.lr, or set task.module.head_init=kaiming.",
            )
        if position < self.warn_after or "partition_id" in record:
            return
        for name in unbeaten(record):
            self._tell(
                name,
                f"{self.unit} {position}: the loss {record['loss']:.3f} is not 5 % below "
                f"{record[TRIVIAL + name]:.3f}, that of '{name}', which looks at no sample. It may need more steps, "
                "larger pictures or another training.lr.",
            )

    def doubt(self, sentence: str, *, position: int) -> None:
        """Warn of what two calls in a row bring a sentence on, one call a round; "" is no reason to warn."""
        if sentence and self.before:
            self._tell("doubt", f"{self.unit} {position}: {sentence}")
        self.before = sentence

    def _tell(self, reason: str, sentence: str) -> None:
        if reason not in self.told:
            self.told.add(reason)
            self.warn(sentence)
