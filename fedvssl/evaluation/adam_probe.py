"""Classifiers on frozen features that Adam trains: the linear evaluations of FedU, FedEMA, MocoSFL and FedSimCLR.

conf/probe has their settings, conf/semi.yaml those of a classifier of two layers with few labels. The feature of a
sample is the mean over its clips, as the backbone gives it, without a norm. The result is that of the last epoch,
counted over all test samples.
Shapes: V samples, D features, K classes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedvssl.evaluation.curves import draw_epochs
from fedvssl.evaluation.features import Features
from fedvssl.evaluation.prediction import right_videos
from fedvssl.evaluation.protocol import Frame, Result
from fedvssl.training.loop import seed_torch
from fedvssl.training.metrics import accuracies


@dataclass(frozen=True, kw_only=True)
class AdamProbe:
    """Accuracies of the classifier after its last epoch.

    Args:
        num_classes: K.
        hidden_channels: of Linear, BatchNorm, ReLU, Linear; None for one Linear.
        epochs: over the training samples.
        batch_size: samples, at least 2.
        lr: of Adam, the same in all steps.
        reshuffle: True for another order in each epoch; False for one random order.
        held_out: True if the training samples must not have been in pre-training, see `EvaluationProtocol`.
        seed: of the initial weights and the order.

    Raises:
        ValueError: for a setting out of its range.
    """

    num_classes: int
    hidden_channels: int | None
    epochs: int
    batch_size: int
    lr: float
    reshuffle: bool
    held_out: bool
    seed: int

    def __post_init__(self) -> None:
        hidden = {"hidden_channels": (self.hidden_channels, 1)} if self.hidden_channels is not None else {}
        for name, (value, least) in {"epochs": (self.epochs, 1), "batch_size": (self.batch_size, 2), **hidden}.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"protocol.{name}={value} must be a whole number, at least {least}.")
        if isinstance(self.lr, bool) or not isinstance(self.lr, int | float) or not self.lr > 0:
            raise ValueError(f"protocol.lr={self.lr} must be a number above 0.")
        for name in ("reshuffle", "held_out"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"protocol.{name}={getattr(self, name)} must be true or false.")

    def __call__(self, train: Features, test: Features) -> Result:
        if len(train) < 2 and self.hidden_channels is not None:
            raise ValueError("One training sample is not enough for this classifier, whose BatchNorm needs two.")
        inputs, queries = train.clips.mean(dim=1), test.clips.mean(dim=1)
        seed_torch((self.seed,))
        classifier = self._classifier(inputs.shape[1])
        optimizer = torch.optim.Adam(classifier.parameters(), lr=self.lr)
        curve = []
        for epoch in range(self.epochs):
            classifier.train()
            for batch in self._batches(len(inputs), epoch=epoch):
                loss = cross_entropy(classifier(inputs[batch]), train.labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            logits = logits_of(classifier, queries)
            curve.append(accuracies(logits, test.labels))
        details = {"test_top1_acc": [point.top1_acc for point in curve]}
        return Result(asdict(curve[-1]), details, right_videos(logits, test.labels))

    def _classifier(self, in_channels: int) -> nn.Module:
        hidden = self.hidden_channels
        if hidden is None:
            return nn.Linear(in_channels, self.num_classes)
        layers = nn.Linear(in_channels, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, self.num_classes)
        return nn.Sequential(*layers)

    def _batches(self, number: int, *, epoch: int) -> Iterator[np.ndarray]:
        """Indices of the batches of an epoch; a last one of a single sample joins the one before it."""
        # Deviation: FedU and FedEMA do not shuffle, and their lists are in a random order. Lists here are sorted by
        # class, so that a batch would have one class: one random order takes the place of theirs.
        order = np.random.default_rng((self.seed, epoch if self.reshuffle else 0)).permutation(number)
        starts = list(range(0, number, self.batch_size))
        if len(starts) > 1 and number - starts[-1] == 1:
            starts.pop()
        yield from np.split(order, starts[1:])

    def draw(self, png: Path, results: Mapping[str, Result], train: Features, test: Features, frame: Frame) -> None:
        """Test accuracy over the epochs of the classifier, a line for each backbone."""
        draw_epochs(png, results, test.names)


def logits_of(classifier: nn.Module, features: Tensor) -> Tensor:
    """Logits of features, float [V,D] -> [V,K], in eval mode and without gradients."""
    classifier.eval()
    with torch.no_grad():
        return classifier(features)
