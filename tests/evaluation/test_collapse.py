import math

import pytest
import torch

from fedvssl.evaluation.collapse import effective_rank, feature_std


def test_directions_that_cover_the_sphere():
    features = torch.randn(4000, 16, generator=torch.Generator().manual_seed(0))
    assert feature_std(features) == pytest.approx(1, abs=0.02)
    assert effective_rank(features) == pytest.approx(16, abs=0.1)
    lengths = torch.rand(4000, 1).add(0.1)
    assert feature_std(features * lengths) == pytest.approx(feature_std(features), rel=1e-4)
    assert effective_rank(features * lengths) == pytest.approx(effective_rank(features), rel=1e-4)


def test_all_videos_in_one_direction():
    features = torch.randn(1, 16) * torch.rand(50, 1).add(0.1)
    assert feature_std(features) < 1e-6 and effective_rank(features) == pytest.approx(1, abs=1e-3)


def test_a_slow_count_of_two_directions():
    features = torch.tensor([[3.0, 0, 0]] * 3 + [[0, 5.0, 0]])
    shares = [math.sqrt(3) / (math.sqrt(3) + 1), 1 / (math.sqrt(3) + 1)]
    assert effective_rank(features) == pytest.approx(math.exp(-sum(s * math.log(s) for s in shares)))
    deviation = math.sqrt(0.75 * 0.25)  # of the first two entries, over four videos
    assert feature_std(features) == pytest.approx(2 * deviation / 3 * math.sqrt(3))


def test_features_that_are_all_zero():
    assert feature_std(torch.zeros(5, 4)) == 0 and effective_rank(torch.zeros(5, 4)) == 1
