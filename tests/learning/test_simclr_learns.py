"""FedSimCLR of two clients tells apart within some hundred steps what a random encoder does not."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests.learning.stripes import accuracies, train, write

WORDS = (
    *("task=simclr", "model=resnet18", "strategy=fedavg", "training.lr=0.1", "task.module.temperature=0.2"),
    *("rounds=12", "training.local_epochs=4", "seed=11"),
)


@pytest.mark.usefixtures("one_thread")
def test_the_loss_falls_and_neighbours_are_of_the_same_class(tmp_path: Path) -> None:
    """Seeds 3, 5, 7, 11: last loss 3.30, 3.80, 2.85, 2.67; accuracy .88, .87, 1, 1, of random weights .42."""
    rng = np.random.default_rng(0)
    lists = [write(tmp_path, rng, part, 240) for part in ("gallery", "queries")]
    config, rounds = train(tmp_path, [write(tmp_path, rng, f"client{client}", 96) for client in range(2)], *WORDS)
    losses, chance = [record["loss"] for record in rounds], rounds[0]["trivial_chance"]
    assert chance == pytest.approx(math.log(2 * 32 - 1), abs=1e-5) and abs(losses[0] - chance) < 0.15
    assert losses[-1] < chance - 0.15 and rounds[-1]["embedding_std"] > 0.3
    random, learned = accuracies(tmp_path, config, lists, seed=7)
    assert learned > random + 0.25
