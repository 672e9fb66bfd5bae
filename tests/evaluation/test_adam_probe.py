"""Classifiers that Adam trains on frozen features, and their settings in conf/probe and conf/semi.yaml."""

import dataclasses
from unittest import mock

import pytest
import torch

from fedvssl.building import build
from fedvssl.config import compose
from fedvssl.evaluation.adam_probe import AdamProbe
from fedvssl.evaluation.linear_probe import LinearProbe
from tests.evaluation.features import clusters

SETTINGS = {
    **{"num_classes": 4, "hidden_channels": None, "epochs": 30, "batch_size": 16, "lr": 0.03, "reshuffle": True},
    **{"held_out": False, "seed": 7},
}


@pytest.mark.parametrize("hidden", [None, 32])
def test_learns_classes_that_can_be_told_apart(hidden: int | None) -> None:
    train, test = clusters(61, num_classes=4, noise=0.3, seed=1), clusters(40, num_classes=4, noise=0.3, seed=2)
    result = AdamProbe(**{**SETTINGS, "hidden_channels": hidden})(train, test)
    assert result.metrics["top1_acc"] > 0.9 and len(result.details["test_top1_acc"]) == 30
    assert result.details["test_top1_acc"][-1] == result.metrics["top1_acc"] == sum(result.right["top1_acc"]) / 40


def test_a_linear_one_is_adam_on_the_mean_features_in_one_order() -> None:
    train, test = clusters(10, num_classes=4, noise=2, seed=1), clusters(40, num_classes=4, noise=2, seed=2)
    probe = AdamProbe(**{**SETTINGS, "epochs": 3, "batch_size": 4, "reshuffle": False})
    with mock.patch.object(torch.optim.Adam, "step", autospec=True, side_effect=torch.optim.Adam.step) as step:
        found = probe(train, test)
    optimizer = step.call_args.args[0]
    weight, bias = (parameter.detach() for parameter in optimizer.param_groups[0]["params"])
    assert step.call_count == 3 * 3 and optimizer.param_groups[0]["lr"] == 0.03
    logits = test.clips.mean(dim=1) @ weight.T + bias
    assert found.right["top1_acc"] == (logits.argmax(dim=1) == test.labels).tolist()
    orders = [[batch.tolist() for batch in probe._batches(10, epoch=epoch)] for epoch in (0, 1)]
    assert orders[0] == orders[1] and sorted(index for batch in orders[0] for index in batch) == list(range(10))
    again = [batch.tolist() for batch in dataclasses.replace(probe, reshuffle=True)._batches(10, epoch=1)]
    assert again != orders[0] and list(map(len, again)) == [4, 4, 2]


@pytest.mark.parametrize(("number", "sizes"), [(2, [2]), (4, [4]), (5, [5]), (6, [4, 2]), (9, [4, 5])])
def test_no_batch_is_of_one_sample(number: int, sizes: list[int]) -> None:
    probe = AdamProbe(**{**SETTINGS, "batch_size": 4})
    assert [len(batch) for batch in probe._batches(number, epoch=0)] == sizes


@pytest.mark.parametrize(
    ("name", "lr", "epochs", "batch_size", "reshuffle"),
    [("fedema", 3e-3, 200, 2048, False), ("mocosfl", 1e-3, 100, 128, True), ("fedsimclr", 3e-4, 20, 512, True)],
)
def test_the_linear_evaluations_have_the_published_settings(name, lr, epochs, batch_size, reshuffle) -> None:
    probe = build(compose("linear_probe", [f"probe={name}"])["protocol"])
    expected = {"lr": lr, "epochs": epochs, "batch_size": batch_size, "reshuffle": reshuffle, "hidden_channels": None}
    assert {key: getattr(probe, key) for key in expected} == expected and not probe.held_out


def test_the_default_and_the_classifier_of_few_labels() -> None:
    assert isinstance(build(compose("linear_probe", [])["protocol"]), LinearProbe)
    config = compose("semi", ["data=cifar10"])
    expected = {"lr": 1e-3, "epochs": 100, "batch_size": 128, "hidden_channels": 4096, "held_out": True}
    probe = build(config["protocol"])
    assert {key: getattr(probe, key) for key in expected} == expected
    assert config["data"]["train_list"] == "data/cifar10/annotations/client_distribution/labelled.json"
    layers = [type(layer).__name__ for layer in probe._classifier(8).children()]
    assert layers == ["Linear", "BatchNorm1d", "ReLU", "Linear"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"epochs": 0}, "protocol.epochs=0 must be a whole number, at least 1"),
        ({"batch_size": 1}, "protocol.batch_size=1 must be a whole number, at least 2"),
        ({"hidden_channels": 0}, "protocol.hidden_channels=0 must be a whole number, at least 1"),
        ({"lr": 0}, "protocol.lr=0 must be a number above 0"),
        ({"reshuffle": "once"}, "protocol.reshuffle=once must be true or false"),
    ],
)
def test_mistakes_get_a_sentence(change: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        AdamProbe(**{**SETTINGS, **change})


def test_one_training_sample_is_refused() -> None:
    one = clusters(1, num_classes=4, noise=1, seed=1)
    with pytest.raises(ValueError, match="One training sample is not enough"):
        AdamProbe(**{**SETTINGS, "hidden_channels": 8})(one, one)
