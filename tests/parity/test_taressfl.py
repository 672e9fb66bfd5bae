"""The expert's step and the attack's measures against the executed reference."""

import numpy as np
import pytest
import torch
from torch import nn

from fedvssl.split.decoder import Decoder, nearness
from fedvssl.split.taressfl import Attacker
from tests.parity.reference import hash_input, hash_weights, load_npz
from tests.parity.test_mocosfl import fill, halves

DECODERS = {"4x16": (4, 16, 2), "64x32": (64, 32, 1), "128x16": (128, 16, 2), "256x8": (256, 8, 4)}


def test_the_measures_are_those_of_the_method() -> None:
    stored = load_npz("taressfl")
    pictures = (torch.from_numpy(stored[f"metrics/{name}"]).double() for name in ("image", "reconstruction"))
    found = nearness(*pictures)
    for name in ("mse", "ssim", "psnr"):
        np.testing.assert_allclose(found[name], stored[f"metrics/{name}"], rtol=1e-5)
    others = stored["metrics/torchmetrics_ssim_NOT_the_reference"]
    assert np.abs(found["ssim"].numpy() - others).max() > 0.05, "the padding decides"


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_are_those_of_the_reference(name: str) -> None:
    channels, side, times = DECODERS[name]
    decoder = Decoder(channels, times)
    hash_weights(decoder, 3000)
    with torch.no_grad():
        found = decoder.eval()(hash_input((2, channels, side, side), 5800, 0, 2))
    stored = load_npz("taressfl")[f"decoder_eval/{name}"]
    every = found.shape[-1] // stored.shape[-1]  # of larger pictures each fourth pixel is stored
    np.testing.assert_allclose(found[..., ::every, ::every], stored, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("case", "target"), [("active", 0.001), pytest.param("inactive", 0.6, marks=pytest.mark.slow)])
def test_a_step_of_the_expert(case: str, target: float) -> None:
    """Attacker, privacy gradient, contrastive step, client: every stored number."""
    stored, (clients, server) = load_npz("taressfl"), halves("cut1_C4S2", num_clients=1)
    decoder = Decoder(4, 2)
    fill(decoder, 3000)
    attacker = Attacker(decoder, lr=1e-3, target_ssim=target, weight=2.0)
    views = tuple(hash_input((4, 3, 32, 32), key).double() for key in (5700, 5701))
    ((query, key),) = clients.forward({0: views}).values()
    equal(query, stored["h_q"])
    equal(key, stored["h_k"])
    pictures = torch.from_numpy(stored["denormalized_query"])
    privacy, told = attacker.step(query, pictures, lr_factor=1.0)
    equal(told["attacker_ssim"], stored[f"{case}/ssim_before_attacker_step"])
    equal(told["ssim"], stored[f"{case}/ssim_eval_after_attacker_step"])
    norms = {name: float(value.double().norm()) for name, value in decoder.state_dict().items()}
    expected = dict(zip(norms, stored[f"{case}/decoder_norms_after_attacker_step"], strict=True))
    moved = [name for name in norms if "num_batches" not in name]  # which the deterministic weights leave at 0
    equal([norms[name] for name in moved], [expected[name] for name in moved])
    gradient, scalars = server.step(query, key, lr_factor=1.0)
    equal(scalars["loss"], stored[f"{case}/contrastive_loss"])
    equal(gradient, stored[f"{case}/contrastive_grad_h_q"])
    assert (privacy is not None) == (case == "active")
    if privacy is not None:
        equal(privacy, stored[f"{case}/privacy_grad_h_q"])
        gradient = gradient + privacy
    clients.backward({0: gradient}, lr_factor=1.0)
    after = [array for name, array in stored.items() if name.startswith(f"{case}/client_after/")]
    for parameter, array in zip(clients.members[0].front.backbone.parameters(), after, strict=True):
        equal(parameter.detach(), array)


def equal(found, expected) -> None:
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5, atol=1e-8)


def test_an_enlargement_that_the_decoder_lacks_is_refused() -> None:
    assert isinstance(Decoder(4, 4), nn.Module)
    with pytest.raises(ValueError, match="enlarges latents by 1, 2 or 4"):
        Decoder(4, 8)
