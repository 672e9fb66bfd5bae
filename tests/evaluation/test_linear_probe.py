import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from fedvssl.evaluation.features import Features
from fedvssl.evaluation.linear_probe import LinearProbe, video_logits
from fedvssl.training.metrics import accuracies
from tests.evaluation.features import clusters

SETTINGS = {
    **{"num_classes": 4, "epochs": 15, "batch_size": 8, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3},
    **{"steps": [10], "gamma": 0.1, "seed": 7},
}


def test_learns_classes_that_can_be_told_apart():
    train, test = clusters(60, num_classes=4, noise=0.3, seed=1), clusters(40, num_classes=4, noise=0.3, seed=2)
    result = LinearProbe(**SETTINGS)(train, test)
    assert result.metrics["top1_acc"] > 0.9 and result.metrics["top5_acc"] == 1.0
    assert len(result.details["test_top1_acc"]) == 15
    assert result.details["test_top1_acc"][-1] == result.metrics["top1_acc"]


def test_the_length_of_a_feature_does_not_matter_and_the_seed_decides():
    train, test = clusters(30, num_classes=4, noise=2, seed=1), clusters(40, num_classes=4, noise=2, seed=2)
    scaled = dataclasses.replace(train, clips=train.clips * torch.rand(30, 3, 1).add(1))
    probe = LinearProbe(**{**SETTINGS, "epochs": 4})
    assert probe(train, test).details == probe(scaled, test).details
    assert probe(train, test).details == probe(train, test).details
    assert probe(train, test).details != LinearProbe(**{**SETTINGS, "epochs": 4, "seed": 8})(train, test).details


@pytest.mark.parametrize("num_videos", [2, 3, 9, 17])
def test_no_batch_is_of_one_video(num_videos):
    train = clusters(num_videos, num_classes=4, noise=1, seed=1)
    result = LinearProbe(**{**SETTINGS, "epochs": 1, "batch_size": 2})(train, train)
    assert 0 <= result.metrics["top1_acc"] <= 1


def test_one_training_video_is_refused():
    one = clusters(1, num_classes=4, noise=1, seed=1)
    with pytest.raises(ValueError, match="One training sample is not enough"):
        LinearProbe(**SETTINGS)(one, one)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        *(("epochs", 0, "a whole number"), ("batch_size", 1, "a whole number"), ("epochs", 1.5, "a whole number")),
        *(("lr", "abc", "a number"), ("lr", -1, "a number"), ("momentum", None, "a number"), ("steps", 60, "a list")),
    ],
)
def test_numbers_that_cannot_be_are_refused(name, value, kind):
    with pytest.raises(ValueError, match=rf"protocol\.{name}={value} must be {kind}"):
        LinearProbe(**{**SETTINGS, name: value})


@pytest.mark.parametrize(
    "change", [{"lr": 0.05}, {"momentum": 0.5}, {"weight_decay": 0.5}, {"steps": [1]}, {"epochs": 5}]
)
def test_every_setting_of_the_recipe_counts(change, monkeypatch):
    train = clusters(24, num_classes=4, noise=2, seed=1)
    logits = []
    monkeypatch.setattr(
        "fedvssl.evaluation.linear_probe.accuracies",
        lambda scores, labels: logits.append(scores) or accuracies(scores, labels),
    )
    for settings in (SETTINGS, {**SETTINGS, **change}):
        LinearProbe(**{**settings, "epochs": change.get("epochs", 4) if settings is not SETTINGS else 4})(train, train)
    assert not torch.equal(logits[3], logits[-1])


def test_a_video_gets_the_mean_of_its_clips_logits():
    classifier = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 3))
    clips = torch.randn(4, 5, 2)
    logits = video_logits(classifier, clips)
    expected = torch.stack([classifier.eval()(clips[:, n]) for n in range(5)]).mean(dim=0)
    torch.testing.assert_close(logits, expected)


def test_the_curve(tmp_path):
    features: Features = clusters(12, num_classes=4, noise=1, seed=1)
    probe = LinearProbe(**{**SETTINGS, "epochs": 2})
    results = {"checkpoint": probe(features, features), "random": probe(features, features)}
    probe.draw(tmp_path / "x.png", results, features, features, lambda _: np.zeros((1, 1, 3), np.uint8))
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
