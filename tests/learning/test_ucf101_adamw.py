"""The recommended preset of UCF-101: it begins, is continued, and moves the weights; at full size on a GPU only."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fedvssl.config import compose
from fedvssl.files.run_log import METRICS_FILE, read_records
from fedvssl.main import run
from tests.federation import TINY, write_clients
from tests.videos import moving_square, write_frames

EXPERIMENT = (
    *("experiment=ucf101_adamw", "engine=local", "pool_size=2", "strategy.min_fit_clients=2"),
    "training.schedule.length=2",  # or the second start would be of another run
)


def continued(data_dir: Path, run_dir: Path, *words: str) -> list[dict]:
    """Records of two rounds, each by a start of its own; the first moves the weights and so does the second."""
    run_dir.mkdir()
    arrays = []
    for rounds in (1, 2):
        config = compose("base", [*EXPERIMENT, f"data_dir={data_dir}", *words, f"rounds={rounds}"])
        run(config, run_dir=run_dir)
        with np.load(run_dir / f"round-{rounds}-weights.npz") as file:
            arrays.append({name: file[name] for name in file.files if name.endswith("weight")})
    first, second = arrays
    assert first.keys() == second.keys() and any(np.any(first[name] != second[name]) for name in first)
    return [record for record in read_records(run_dir / METRICS_FILE) if "loss" in record]


def test_it_begins_and_is_continued_at_a_small_size(tmp_path: Path) -> None:
    write_clients(tmp_path / "data", (3, 4))
    small = [word for word in TINY if not word.startswith("rounds")]
    records = continued(tmp_path / "data", tmp_path / "run", *small)
    assert len(records) == 2 * (1 + 2) and all(math.isfinite(record["loss"]) for record in records)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_begins_and_is_continued_at_full_size(tmp_path: Path) -> None:
    write_clients(tmp_path / "data", (32, 32))
    for zip_file in (tmp_path / "data").rglob("*.zip"):
        write_frames(zip_file, moving_square(num_frames=90, height=144, width=192))
    torch.cuda.reset_peak_memory_stats()
    records = continued(tmp_path / "data", tmp_path / "run")
    assert all(math.isfinite(record["loss"]) and record["grad_norm"] > 0 for record in records)
    print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB, batches of 16 clips of 16x112x112")
