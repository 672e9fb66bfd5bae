"""Recognizer of clips or pictures: backbone, global average pool, dropout, one linear layer.

The state has the names of the published fine-tuned checkpoints (`backbone.*`, `cls_head.fc_cls.*`).
Shapes: B batch, T frames, H W pixels, K classes. Pictures have no T.
"""

import torch
from torch import Tensor, nn


class Recognizer(nn.Module):
    """[B,3,(T,)H,W] -> logits [B,K].

    Args:
        backbone: maps clips or pictures to [B,D,(t,)h,w] and has the attribute `out_channels` = D.
        num_classes: K.
        dropout: probability with which a pooled feature is dropped in training.
    """

    def __init__(self, backbone: nn.Module, *, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        assert isinstance(backbone.out_channels, int)
        self.num_classes = num_classes
        self.backbone = backbone
        self.cls_head = ClassificationHead(backbone.out_channels, num_classes, dropout=dropout)

    def forward(self, clips: Tensor) -> Tensor:
        features = self.features(clips)
        if self.training or clips.ndim == 5:
            return self.cls_head(features)
        # A picture has one view: in bfloat16 its logits are often equal, and an equal one is no answer.
        with torch.autocast(clips.device.type, enabled=False):
            return self.cls_head(features.float())

    def features(self, clips: Tensor) -> Tensor:
        """[B,3,(T,)H,W] -> global average of the last stage, [B,D]."""
        maps = self.backbone(clips)
        return maps.mean(dim=tuple(range(2, maps.ndim)))


class ClassificationHead(nn.Module):
    """Dropout and a linear layer with small initial weights: [B,D] -> [B,K]."""

    def __init__(self, in_channels: int, num_classes: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc_cls = nn.Linear(in_channels, num_classes)
        nn.init.normal_(self.fc_cls.weight, std=0.001)
        nn.init.zeros_(self.fc_cls.bias)

    def forward(self, features: Tensor) -> Tensor:
        return self.fc_cls(self.dropout(features))
