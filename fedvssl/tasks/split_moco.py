"""MoCo on latents, for split learning: the server's part of MocoSFL (Li et al., ICLR 2023).

What it compares may be the views themselves or what the first stages of the network have made of them.
Shapes: B rows of all clients, T frames, H W pixels, C c h w of a latent, K keys of a queue.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fedvssl.tasks.heads import embed
from fedvssl.tasks.moco import MoCo, Queue, info_nce
from fedvssl.tasks.task import Batch

Rows = Sequence[tuple[int, slice]]  # number of a queue, and the rows of the batch that belong to it


class SplitMoCo(MoCo):
    """MoCo whose second view never passes through the client's trained part.

    Both directions use the same two latents: the query's, which gets a gradient, and the key's, which gets none. So
    the second direction trains the server's part alone.

    Args:
        private_queues: number of queues, each with the keys of one client; 0 for one queue of all clients.
        moco: arguments of `MoCo`.
    """

    least_batch = 1  # of one client; the server compares the rows of all

    def __init__(self, backbone: nn.Module, *, private_queues: int = 0, **moco: Any) -> None:
        super().__init__(backbone, **moco)
        length, channels = self.queue.keys.shape
        queues = [Queue(length, channels) for _ in range(private_queues)]
        self.queues = nn.ModuleList(queues)

    def check_batch(self, size: int) -> None:
        """A client's batch decides nothing; the server checks that of all clients with `check_rows`."""

    def check_rows(self, size: int) -> None:
        """Reject more rows of one queue than it has keys for, two of each row if symmetric."""
        super().check_batch(size)

    def forward(self, batch: Batch) -> Batch:
        """As `on_latents`, of views that nobody has cut."""
        return self.on_latents(batch["view1"], batch["view2"])

    def start_step(self) -> None:
        """Let the key encoder follow, before the step's keys are made."""
        self.key_encoder.follow(self.backbone, self.projector)

    def on_latents(self, query: Tensor, key: Tensor, rows: Rows | None = None) -> Batch:
        """Loss of the latents of both views.

        Args:
            query: float [B,C,(t,)h,w], of the first view by the network that trains; it gets the first direction's
                gradient.
            key: of the second view by the network that follows it.
            rows: for private queues, the queue of each client and the client's rows.

        Returns:
            scalars "loss", the sum of the directions, and "top1_acc", their mean.
        """
        first, second = query, key
        sides = ((first, second), (second, first.detach()))[: 1 + self.symmetric]
        queries = [embed(self.backbone, self.projector, side) for side, _ in sides]
        keys = [self.key_encoder(side) for _, side in reversed(sides)]
        self.embeddings = queries[0].detach()
        whole = [(0, slice(0, len(query)))]
        queues: list[Any] = [*self.queues] or [self.queue]
        owners = [(queues[number], own) for number, own in (rows or whole if self.queues else whole)]
        self._pushes = [(queue, torch.cat([one[own] for one in keys])) for queue, own in owners]
        scalars = {"loss": query.new_zeros(()), "top1_acc": query.new_zeros(())}
        for one, positive in zip(queries, reversed(keys), strict=True):
            for queue, own in owners:
                found = info_nce(one[own], positive[own], queue.keys, temperature=self.temperature)
                share = len(one[own]) / len(one)
                scalars["loss"] = scalars["loss"] + share * found["loss"]
                scalars["top1_acc"] = scalars["top1_acc"] + share * found["top1_acc"] / len(queries)
        return scalars

    def after_step(self) -> None:
        """Push the step's keys, each into its queue: those of the first view before those of the second."""
        for queue, keys in self._pushes:
            queue.push(keys)
