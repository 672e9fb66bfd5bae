"""Right videos, the fractions that they make, and intervals of the metrics that are such fractions."""

import torch

from fedvssl.evaluation.intervals import wilson
from fedvssl.evaluation.prediction import right_videos, top_k_right
from fedvssl.evaluation.protocol import Result, fractions
from fedvssl.training.metrics import accuracies


def test_right_videos_make_the_accuracies():
    scores, labels = torch.randn(40, 9, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 9
    right = right_videos(scores, labels)
    expected = accuracies(scores, labels)
    assert fractions(right) == {"top1_acc": expected.top1_acc, "top5_acc": expected.top5_acc}
    assert right["top1_acc"] == (scores.argmax(dim=1) == labels).tolist()
    assert all(top_k_right(scores[:, :3], labels % 3, k=5)), "fewer classes than five"


def test_only_fractions_of_videos_have_intervals():
    result = Result({"top1_acc": 0.75, "mean_class_acc": 0.5}, right={"top1_acc": [True, True, False, True]})
    assert result.intervals(["a", "b", "c", "d"]) == {"top1_acc": wilson(0.75, 4)}
    assert Result({"share": 0.1}).intervals([]) == {}
