"""Linear classifier on frozen features, as the FedVSSL authors use it: L2 norm, BatchNorm1d, one linear layer, SGD.

Each epoch draws one clip of every training video. A test video gets the mean of its clips' logits.
Shapes: V videos, N clips per video, D features, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from fedvssl.evaluation.curves import draw_epochs
from fedvssl.evaluation.features import Features
from fedvssl.evaluation.prediction import right_videos
from fedvssl.evaluation.protocol import Frame, Result
from fedvssl.training.loop import seed_torch
from fedvssl.training.metrics import accuracies
from fedvssl.training.schedule import Steps, scale_lr


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """Accuracies of the classifier after its last epoch.

    Args:
        num_classes: K.
        epochs: over the training videos.
        batch_size: videos, at least 2; a remainder is spread over the batches of the epoch.
        lr, momentum, weight_decay: of SGD.
        steps, gamma: lr is multiplied by `gamma` after each of the epochs `steps`.
        seed: of the initial weights and the order of the clips.
    """

    num_classes: int
    epochs: int
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float
    steps: Sequence[int]
    gamma: float
    seed: int

    def __post_init__(self) -> None:
        for name, value, least in (("epochs", self.epochs, 1), ("batch_size", self.batch_size, 2)):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"protocol.{name}={value} must be a whole number, at least {least}.")
        for name in ("lr", "momentum", "weight_decay", "gamma"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not value >= 0:
                raise ValueError(f"protocol.{name}={value} must be a number, at least 0.")
        if not isinstance(self.steps, list | tuple):
            raise ValueError(f"protocol.steps={self.steps} must be a list of epochs, such as [60,80].")

    def __call__(self, train: Features, test: Features) -> Result:
        if len(train) < 2:
            raise ValueError("One training sample is not enough for a linear probe, whose BatchNorm needs two.")
        clips, queries = normalize(train.clips, dim=2), normalize(test.clips, dim=2)
        seed_torch((self.seed,))
        classifier = nn.Sequential(nn.BatchNorm1d(clips.shape[2]), nn.Linear(clips.shape[2], self.num_classes))
        optimizer = torch.optim.SGD(
            classifier.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
        )
        schedule, curve = Steps(steps=self.steps, gamma=self.gamma), []
        for epoch in range(self.epochs):
            scale_lr(optimizer, schedule(epoch))
            self._train_once(classifier, optimizer, clips, train.labels, epoch=epoch)
            curve.append(accuracies(video_logits(classifier, queries), test.labels))
        details = {"test_top1_acc": [point.top1_acc for point in curve]}
        return Result(asdict(curve[-1]), details, right_videos(video_logits(classifier, queries), test.labels))

    def _train_once(
        self, classifier: nn.Module, optimizer: torch.optim.SGD, clips: Tensor, labels: Tensor, *, epoch: int
    ) -> None:
        rng = np.random.default_rng((self.seed, epoch))
        order, drawn = rng.permutation(len(clips)), rng.integers(clips.shape[1], size=len(clips))
        classifier.train()
        # Nearly equal batches, none smaller than batch_size: BatchNorm fails on a batch of one.
        for batch in np.array_split(order, max(1, len(order) // self.batch_size)):
            loss = cross_entropy(classifier(clips[batch, drawn[batch]]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def draw(self, png: Path, results: Mapping[str, Result], train: Features, test: Features, frame: Frame) -> None:
        """Test accuracy over the epochs of the classifier, a line for each backbone."""
        draw_epochs(png, results, test.names)


def video_logits(classifier: nn.Module, clips: Tensor) -> Tensor:
    """Mean of the clips' logits: float [V,N,D] -> [V,K]."""
    classifier.eval()
    with torch.no_grad():
        return classifier(clips.flatten(0, 1)).unflatten(0, clips.shape[:2]).mean(dim=1)
