"""Segment-Anything of random weights learns rings and L shapes in a federation of two, far beyond the filled box."""

import json
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from benchmarks.segment import measure, table
from data_tools import partition
from tests.mask_set import prepare_shapes


@pytest.mark.slow
def test_two_clients_learn_masks_that_a_filled_box_is_not(tmp_path: Path) -> None:
    lists = prepare_shapes(tmp_path / "shapes", number=240) / "annotations"
    partition.main([f"--json_path={lists}", f"--output_path={lists / 'clients2'}", "--method=by-owner"])
    words = ["experiment=fedsam_small", f"data_dir={tmp_path}", "data.name=shapes", "rounds=4"]
    found = {row: [measure(row, 7, words, tmp_path / "rows")] for row in ("initial weights", "federated", "client 1")}
    result = found["federated"][0]
    assert result["intervals"]["iou"][0] > result["intervals"]["box_iou"][1] + 0.1
    assert result["iou"] > found["initial weights"][0]["iou"] + 0.3
    assert json.loads((tmp_path / "rows/client_1-seed7/run/clients.json").read_text()).keys() == {"0"}
    assert "| filled prompt box |" in table(found)
