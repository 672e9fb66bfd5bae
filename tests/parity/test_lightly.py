"""The losses of two views against those of lightly, a library of self-supervised learning written by others."""

import pytest
import torch
from torch import Tensor

from fedvssl.tasks.byol import byol_loss
from fedvssl.tasks.moco import Queue, info_nce
from fedvssl.tasks.simclr import nt_xent
from fedvssl.tasks.simsiam import simsiam_loss

losses = pytest.importorskip("lightly.loss")
ROWS, CHANNELS = 6, 5


def embeddings(*seeds: int) -> list[Tensor]:
    drawn = (torch.randn(ROWS, CHANNELS, generator=torch.Generator().manual_seed(seed)) for seed in seeds)
    return [3 * rows.requires_grad_() for rows in drawn]


def check(ours: Tensor, theirs: Tensor, *inputs: Tensor) -> None:
    """Equal losses, and equal gradients of the inputs."""
    torch.testing.assert_close(ours, theirs)
    pairs = zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(theirs, inputs), strict=True)
    for own, other in pairs:
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_nt_xent(temperature: float) -> None:
    z1, z2 = embeddings(1, 2)
    check(nt_xent(z1, z2, temperature=temperature)["loss"], losses.NTXentLoss(temperature)(z1, z2), z1, z2)


def test_losses_of_predictors() -> None:
    p1, p2, z1, z2 = embeddings(1, 2, 3, 4)
    negative_cosine = losses.NegativeCosineSimilarity()

    def both() -> Tensor:
        return negative_cosine(p1, z2.detach()) + negative_cosine(p2, z1.detach())

    check(simsiam_loss((p1, p2), (z1, z2)), both() / 2, p1, p2)
    check(byol_loss((p1, p2), (z1, z2)), 4 + 2 * both(), p1, p2)


def test_the_loss_with_a_queue_over_five_steps() -> None:
    """Three batches fill the queue: lightly starts anew at its end, as ours does where a batch ends there."""
    theirs, queue = losses.NTXentLoss(0.1, memory_bank_size=(3 * ROWS, CHANNELS)), Queue(3 * ROWS, CHANNELS)
    queue.keys.copy_(theirs.memory_bank.bank)
    for step in range(5):
        query, key = embeddings(2 * step, 2 * step + 1)
        key = key.detach()
        ours = info_nce(query, key, queue.keys.clone(), temperature=0.1)["loss"]
        check(ours, theirs(query, key), query)
        queue.push(key)
        torch.testing.assert_close(queue.keys, theirs.memory_bank.bank)
        assert queue.place == theirs.memory_bank.bank_ptr
