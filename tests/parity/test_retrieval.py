"""The authors' retrieval, executed: rankings, accuracies and the pooling of the last stage."""

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool3d

from fedvssl.evaluation.features import GRID, Features, neighbours
from fedvssl.evaluation.retrieval import Retrieval
from tests.parity.reference import load_json, load_npz


def features(arrays: dict[str, np.ndarray], case: str, part: str) -> Features:
    clips = torch.from_numpy(arrays[f"{case}/{part}_features"])
    labels = torch.from_numpy(arrays[f"{case}/{part}_labels"])
    return Features(clips=clips, grid=clips.mean(dim=1), labels=labels, names=[str(n) for n in range(len(labels))])


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_rankings_and_accuracies_of_the_reference(case):
    arrays, expected = load_npz("retrieval"), load_json("retrieval_meta")[case]
    train, test = (features(arrays, case, part) for part in ("train", "test"))
    _, nearest = neighbours(train.grid, test.grid, k=len(train))
    np.testing.assert_array_equal(nearest.numpy(), arrays[f"{case}/ranked_train_indices"])
    metrics = Retrieval(ks=[1, 5, 10, 20, 50])(train, test).metrics
    for k in (1, 5, 10, 20, 50):
        assert metrics[f"R@{k}"] == pytest.approx(expected[f"top{k}_acc"], abs=1e-6)


def test_pooling_of_the_last_stage():
    arrays = load_npz("retrieval")
    pooled = adaptive_avg_pool3d(torch.from_numpy(arrays["pool/in"]), GRID)
    torch.testing.assert_close(pooled, torch.from_numpy(arrays["pool/adaptive_avg_2x3x3"]))
    torch.testing.assert_close(pooled.flatten(1), torch.from_numpy(arrays["pool/flat"]))
