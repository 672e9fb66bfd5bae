"""R3D-18 against the executed reference: names, activations, running statistics, gradients; and against torchvision."""

import numpy as np
import pytest
import torch
from torchvision.models.video import r3d_18

from fedvssl.models.r3d import R3D
from tests.parity.reference import hash_input, hash_weights, load_json, load_npz

SPATIAL_STRIDES = {"ctp": (1, 2, 2, 1), "finetune": (1, 2, 2, 2)}
STAGES = ["stem", "layer1", "layer2", "layer3", "layer4"]


def build(use: str) -> R3D:
    backbone = R3D(spatial_strides=SPATIAL_STRIDES[use])
    hash_weights(backbone)
    return backbone


def stage_outputs(backbone: R3D, clips: torch.Tensor) -> dict[str, np.ndarray]:
    outputs = {}
    for name, stage in backbone.named_children():
        clips = stage(clips)
        outputs[name] = clips.detach().numpy()
    return outputs


@pytest.mark.parametrize("use", SPATIAL_STRIDES)
def test_state_names_shapes_and_batch_norm_are_the_published_ones(use: str) -> None:
    info = load_json("r3d18_info")[use]
    backbone = R3D(spatial_strides=SPATIAL_STRIDES[use])
    state = [[name, list(v.shape), str(v.dtype).removeprefix("torch.")] for name, v in backbone.state_dict().items()]
    assert state == info["state_dict"]
    assert sum(p.numel() for p in backbone.parameters()) == info["n_params"] == 33_166_272
    norms = [m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm3d)]
    assert {m.eps for m in norms} == set(info["bn_eps"]) and {m.momentum for m in norms} == set(info["bn_momentum"])


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("use", SPATIAL_STRIDES)
def test_activations(use: str, mode: str) -> None:
    stored = load_npz(f"r3d18_{use}")
    backbone = build(use).train(mode == "train")
    with torch.no_grad():
        outputs = stage_outputs(backbone, hash_input((1, 3, 8, 56, 56), 9999))
    for name in STAGES:
        ours, prefix = outputs[name], f"{mode}_{name}"
        mean, std, low, high, total, absolute = stored[f"{prefix}_stats"]
        tolerance = 1e-4 * std
        np.testing.assert_allclose(ours.mean(axis=(0, 2, 3, 4)), stored[f"{prefix}_chmean"], atol=tolerance, rtol=0)
        np.testing.assert_allclose(
            [ours.mean(), ours.std(ddof=1), ours.min(), ours.max()], [mean, std, low, high], atol=tolerance
        )
        np.testing.assert_allclose(
            [ours.sum(dtype=np.float64), np.abs(ours).sum(dtype=np.float64)], [total, absolute], rtol=1e-4
        )
        if f"{prefix}_sub" in stored:
            np.testing.assert_allclose(ours[:, ::4, ::2, ::2, ::2], stored[f"{prefix}_sub"], atol=tolerance, rtol=0)
        if prefix in stored:
            np.testing.assert_allclose(ours, stored[prefix], atol=tolerance, rtol=0)


@pytest.mark.parametrize("use", SPATIAL_STRIDES)
def test_running_statistics_after_one_forward(use: str) -> None:
    stored = {
        name.removeprefix("after_train_fwd/"): value
        for name, value in load_npz(f"r3d18_{use}").items()
        if name.startswith("after_train_fwd/")
    }
    assert stored
    backbone = build(use).train()
    backbone(hash_input((1, 3, 8, 56, 56), 9999))
    state = backbone.state_dict()
    for name, value in stored.items():
        np.testing.assert_allclose(state[name].numpy(), value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("use", SPATIAL_STRIDES)
def test_gradients(use: str) -> None:
    stored = load_npz(f"r3d18_{use}")
    backbone = build(use).train()
    clips = hash_input((2, 3, 8, 56, 56), 9998).requires_grad_()
    loss = (backbone(clips) ** 2).mean()
    loss.backward()
    norms = [float(p.grad.norm()) for p in backbone.parameters() if p.grad is not None]
    np.testing.assert_allclose(loss.item(), stored["grad_loss"], rtol=1e-4)
    np.testing.assert_allclose(norms, stored["grad_norms"], rtol=1e-4)
    assert clips.grad is not None
    np.testing.assert_allclose(clips.grad.norm().item(), stored["grad_input_norm"], rtol=1e-4)


def test_torchvision_gives_the_same_features_with_our_weights() -> None:
    ours = build("finetune").eval()
    other = r3d_18(weights=None)
    other.fc = torch.nn.Identity()
    for module in other.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.eps = 1e-3
    theirs = other.state_dict()
    assert [v.shape for v in theirs.values()] == [v.shape for v in ours.state_dict().values()]
    other.load_state_dict(dict(zip(theirs, ours.state_dict().values(), strict=True)))
    clips = hash_input((2, 3, 16, 56, 56), 9999)
    with torch.no_grad():
        torch.testing.assert_close(ours(clips).mean((2, 3, 4)), other.eval()(clips), rtol=1e-4, atol=1e-5)
