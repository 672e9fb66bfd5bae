"""Accuracies of a video classifier.

Shapes: V videos, K classes. Scores: float [V,K], logits or probabilities. Labels: int64 [V], from 0. Accuracies: 0..1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix


@dataclass(frozen=True)
class Accuracies:
    """The three numbers of a test table, as fractions."""

    top1_acc: float
    top5_acc: float
    mean_class_acc: float


def accuracies(scores: Tensor, labels: Tensor) -> Accuracies:
    """Top-1, top-5 (top-K where K < 5) and mean class accuracy of [V,K] scores."""
    return Accuracies(
        top1_acc=top_k_acc(scores, labels, k=1),
        top5_acc=top_k_acc(scores, labels, k=5),
        mean_class_acc=mean_class_acc(confusion_matrix(scores, labels)),
    )


def top_k_acc(scores: Tensor, labels: Tensor, *, k: int) -> float:
    """Fraction of videos whose class is among the `k` highest scores; all K classes where K < k."""
    best = scores.topk(min(k, scores.shape[1]), dim=1).indices
    return float((best == labels[:, None]).any(dim=1).double().mean())


def confusion_matrix(scores: Tensor, labels: Tensor) -> Tensor:
    """Number of videos of class i (row) that were classified as j (column): int64 [K,K]."""
    return multiclass_confusion_matrix(scores, labels, num_classes=scores.shape[1])


def class_accs(confusion: Tensor) -> Tensor:
    """Accuracy of each class: float64 [K], NaN for a class without videos."""
    return confusion.diagonal().double() / confusion.sum(dim=1)


def mean_class_acc(confusion: Tensor) -> float:
    """Mean accuracy over the classes that have videos."""
    return float(class_accs(confusion).nanmean())


def chance(num_classes: int) -> Accuracies:
    """Expected accuracies of guessing among K classes."""
    return Accuracies(1 / num_classes, min(5, num_classes) / num_classes, 1 / num_classes)


def majority_class(labels: Tensor) -> Accuracies:
    """Accuracies of always answering with the most frequent classes of `labels`, the best constant answer."""
    shares = torch.bincount(labels).double().sort(descending=True).values / len(labels)
    return Accuracies(float(shares[0]), float(shares[:5].sum()), 1 / int((shares > 0).sum()))
