"""Settings of a run that split learning cannot honour, refused before it starts."""

from collections.abc import Mapping
from typing import Any

from fedvssl.split.stepping import DTYPES

# Settings of a client's own epochs, which have no meaning where the server makes the steps -> the value that is left.
NONE_OF_OURS = {"local_epochs": 1, "warmup_steps": 0, "drop_last": False, "keep_optimizer": False, "compile": False}


def check_settings(training: Mapping[str, Any], *, pool: int, least: int) -> None:
    """Check the section "training", and the number of clients.

    Args:
        pool: clients that train in a round.
        least: fewest of them.

    Raises:
        ValueError: naming the first setting that is not for split learning.
    """
    if pool < least:
        raise ValueError(
            f"Split learning with {pool} client in a round has no other client's pictures to compare "
            "with: raise pool_size, strategy.fraction_fit or strategy.min_fit_clients, or train MoCo with task=moco_v2."
        )
    if training["precision"] not in DTYPES:
        raise ValueError(
            f"training.precision={training['precision']}: both parts of a split network compute in float32, set "
            "training.precision=32-true."
        )
    for name, value in NONE_OF_OURS.items():
        if training[name] != value:
            raise ValueError(
                f"training.{name}={training[name]}: the server makes the steps of split learning one by one, so set "
                f"training.{name}={value}."
            )
    if training["batch_size"] < pool:
        raise ValueError(
            f"training.batch_size={training['batch_size']} has no picture for each of the {pool} clients of a round: "
            "it is shared out among them, so raise it."
        )
