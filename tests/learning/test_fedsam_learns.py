"""Segment-Anything of random weights learns what boxes say, and rings and L shapes far beyond the filled box."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

from benchmarks.segment import measure, table
from data_tools import partition
from fedvssl.building import freeze
from fedvssl.tasks.segment import dice_and_bce
from tests.mask_set import prepare_shapes
from tests.tiny_sam import FROZEN, tiny_task


@pytest.mark.slow
def test_a_decoder_learns_to_fill_boxes_that_it_has_not_seen() -> None:
    """Nothing in the picture tells the mask, so it must come from the box."""
    task, generator = tiny_task(), torch.Generator().manual_seed(1)
    freeze(task, FROZEN)
    embeddings = task.sam.embed(torch.zeros(1, 3, 64, 64))

    def drawn() -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and masks of 32 boxes, [32,32,32]."""
        first, sides = torch.rand(2, 1, 32, 2, generator=generator)
        boxes = torch.cat([first * 30, first * 30 + 10 + sides * 24], dim=-1)
        return task.sam.decode(embeddings, boxes)[0], task._boxes(boxes[0], torch.zeros(32, 32, 32))

    optimizer = torch.optim.AdamW([weight for weight in task.parameters() if weight.requires_grad], lr=0.004)
    for _ in range(300):
        optimizer.zero_grad()
        dice_and_bce(*drawn())["loss"].backward()
        optimizer.step()
    logits, masks = drawn()
    guessed, true = logits > 0, masks > 0
    assert ((guessed & true).sum((1, 2)) / (guessed | true).sum((1, 2))).mean() > 0.5


@pytest.mark.slow
def test_two_clients_learn_masks_that_a_filled_box_is_not(tmp_path: Path) -> None:
    lists = prepare_shapes(tmp_path / "shapes", number=240) / "annotations"
    partition.main([f"--json_path={lists}", f"--output_path={lists / 'clients2'}", "--method=by-owner"])
    words = ["experiment=fedsam_small", f"data_dir={tmp_path}", "data.name=shapes", "rounds=8"]
    found = {row: [measure(row, 7, words, tmp_path / "rows")] for row in ("initial weights", "federated", "client 1")}
    result = found["federated"][0]
    assert result["intervals"]["iou"][0] > result["intervals"]["box_iou"][1] + 0.1
    assert result["iou"] > found["initial weights"][0]["iou"] + 0.3
    assert json.loads((tmp_path / "rows/client_1-seed7/run/clients.json").read_text()).keys() == {"0"}
    assert "| filled prompt box |" in table(found)
