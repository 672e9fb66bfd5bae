"""MocoSFL of two clients tells apart within some hundred steps what a random encoder does not; and runs on a GPU."""

import math
from pathlib import Path

import pytest
import torch

from tests.learning.stripes import KINDS, accuracies, train

WORDS = (
    *("task=mocosfl", "model=split_resnet18", "strategy=mocosfl", "strategy.syncs_per_round=2"),
    *("task.module.queue_length=128", "task.module.momentum=0.95", "task.module.temperature=0.1"),
    *("optimizer=sgd", "training.lr=0.01", "seed=11"),
)
APART = [range(3), range(3, 6)]  # the coarse stripes lie with one client, the fine ones with the other
pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_loss_falls_and_neighbours_are_of_the_same_class(tmp_path: Path) -> None:
    """Seed 11: last loss 5.84, accuracy .65, of random weights .22. With a rate of .06 the loss rises to chance."""
    config, rounds = train(tmp_path, *WORDS, "rounds=20", kinds=APART)
    random, learned = accuracies(tmp_path, config, seed=1)
    assert rounds[-1]["loss"] < 0.95 * 2 * math.log(129), "the chance of both directions is 2 ln(129)"
    assert learned > random + 0.2 and learned > 2 / KINDS


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_server_and_clients_train_on_a_gpu(tmp_path: Path) -> None:
    """The loss of the first round is that of the CPU, whose steps have the same samples and weights."""
    losses = {}
    for device, gpus in (("cpu", 0), ("cuda", 1)):
        words = (f"strategy.device={device}", f"client_resources={{num_gpus: {gpus}, num_cpus: 1}}", "rounds=1")
        losses[device] = [record["loss"] for record in train(tmp_path / device, *WORDS, *words, kinds=APART)[1]]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=0.05)
