"""Loss and boxes of Segment-Anything in a federation against stored numbers, and the preprocessing of transformers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedvssl.data.image import longest_side, padded
from fedvssl.data.masks import tight_box, widened
from fedvssl.tasks.segment import MEAN, STD, dice_and_bce

STORED = Path(__file__).parent / "fixtures/fedsam.npz"


@pytest.fixture(scope="module")
def stored() -> dict[str, np.ndarray]:
    with np.load(STORED) as file:
        return dict(file)


@pytest.mark.parametrize("case", ["a", "b"])
def test_the_loss_and_its_gradient(case: str, stored: dict[str, np.ndarray]) -> None:
    """Case b has an empty mask, whose Dice is decided by the smoothing."""
    logits = torch.tensor(stored[f"{case}/logits"][:, 0], requires_grad=True)
    found = dice_and_bce(logits, torch.tensor(stored[f"{case}/mask"][:, 0]))
    found["loss"].backward()
    for name, key in (("loss", "loss"), ("dice_loss", "dice_part"), ("bce_loss", "bce_part")):
        assert float(found[name].detach()) == pytest.approx(float(stored[f"{case}/{key}"]), rel=1e-5)
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), stored[f"{case}/grad_logits"][:, 0], rtol=1e-4, atol=1e-7)


def test_the_tight_box_and_the_draws_of_the_reference(stored: dict[str, np.ndarray]) -> None:
    mask = stored["box/mask"] > 0
    height, width = mask.shape
    assert tight_box(mask) == tuple(stored["box/tight_xyxy"].tolist())
    draws = np.random.RandomState(int(stored["box/draws_numpy_seed"]))
    for expected in stored["box/reference_draws"].tolist():
        shifts = [draws.randint(0, 20) for _ in range(4)]
        assert widened(tight_box(mask), shifts, height=height, width=width) == tuple(expected)


@pytest.mark.parametrize(("height", "width"), [(48, 48), (40, 100), (130, 70), (33, 64), (64, 64)])
def test_pictures_are_prepared_as_by_the_processor_of_transformers(height: int, width: int) -> None:
    transformers = pytest.importorskip("transformers")
    rng = np.random.default_rng(height)
    picture = np.ascontiguousarray(
        np.kron(rng.integers(0, 255, (height // 3 + 1, width // 3 + 1, 3)), np.ones((3, 3, 1)))
    )
    picture = picture[:height, :width].astype(np.uint8)
    processor = transformers.SamImageProcessor(
        size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}, mask_size={"longest_edge": 32}
    )
    expected = processor(picture, return_tensors="pt")
    small = longest_side(picture, 64)
    assert list(small.shape[:2]) == expected["reshaped_input_sizes"][0].tolist()
    pixels = torch.from_numpy(padded(small, 64)).permute(2, 0, 1).float() / 255 - torch.tensor(MEAN).view(3, 1, 1)
    pixels = pixels / torch.tensor(STD).view(3, 1, 1)
    pixels[:, small.shape[0] :], pixels[:, :, small.shape[1] :] = 0, 0
    levels = (pixels - expected["pixel_values"][0]).abs() * torch.tensor(STD).view(3, 1, 1) * 255
    assert float(levels.max()) < 1.01, "at most a level of 255, from rounding"
    assert float(levels.mean()) < 0.3
