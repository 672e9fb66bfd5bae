"""The network that is made to be cut: shapes, published sizes of its parts, and what is refused."""

import pytest
import torch

from fedvssl.models.split_resnet import Head, SplitResNet
from fedvssl.split.cut import halves

# cut of the paper -> bottleneck, the stage before it, the client's last stage, its parameters, the latent, its KiB
TABLE = {
    "1": (None, "stem", "stem", 1_856, (64, 32, 32), 256),
    "2": (None, "stem", "block1", 75_840, (64, 32, 32), 256),
    "3": (None, "stem", "block2", 149_824, (64, 32, 32), 256),
    "1 + C4S2": ("C4S2", "stem", "narrow", 4_164, (4, 16, 16), 4),
    "2 + C4S2": ("C4S2", "block1", "narrow", 78_148, (4, 16, 16), 4),
}


@pytest.mark.parametrize("cut", TABLE)
def test_the_published_table_of_cuts(cut: str) -> None:
    bottleneck, after, at, parameters, latent, kib = TABLE[cut]
    backbone = SplitResNet(bottleneck=bottleneck, bottleneck_after=after)
    front, rest = halves(backbone, at)
    assert sum(p.numel() for p in front.parameters()) == parameters
    with torch.no_grad():
        pictures = torch.rand(1, 3, 32, 32)
        latents = front(pictures)
        assert latents.shape[1:] == latent and latents.nbytes == 1024 * kib
        torch.testing.assert_close(rest(latents), backbone(pictures))


def test_a_picture_alone_gives_what_it_gives_in_a_batch() -> None:
    backbone, pictures = SplitResNet(4).double(), torch.rand(3, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(torch.cat([backbone(own[None]) for own in pictures]), backbone(pictures))


def test_a_narrow_network_trains_without_writing_beyond_its_memory() -> None:
    """Without AVX-512 this ended the process, see tests/models/test_resnet.py."""
    backbone = SplitResNet(4)
    for _ in range(30):
        features = backbone(torch.randn(4, 3, 32, 32).to(memory_format=torch.channels_last))
        features.square().sum().backward()
    assert features.is_contiguous()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"width": 6}, "model.width=6 must be a multiple of 4"),
        ({"bottleneck": "C4"}, "model.bottleneck=C4 must be channels and stride, such as C4S2"),
        ({"bottleneck": "C4S2", "bottleneck_after": "block8"}, "model.bottleneck_after=block8 is no stage"),
    ],
)
def test_mistakes_get_a_sentence(settings: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        SplitResNet(**settings)


def test_it_takes_pictures_alone() -> None:
    with pytest.raises(ValueError, match="takes pictures"):
        SplitResNet(4)(torch.rand(1, 3, 2, 8, 8))


def test_the_head_has_no_normalisation_and_tells_its_live_units() -> None:
    head = Head(6, hidden_channels=5, out_channels=3)
    assert [tuple(p.shape) for p in head.parameters()] == [(5, 6), (5,), (3, 5), (3,)]
    assert not head.hidden.bias.any() and head.active_share is None
    assert head(torch.rand(1, 6)).shape == (1, 3) and 0 <= float(head.active_share) <= 1
