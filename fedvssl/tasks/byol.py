"""BYOL: Grill et al., NeurIPS 2020, arXiv 2006.07733.

A predictor tells the target network's embedding of one view from the online network's embedding of the other. The
target network follows the online one and stays with its client.
Shapes: B batch, T frames, H W pixels, E entries of an embedding.
"""

import torch
from torch import Tensor, nn

from fedvssl.tasks.follower import Follower
from fedvssl.tasks.heads import FEWEST_SAMPLES, MakeHead, Views, embed, features_of, health_of, squared_distance
from fedvssl.tasks.task import Batch


def byol_loss(predictions: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor]) -> Tensor:
    """Sum of both directions, mean[4 - 2 cos(p1, z2') - 2 cos(p2, z1')]: scalar from 0 to 8; equations 2 and 3.

    Args:
        predictions: of the first and the second view, float [B,E] of any length.
        targets: embeddings of the first and the second view by the target network, [B,E]; they get no gradient.
    """
    (p1, p2), (z1, z2) = predictions, targets
    return (squared_distance(p1, z2.detach()) + squared_distance(p2, z1.detach())).mean()


class BYOL(nn.Module):
    """The task around a backbone.

    Args:
        backbone: [B,3,(T,)H,W] -> [B,D,(t,)h,w], with `out_channels` D.
        views: makes the two views of a batch, see `fedvssl.tasks.views.Views`.
        projector: number of features -> head.
        predictor: number of entries of an embedding -> head of as many.
        momentum: share of the target network's weights that is left in each step.

    Raises:
        ValueError: if the backbone does not tell its features, or for another momentum.
    """

    least_batch = FEWEST_SAMPLES

    def __init__(
        self, backbone: nn.Module, *, views: Views, projector: MakeHead, predictor: MakeHead, momentum: float
    ) -> None:
        super().__init__()
        self.views = views
        self.backbone = backbone
        self.projector = projector(features_of(backbone))
        self.predictor = predictor(self.projector.out_channels)
        self.target = Follower(backbone, self.projector, momentum=momentum)

    def start_round(self) -> None:
        """At the first contact the target network is a copy of what arrived; afterwards it is the client's own."""
        self.target.start_round(self.backbone, self.projector, reset=False)

    def augment(self, batch: Batch) -> Batch:
        """Make "view1" and "view2", float32 [B,3,(T,)H,W]."""
        return self.views(batch)

    def forward(self, batch: Batch) -> Batch:
        """Scalar "loss"."""
        # One pass for each view, and for BatchNorm in this order.
        views = (batch["view1"], batch["view2"])
        z1, z2 = (embed(self.backbone, self.projector, view) for view in views)
        self.embeddings = z1.detach()
        loss = byol_loss((self.predictor(z1), self.predictor(z2)), (self.target(views[0]), self.target(views[1])))
        return {"loss": loss}

    def after_step(self) -> None:
        """Let the target network follow."""
        # Deviation: the momentum stays, as in FedU and FedEMA; in the paper it rises to 1 by the end.
        self.target.follow(self.backbone, self.projector)

    def trivial(self, batch: Batch) -> Batch:
        """Loss of predictions that have nothing to do with the target: scalar "orthogonal", 4."""
        return {"orthogonal": torch.tensor(4.0, device=batch["view1"].device)}

    def health(self) -> Batch:
        """Scalars of the last step, see `health_of`. A collapsed network has a loss of 0, and no "embedding_std"."""
        return health_of(self.embeddings, self.projector)
