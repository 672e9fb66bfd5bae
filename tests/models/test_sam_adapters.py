"""Adapters in the image encoder of Segment-Anything: what learns, what travels, and what an export writes."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("peft")

from data_tools import partition
from fedvssl import export
from fedvssl.building import freeze, frozen_names
from fedvssl.config import compose
from fedvssl.files.arrays import load_arrays
from fedvssl.main import run
from fedvssl.models.sam import Sam, pretrained_sam
from fedvssl.tasks.segment import Segment
from tests.mask_set import prepare_shapes
from tests.tiny_sam import RUN, tiny_sam

LORA = {"rank": 2, "alpha": 8}
SHARED = ("mask_decoder.", "vision_encoder.layers.0.attn.qkv.lora_")  # begin the names of what travels
PICTURES, BOXES = torch.randn(2, 3, 64, 64), torch.tensor([[[3.0, 4, 30, 40], [0, 0, 64, 64]]] * 2)


def masks_of(sam: Sam) -> torch.Tensor:
    return sam.decode(sam.embed(PICTURES), BOXES)


def test_adapters_add_nothing_at_first_and_learn_with_the_decoder_alone() -> None:
    adapted = tiny_sam(lora=LORA)
    task, patterns = Segment(adapted, cache_dir=None), compose("base", ["experiment=fedsam_small"])["task"]["frozen"]
    freeze(task, patterns)
    before = masks_of(adapted)
    torch.testing.assert_close(before, masks_of(tiny_sam()))
    optimizer = torch.optim.SGD([weight for weight in task.parameters() if weight.requires_grad], lr=1.0)
    for _ in range(2):  # in the first step lora_A has no gradient, as lora_B is 0
        optimizer.zero_grad()
        masks_of(adapted).square().mean().backward()
        optimizer.step()
    moved = {name for name, weight in task.named_parameters() if weight.grad is not None and weight.grad.abs().sum()}
    assert all(name.startswith(SHARED) for name in moved)
    assert sum("lora_" in name for name in moved) == 2, "both matrices of the one layer"
    assert {name for name in task.state_dict() if not name.startswith(SHARED)} == frozen_names(
        task.state_dict(), patterns
    )
    with torch.no_grad():
        assert not torch.allclose(adapted.embed(PICTURES), tiny_sam().embed(PICTURES))


def test_a_saved_folder_has_the_adapters_in_its_weights(tmp_path: Path) -> None:
    adapted = tiny_sam(lora=LORA)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            weight.add_(0.3) if "lora_" in name else None
        expected = masks_of(adapted)
        adapted.save(tmp_path)
        again = pretrained_sam(weights=str(tmp_path))
        torch.testing.assert_close(masks_of(again), expected, rtol=1e-4, atol=1e-5)
    assert again.state_dict().keys() == tiny_sam().state_dict().keys() and not adapted.is_adapted
    assert not torch.allclose(expected, masks_of(tiny_sam()), atol=1e-3)


def test_embeddings_of_an_encoder_that_learns_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cache_dir=null or model\.lora\.rank=0"):
        Segment(tiny_sam(lora=LORA), cache_dir=str(tmp_path))


def test_adapters_travel_with_the_decoder_and_an_export_is_a_plain_model(tmp_path: Path) -> None:
    lists = prepare_shapes(tmp_path / "shapes", number=12) / "annotations"
    partition.main([f"--json_path={lists}", f"--output_path={lists / 'clients2'}", "--method=by-owner"])
    (tmp_path / "run").mkdir()
    words = [*RUN, f"data_dir={tmp_path}", "model.lora.rank=2", "strategy=fedsam_lora"]
    run(compose("base", words), run_dir=tmp_path / "run")
    first, last = (load_arrays(tmp_path / f"run/round-{number}-weights.npz") for number in (1, 2))
    adapters = [name for name in last if "lora_" in name]
    assert all(name.startswith(SHARED) for name in last) and len(adapters) == 2 and len(last) == 122
    assert all(not np.array_equal(first[name], last[name]) for name in adapters)
    assert not list((tmp_path / "run/clients").rglob("*.npz")), "no client keeps what is frozen"
    words = [f"checkpoint={tmp_path / 'run/round-2-weights.npz'}", f"out_dir={tmp_path / 'model'}"]
    assert export.main(words) == 0
    assert pretrained_sam(weights=str(tmp_path / "model")).state_dict().keys() == tiny_sam().state_dict().keys()
