"""ResNet against the executed reference (activations, running statistics) and against torchvision (names, weights)."""

import numpy as np
import pytest
import torch
from torchvision.models import resnet18, resnet34, resnet50

from fedvssl.models.resnet import ResNet
from tests.parity.reference import hash_input, hash_weights, load_json, load_npz

TORCHVISION = {18: resnet18, 34: resnet34, 50: resnet50}
MODELS = {
    "resnet18_w4": {"depth": 18, "width": 4},
    "resnet50_w4": {"depth": 50, "width": 4},
    "resnet18": {"depth": 18},
    "resnet50": {"depth": 50},
    "imagenet_stem_resnet50": {"depth": 50, "stem": "imagenet"},
}
STAGES = ("layer1", "layer2", "layer3", "layer4")


def build(name: str) -> ResNet:
    backbone = ResNet(**MODELS[name])
    hash_weights(backbone)
    return backbone


def pictures(name: str) -> torch.Tensor:
    return hash_input((load_json("backbones_meta")["models"][name]["batch"], 3, 32, 32), 9200, 0, 1)


@pytest.mark.parametrize("name", MODELS)
def test_features_and_stages_in_eval_mode(name: str) -> None:
    stored, shapes = load_npz("backbones"), load_json("backbones_meta")["models"][name]["stage_shapes"]
    backbone, outputs = build(name).eval(), {}
    for stage in STAGES:
        getattr(backbone, stage).register_forward_hook(lambda _m, _i, out, stage=stage: outputs.update({stage: out}))
    with torch.no_grad():
        features = backbone(pictures(name)).mean((2, 3))
    np.testing.assert_allclose(features, stored[f"{name}/eval_features"], rtol=1e-4, atol=1e-4 * features.std().item())
    for stage in STAGES:
        out = outputs[stage].double()
        assert list(out.shape) == shapes[stage]
        found = [out.mean().item(), out.std().item(), out.norm().item()]
        np.testing.assert_allclose(found, stored[f"{name}/eval_{stage}_stats"], rtol=1e-4, err_msg=stage)


@pytest.mark.parametrize("name", [name for name in MODELS if "imagenet" not in name])
def test_features_and_running_statistics_in_train_mode(name: str) -> None:
    stored, tolerance = load_npz("backbones"), 1e-3 if name == "resnet50" else 1e-4
    backbone = build(name).train()
    with torch.no_grad():
        features = backbone(pictures(name)).mean((2, 3))
    expected = stored[f"{name}/train_features"]
    np.testing.assert_allclose(features, expected, rtol=tolerance, atol=tolerance * expected.std())
    norms = stored[f"{name}/after_train_forward_norms"]
    for (entry, value), norm in zip(backbone.state_dict().items(), norms, strict=True):
        if not entry.endswith("num_batches_tracked"):
            np.testing.assert_allclose(value.double().norm(), norm, rtol=tolerance, err_msg=entry)


@pytest.mark.parametrize("name", MODELS)
def test_counts_of_parameters_and_entries(name: str) -> None:
    meta, backbone = load_json("backbones_meta")["models"][name], build(name)
    assert sum(weight.numel() for weight in backbone.parameters()) == meta["parameters"]
    assert len(backbone.state_dict()) == meta["state_entries"]


def test_the_method_counts_these_parameters() -> None:
    counts = [sum(weight.numel() for weight in ResNet(depth).parameters()) for depth in (18, 50)]
    assert counts == [11_168_832, 23_500_352]


@pytest.mark.parametrize("depth", TORCHVISION)
def test_weights_of_torchvision_load_by_name_and_give_its_features(depth: int) -> None:
    theirs, ours = TORCHVISION[depth](), ResNet(depth, stem="imagenet")
    theirs.fc = torch.nn.Identity()
    hash_weights(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    inputs = hash_input((2, 3, 64, 64), 9200, 0, 1)
    with torch.no_grad():
        found = ours.eval()(inputs)
        torch.testing.assert_close(found.mean((2, 3)), theirs.eval()(inputs), rtol=1e-4, atol=1e-5)
    assert found.shape == (2, ours.out_channels, 2, 2)


def test_initial_weights_have_the_spread_of_torchvisions() -> None:
    torch.manual_seed(0)
    ours, theirs = ResNet(18, stem="imagenet"), resnet18()
    for name, weight in ours.named_parameters():
        expected = theirs.get_parameter(name)
        torch.testing.assert_close(weight.std(), expected.std(), rtol=0.05, atol=1e-3, msg=name, equal_nan=True)
        torch.testing.assert_close(weight.mean(), expected.mean(), rtol=0, atol=3e-3, msg=name)
