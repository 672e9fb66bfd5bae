"""MocoSFL of two clients tells apart within some hundred steps what a random encoder does not; and runs on a GPU."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fedvssl.data.annotations import Annotation
from tests.learning.stripes import KINDS, accuracies, train, write

WORDS = (
    *("task=mocosfl", "model=split_resnet18", "strategy=mocosfl", "strategy.syncs_per_round=2"),
    *("task.module.queue_length=128", "task.module.momentum=0.95", "task.module.temperature=0.1"),
    *("optimizer=sgd", "training.lr=0.01", "seed=11"),
)
pytestmark = pytest.mark.usefixtures("one_thread")


def apart(folder: Path) -> list[list[Annotation]]:
    """Pictures of two clients: coarse stripes lie with one, fine ones with the other."""
    rng = np.random.default_rng(0)
    return [[one for one in write(folder, rng, f"client{own}", 192) if one.label // 3 == own] for own in range(2)]


def test_the_loss_falls_and_neighbours_are_of_the_same_class(tmp_path: Path) -> None:
    """Seed 11: last loss 5.84, accuracy .65, of random weights .22. With a rate of .06 the loss rises to chance."""
    rng = np.random.default_rng(1)
    lists = [write(tmp_path, rng, part, 240) for part in ("gallery", "queries")]
    config, rounds = train(tmp_path, apart(tmp_path), *WORDS, "rounds=20")
    random, learned = accuracies(tmp_path, config, lists, seed=1)
    assert rounds[-1]["loss"] < 0.95 * 2 * math.log(129), "the chance of both directions is 2 ln(129)"
    assert learned > random + 0.2 and learned > 2 / KINDS


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_server_and_clients_train_on_a_gpu(tmp_path: Path) -> None:
    """The loss of the first round is that of the CPU, whose steps have the same samples and weights."""
    losses = {}
    for device, gpus in (("cpu", 0), ("cuda", 1)):
        words = (f"strategy.device={device}", f"client_resources={{num_gpus: {gpus}, num_cpus: 1}}", "rounds=1")
        folder = tmp_path / device
        losses[device] = [record["loss"] for record in train(folder, apart(folder), *WORDS, *words)[1]]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=0.05)
