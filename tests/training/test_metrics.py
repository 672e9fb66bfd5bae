"""Accuracies: parity with the published evaluation, and the corners it does not reach."""

import json
from pathlib import Path

import pytest
import torch

from fedvssl.training.metrics import Accuracies, accuracies, chance, class_accs, confusion_matrix, majority_class

CASES = json.loads((Path(__file__).parents[1] / "parity/fixtures/tsn_evaluate.json").read_text())


def of_case(case: dict) -> dict[str, float]:
    """Our numbers under the names of the fixture, whose labels count from 1."""
    found = accuracies(torch.tensor(case["scores"]), torch.tensor(case["labels_1based"]) - 1)
    return {"top_1_acc": found.top1_acc, "top_5_acc": found.top5_acc, "mean_class_acc": found.mean_class_acc}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case["has_ties"]])
def test_equals_the_published_evaluation(name):
    assert of_case(CASES[name]) == pytest.approx(CASES[name]["reference"], abs=1e-6)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case["has_ties"]])
def test_ties_lie_between_the_worst_and_the_best_order(name):
    for key, value in of_case(CASES[name]).items():
        assert CASES[name]["ties_worst"][key] - 1e-6 <= value <= CASES[name]["ties_best"][key] + 1e-6, key


def test_logits_and_their_softmax_rank_alike():
    scores, labels = torch.randn(40, 7, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 7
    assert accuracies(scores, labels) == accuracies(scores.softmax(dim=1), labels)


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_top5_of_few_classes_is_top_of_all_classes(num_classes):
    scores = torch.eye(num_classes)
    wrong = (torch.arange(num_classes) + 1) % num_classes
    assert accuracies(scores, wrong) == Accuracies(0.0, 1.0, 0.0)


def test_confusion_matrix_has_a_row_for_each_true_class():
    scores = torch.tensor([[0.0, 3, 1], [0, 1, 3], [5, 1, 0]])
    confusion = confusion_matrix(scores, torch.tensor([1, 1, 0]))
    assert confusion.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]


def test_a_class_without_videos_is_nan_and_not_averaged():
    confusion = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0]])
    assert class_accs(confusion)[:2].tolist() == [1.0, 0.5]
    assert class_accs(confusion)[2].isnan()


def test_chance_and_majority_are_what_constant_answers_reach():
    assert chance(4) == Accuracies(0.25, 1.0, 0.25)
    assert chance(101).top5_acc == pytest.approx(5 / 101)
    labels = torch.tensor([2] * 6 + [0] * 3 + [7])
    constant = torch.zeros(10, 8)
    constant[:, 2] = 1
    found = majority_class(labels)
    assert found.top1_acc == pytest.approx(0.6) == pytest.approx(accuracies(constant, labels).top1_acc)
    assert found.top5_acc == pytest.approx(1.0)
    assert found.mean_class_acc == pytest.approx(1 / 3)
