import math

import numpy as np
import pytest
import torch

from fedvssl.evaluation.knn import KNN, votes
from tests.evaluation.features import clusters


def test_against_a_slow_loop():
    train, test = clusters(30, num_classes=5, noise=1, seed=1), clusters(20, num_classes=5, noise=1, seed=2)
    expected = {}
    for k in (1, 3, 200):
        right = 0
        for query, label in zip(test.clips.mean(1).numpy(), test.labels.numpy(), strict=True):
            cosines = [
                float(g @ query / np.linalg.norm(g) / np.linalg.norm(query)) for g in train.clips.mean(1).numpy()
            ]
            scores = [0.0] * 5
            for index in np.argsort(cosines)[::-1][:k]:
                scores[int(train.labels[index])] += math.exp(cosines[index] / 0.07)
            right += int(np.argmax(scores) == label)
        expected[f"k={k}"] = right / len(test)
    result = KNN(ks=[1, 3, 200], temperature=0.07)(train, test)
    assert result.metrics == pytest.approx(expected)
    assert result.details["num_neighbours"] == [1, 3, 30]


def test_votes_of_near_neighbours_count_more():
    cosines, labels = torch.tensor([[0.9, 0.5, 0.5]]), torch.tensor([[2, 0, 0]])
    scores = votes(cosines, labels, temperature=0.07)
    assert scores.shape == (1, 3) and scores[0].argmax() == 2 and scores[0, 1] == 0
    assert votes(cosines, labels, temperature=10)[0].argmax() == 0
    assert torch.isfinite(votes(cosines, labels, temperature=1e-3)).all()


def test_the_curve(tmp_path):
    train, test = clusters(30, num_classes=5, noise=1, seed=1), clusters(20, num_classes=5, noise=1, seed=2)
    protocol = KNN(ks=[1, 5], temperature=0.07)
    results = {"checkpoint": protocol(train, test), "random": protocol(train, test)}
    protocol.draw(tmp_path / "x.png", results, train, test, lambda _: np.zeros((1, 1, 3), np.uint8))
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"protocol\.temperature=0 must be above 0"):
        KNN(ks=[1], temperature=0)
