"""SimSiam: Chen and He, CVPR 2021, arXiv 2011.10566.

BYOL without a target network: a predictor tells the embedding of one view from that of the other, and only the first
gets a gradient.
Shapes: B batch, T frames, H W pixels, E entries of an embedding.
"""

import torch
from torch import Tensor, nn

from fedvssl.tasks.heads import FEWEST_SAMPLES, MakeHead, Views, embed, features_of, health_of, squared_distance
from fedvssl.tasks.task import Batch


def simsiam_loss(predictions: tuple[Tensor, Tensor], embeddings: tuple[Tensor, Tensor]) -> Tensor:
    """Mean of both directions, -(cos(p1, z2) + cos(p2, z1)) / 2: scalar from -1 to 1; equations 1 and 2.

    Args:
        predictions: of the first and the second view, float [B,E] of any length.
        embeddings: of the first and the second view, [B,E]; they get no gradient.
    """
    (p1, p2), (z1, z2) = predictions, embeddings
    distances = squared_distance(p1, z2.detach()) + squared_distance(p2, z1.detach())
    return distances.mean() / 4 - 1


class SimSiam(nn.Module):
    """The task around a backbone.

    Args:
        backbone: [B,3,(T,)H,W] -> [B,D,(t,)h,w], with `out_channels` D.
        views: makes the two views of a batch, see `fedvssl.tasks.views.Views`.
        projector: number of features -> head.
        predictor: number of entries of an embedding -> head of as many.

    Raises:
        ValueError: if the backbone does not tell its features.
    """

    least_loss, least_batch = -1.0, FEWEST_SAMPLES

    def __init__(self, backbone: nn.Module, *, views: Views, projector: MakeHead, predictor: MakeHead) -> None:
        super().__init__()
        self.views = views
        self.backbone = backbone
        self.projector = projector(features_of(backbone))
        self.predictor = predictor(self.projector.out_channels)

    def augment(self, batch: Batch) -> Batch:
        """Make "view1" and "view2", float32 [B,3,(T,)H,W]."""
        return self.views(batch)

    def forward(self, batch: Batch) -> Batch:
        """Scalar "loss"."""
        # One pass for each view: BatchNorm sees one view of each sample at a time.
        z1, z2 = (embed(self.backbone, self.projector, batch[name]) for name in ("view1", "view2"))
        self.embeddings = z1.detach()
        return {"loss": simsiam_loss((self.predictor(z1), self.predictor(z2)), (z1, z2))}

    def trivial(self, batch: Batch) -> Batch:
        """Loss of predictions that have nothing to do with the other view: scalar "orthogonal", 0."""
        return {"orthogonal": torch.tensor(0.0, device=batch["view1"].device)}

    def health(self) -> Batch:
        """Scalars of the last step, see `health_of`. A collapsed network has a loss of -1, and no "embedding_std"."""
        return health_of(self.embeddings, self.projector)
