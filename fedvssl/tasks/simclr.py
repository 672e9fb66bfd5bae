"""SimCLR: Chen et al., ICML 2020, arXiv 2002.05709.

Two views of a picture or clip are each other's class among all views of the batch.
Read in the order of the data: a Sample of `tasks/views.py` draws two views, `SimCLR.augment` makes them,
`SimCLR.forward` compares them.
Shapes: B batch, T frames, H W pixels, E entries of an embedding.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from fedvssl.tasks.heads import FEWEST_SAMPLES, MakeHead, Views, check_temperature, embed, features_of, health_of
from fedvssl.tasks.task import Batch


def nt_xent(z1: Tensor, z2: Tensor, *, temperature: float) -> Batch:
    """NT-Xent, equation 1 of the paper, as the mean over the 2B views.

    Args:
        z1, z2: embeddings of the first and second views, float [B,E] of any length.
        temperature: cosines are divided by it.

    Returns:
        scalars "loss" and "top1_acc", the fraction of views whose nearest other view is that of the same sample.
    """
    with torch.autocast(z1.device.type, enabled=False):
        directions = normalize(torch.cat([z1, z2]), dim=1)
        logits = directions @ directions.T / temperature
    itself = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(itself, -math.inf)
    partner = torch.arange(len(logits), device=logits.device).roll(len(z1))
    hits = logits.argmax(dim=1) == partner
    return {"loss": cross_entropy(logits, partner), "top1_acc": hits.float().mean()}


class SimCLR(nn.Module):
    """The task around a backbone.

    Args:
        backbone: [B,3,(T,)H,W] -> [B,D,(t,)h,w], with `out_channels` D.
        views: makes the two views of a batch, see `fedvssl.tasks.views.Views`.
        projector: number of features -> head.
        temperature: above 0; cosines are divided by it.

    Raises:
        ValueError: if the backbone does not tell its features, or for another temperature.
    """

    least_batch = FEWEST_SAMPLES

    def __init__(self, backbone: nn.Module, *, views: Views, projector: MakeHead, temperature: float) -> None:
        super().__init__()
        check_temperature(temperature)
        self.views, self.temperature = views, temperature
        self.backbone = backbone
        self.projector = projector(features_of(backbone))

    def augment(self, batch: Batch) -> Batch:
        """Make "view1" and "view2", float32 [B,3,(T,)H,W]."""
        return self.views(batch)

    def forward(self, batch: Batch) -> Batch:
        """Scalars "loss" and "top1_acc" of `nt_xent`."""
        # Deviation: one pass for each view, as in Flower's FedSimCLR; in the paper BatchNorm sees both views at once.
        z1, z2 = (embed(self.backbone, self.projector, batch[name]) for name in ("view1", "view2"))
        self.embeddings = z1.detach()
        return nt_xent(z1, z2, temperature=self.temperature)

    def trivial(self, batch: Batch) -> Batch:
        """Loss of a guess among the other views: scalar "chance", ln(2B - 1)."""
        view = batch["view1"]
        return {"chance": torch.tensor(math.log(2 * len(view) - 1), device=view.device)}

    def health(self) -> Batch:
        """Scalars of the last step, see `health_of`."""
        return health_of(self.embeddings, self.projector)
