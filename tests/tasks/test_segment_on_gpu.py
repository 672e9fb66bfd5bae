"""Segment-Anything on a GPU: a step in float32 agrees with the CPU, and in bfloat16 nearly; embeddings are kept."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

from fedvssl.tasks.segment import Prompts
from tests.mask_set import prepare_shapes
from tests.tasks.test_segment import SIZES, batch_of, names_in
from tests.tiny_sam import tiny_task


@pytest.mark.gpu
@pytest.mark.parametrize("mixed", [False, True])
def test_a_step_agrees_with_the_cpu(mixed: bool, tmp_path: Path) -> None:
    pictures = prepare_shapes(tmp_path / "shapes", number=12) / "pictures"
    batch = batch_of(pictures, Prompts(num_boxes=2, **SIZES), names_in(pictures, 4))
    here, there = tiny_task(), tiny_task(cache_dir=str(tmp_path / "kept")).cuda()
    expected = float(here(here.augment(batch))["loss"].detach())
    moved = there.augment({name: value.cuda() for name, value in batch.items()})
    for _ in range(2):  # computed, then read
        with torch.autocast("cuda", torch.bfloat16, enabled=mixed):
            loss = there(moved)["loss"]
        assert float(loss.detach()) == pytest.approx(expected, rel=0.05 if mixed else 1e-4)
    loss.backward()
    assert all(weight.grad is None or bool(weight.grad.isfinite().all()) for weight in there.parameters())
