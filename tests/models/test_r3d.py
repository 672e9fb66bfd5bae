"""R3D: variants, and that mixed precision computes the gradients it should."""

import pytest
import torch

from fedvssl.models.r3d import R3D
from fedvssl.models.recognizer import Recognizer
from fedvssl.training.precision import has_native_bf16


@pytest.mark.parametrize("depth", [10, 18, 34])
def test_depths(depth: int) -> None:
    backbone = R3D(depth, width=4)
    assert backbone(torch.rand(2, 3, 16, 32, 32)).shape == (2, backbone.out_channels, 2, 2, 2)
    convolutions = [m for m in backbone.modules() if isinstance(m, torch.nn.Conv3d) and m.kernel_size != (1, 1, 1)]
    assert len(convolutions) == depth - 1  # and the linear layer of a recognizer


def test_an_unknown_depth_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model.depth=50 is unknown: choose one of \[10, 18, 34\]"):
        R3D(50)


@pytest.mark.parametrize("spatial_strides", [(1, 2, 2, 1), (1, 2, 2, 2)])
@pytest.mark.skipif(not has_native_bf16("cpu"), reason="this processor has no bfloat16 instructions")
def test_bf16_gradients_point_where_float32_ones_do(spatial_strides: tuple[int, ...]) -> None:
    """16 frames leave two for the last stage, where oneDNN needs the detour of `Conv.forward`."""
    torch.manual_seed(0)
    model = Recognizer(R3D(width=32, spatial_strides=spatial_strides), num_classes=5, dropout=0).eval()
    clips = torch.randn(4, 3, 16, 40, 40).to(memory_format=torch.channels_last_3d)
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = torch.nn.functional.cross_entropy(model(clips).float(), torch.arange(4))
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for (name, _), exact, rounded in zip(model.named_parameters(), *gradients, strict=True):
        similarity = torch.nn.functional.cosine_similarity(exact.double().flatten(), rounded.double().flatten(), dim=0)
        assert similarity > 0.95, name
        assert 0.9 < rounded.double().norm() / exact.double().norm() < 1.1, name
