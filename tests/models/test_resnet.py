"""ResNet: variants, and that mixed precision computes the gradients it should."""

import pytest
import torch
from torch.nn.functional import cosine_similarity

from fedvssl.models.resnet import ResNet
from fedvssl.training.precision import has_native_bf16


@pytest.mark.parametrize(("stem", "side"), [("cifar", 4), ("imagenet", 1)])
@pytest.mark.parametrize("depth", [18, 34, 50])
def test_depths_and_stems(depth: int, stem: str, side: int) -> None:
    backbone = ResNet(depth, width=4, stem=stem)
    assert backbone(torch.rand(2, 3, 32, 32)).shape == (2, backbone.out_channels, side, side)
    convolutions = [m for n, m in backbone.named_modules() if isinstance(m, torch.nn.Conv2d) and "downsample" not in n]
    assert len(convolutions) == depth - 1  # and the linear layer of a classifier


@pytest.mark.parametrize(("setting", "value"), [("depth", 101), ("stem", "none")])
def test_what_is_unknown_is_refused(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"model.{setting}={value} is unknown: choose one of"):
        ResNet(**{setting: value})


@pytest.mark.parametrize(("width", "is_contiguous"), [(4, True), (7, True), (8, False)])
def test_narrow_networks_train_without_writing_beyond_their_memory(width: int, is_contiguous: bool) -> None:
    """Without AVX-512 this ended the process with "double free" or "free(): invalid size" at width 4."""
    backbone = ResNet(18, width=width)
    for _ in range(30):
        pictures = torch.randn(4, 3, 32, 32).to(memory_format=torch.channels_last)
        features = backbone(pictures)
        features.square().sum().backward()
    assert features.is_contiguous() == is_contiguous


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.skipif(not has_native_bf16("cpu"), reason="this processor has no bfloat16 instructions")
def test_bf16_gradients_point_where_float32_ones_do(depth: int) -> None:
    """Pictures of 16 pixels leave 2x2 for the last stage: oneDNN has computed small padded convolutions wrongly."""
    torch.manual_seed(0)
    backbone = ResNet(depth, width=32).eval()
    head = torch.nn.Linear(backbone.out_channels, 5)
    pictures = torch.randn(8, 3, 16, 16).to(memory_format=torch.channels_last)
    weights, gradients = [*backbone.parameters(), *head.parameters()], []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = head(backbone(pictures).mean((2, 3)))
        loss = torch.nn.functional.cross_entropy(logits.float(), torch.arange(8) % 5)
        gradients.append(torch.autograd.grad(loss, weights))
    for weight, exact, rounded in zip(weights, *gradients, strict=True):
        shape = tuple(weight.shape)
        assert cosine_similarity(exact.double().flatten(), rounded.double().flatten(), dim=0) > 0.9, shape
        assert 0.75 < rounded.double().norm() / exact.double().norm() < 1.33, shape  # 0.83 to 1.17 at depth 50
