"""MoCo v1 and v2: He et al., CVPR 2020, arXiv 1911.05722; Chen et al., arXiv 2003.04297.

A query must find the key of the other view among a queue of earlier keys, which come from an encoder that follows the
query encoder. Key encoder and queue stay with their client. v1 and v2 differ in projector, temperature and views only.
Shapes: B batch, T frames, H W pixels, E entries of an embedding, K keys of the queue.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from fedvssl.tasks.follower import Follower
from fedvssl.tasks.heads import FEWEST_SAMPLES, MakeHead, Views, check_temperature, embed, features_of, health_of
from fedvssl.tasks.task import Batch


def info_nce(queries: Tensor, keys: Tensor, queue: Tensor, *, temperature: float) -> Batch:
    """InfoNCE, equation 1 of the paper, as the mean over the queries.

    Args:
        queries: float [B,E] of any length.
        keys: positive key of each query, [B,E] of any length; no gradient.
        queue: negative keys, unit rows [K,E].
        temperature: cosines are divided by it.

    Returns:
        scalars "loss" and "top1_acc", the fraction of queries whose nearest key is the positive one.
    """
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys = normalize(queries, dim=1), normalize(keys.detach(), dim=1)
        positive = (queries * keys).sum(1, keepdim=True)
        logits = torch.cat([positive, queries @ queue.T], dim=1) / temperature
    labels = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    return {"loss": cross_entropy(logits, labels), "top1_acc": (logits.argmax(dim=1) == 0).float().mean()}


class Queue(nn.Module):
    """The last keys, in a ring.

    Args:
        length: K.
        channels: E.

    Attributes:
        keys: unit rows, float32 [K,E]; at first random ones.
        place: where the next key goes, int64 scalar.

    Raises:
        ValueError: if the length is no number of keys.
    """

    keys: Tensor
    place: Tensor

    def __init__(self, length: int, channels: int) -> None:
        super().__init__()
        if not (isinstance(length, int) and length >= 1):
            raise ValueError(f"task.module.queue_length={length} must be a whole number, at least 1.")
        self.register_buffer("keys", normalize(torch.randn(length, channels), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Replace the oldest keys; the ring may wrap around within a batch.

        Args:
            keys: float [n,E] of any length.

        Raises:
            ValueError: if they are more than the queue has.
        """
        self.check_length(len(keys))
        length = len(self.keys)
        places = (self.place + torch.arange(len(keys), device=keys.device)) % length
        self.keys[places] = normalize(keys, dim=1).to(self.keys.dtype)
        self.place.add_(len(keys)).remainder_(length)

    def check_length(self, num_keys: int) -> None:
        """Reject more keys at a time than the queue has.

        Raises:
            ValueError: telling both numbers.
        """
        if num_keys > len(self.keys):
            raise ValueError(
                f"task.module.queue_length={len(self.keys)} is shorter than the {num_keys} keys of a batch: "
                "raise it, or lower training.batch_size."
            )


class MoCo(nn.Module):
    """The task around a backbone.

    Deviation: the published code shuffles the keys' batch, so that BatchNorm's statistics of one of several GPUs tell
    nothing. Here a batch is on one device and its order changes no statistic, so there is nothing to shuffle.

    Deviation: `symmetric` and `reset_keys` are of federated MoCo; the papers have neither.

    Args:
        backbone: [B,3,(T,)H,W] -> [B,D,(t,)h,w], with `out_channels` D.
        views: makes the two views of a batch, see `fedvssl.tasks.views.Views`.
        projector: number of features -> head.
        temperature: above 0; cosines are divided by it.
        queue_length: K, at least as many as the keys of a batch.
        momentum: share of the key encoder's weights that is left in each step.
        symmetric: both views are queries and keys, and the loss is the sum; else the first is the query of the second.
        reset_keys: each round begins with the key encoder's parameters at those of the query encoder that arrived.

    Raises:
        ValueError: if the backbone does not tell its features, or a number is out of range.
    """

    least_batch = FEWEST_SAMPLES

    def __init__(
        self,
        backbone: nn.Module,
        *,
        views: Views,
        projector: MakeHead,
        temperature: float,
        queue_length: int,
        momentum: float,
        symmetric: bool,
        reset_keys: bool,
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        self.views, self.temperature = views, temperature
        self.symmetric, self.reset_keys = symmetric, reset_keys
        self.backbone = backbone
        self.projector = projector(features_of(backbone))
        self.key_encoder = Follower(backbone, self.projector, momentum=momentum)
        self.queue = Queue(queue_length, self.projector.out_channels)

    def check_batch(self, size: int) -> None:
        """Reject a batch of more keys than the queue has, two of each sample if symmetric."""
        self.queue.check_length((1 + self.symmetric) * size)

    def start_round(self) -> None:
        """Set the key encoder to the query encoder at the first contact, and in each round if `reset_keys`."""
        self.key_encoder.start_round(self.backbone, self.projector, reset=self.reset_keys)

    def augment(self, batch: Batch) -> Batch:
        """Make "view1" and "view2", float32 [B,3,(T,)H,W]."""
        return self.views(batch)

    def forward(self, batch: Batch) -> Batch:
        """Scalars "loss", the sum of the directions, and "top1_acc", their mean."""
        names = ("view1", "view2") if self.symmetric else ("view1",)
        queries = [embed(self.backbone, self.projector, batch[name]) for name in names]
        keys = [self.key_encoder(batch[name]) for name in (*names[:-1], "view2")]
        self.embeddings, self._new_keys = queries[0].detach(), torch.cat(keys)
        # Each query with the key of the other view, and with the queue as it was before this step.
        pairs = zip(queries, reversed(keys), strict=True)
        found = [info_nce(query, key, self.queue.keys, temperature=self.temperature) for query, key in pairs]
        return {
            "loss": torch.stack([scalars["loss"] for scalars in found]).sum(),
            "top1_acc": torch.stack([scalars["top1_acc"] for scalars in found]).mean(),
        }

    def after_step(self) -> None:
        """Push the step's keys, those of the first view before those of the second; let the key encoder follow."""
        self.queue.push(self._new_keys)
        self.key_encoder.follow(self.backbone, self.projector)

    def trivial(self, batch: Batch) -> Batch:
        """Loss of a guess among the keys: scalar "chance", ln(K + 1) for each direction."""
        chance = (1 + self.symmetric) * math.log(len(self.queue.keys) + 1)
        return {"chance": torch.tensor(chance, device=batch["view1"].device)}

    def health(self) -> Batch:
        """Scalars of the last step, see `health_of`."""
        return health_of(self.embeddings, self.projector)
