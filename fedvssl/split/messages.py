"""Messages of a round of split learning: names of their arrays, and the settings of an order."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

QUERY, KEY, VIEWS, GRADIENT = "latents/query", "latents/key", "views", "gradient"
FOLLOWER = "key_encoder.backbone."  # begins the names of the network that follows a client's
OPEN_STEP = "open_step"


@dataclass(frozen=True, kw_only=True)
class Message:
    """What an order of a step asks for, beside the settings of every order.

    Args:
        number: of the message in its round, from 0.
        after: the last message whose answer counted; -1: the client begins its round.
        step: the first step whose latents are wanted.
        num_steps: number of steps, 0: the weights are wanted.
        size: samples of the client in a step.
        keep: the round ends with this message.
    """

    number: int
    after: int
    step: int
    num_steps: int
    size: int
    keep: int

    @classmethod
    def read(cls, order: Mapping[str, Any]) -> "Message":
        """Message of an order that came; an entry that is missing or of another type raises."""
        return cls(**{name: int(order[f"split-{name}"]) for name in cls.__dataclass_fields__})

    def to_order(self) -> dict[str, int]:
        return {f"split-{name}": value for name, value in asdict(self).items()}
