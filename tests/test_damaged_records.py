"""A damaged line of a metrics.jsonl costs a fine-tuning and a report this line and nothing else."""

import json
from pathlib import Path

import pytest

from fedvssl import finetune, report
from tests.action_set import TINY, write_action_set
from tests.run_folders import write_finetuning, write_pretraining


def damage(path: Path, *, line: int) -> dict:
    """Cut a line in the middle and return what it said."""
    lines = path.read_text().splitlines()
    lost, lines[line] = lines[line], lines[line][:20]
    path.write_text("\n".join(lines) + "\n")
    return json.loads(lost)


def test_the_page_has_all_other_rounds_and_epochs(tmp_path: Path) -> None:
    run, tuned = write_pretraining(tmp_path, evaluated=False), write_finetuning(tmp_path / "tuned")
    last_epoch = (tuned / "metrics.jsonl").read_text().splitlines()[-1]
    assert damage(run / "metrics.jsonl", line=4)["server_round"] == 2
    assert damage(tuned / "metrics.jsonl", line=0)["epoch"] == 1
    assert report.main([str(run), "--include", str(tuned)]) == 0
    page = (run / "report.html").read_text()
    assert f"{100 * json.loads(last_epoch)['test_top1_acc']:.1f}" in page
    assert "4 of 4" in page or "round 4" in page


@pytest.mark.usefixtures("drawn")
def test_a_fine_tuning_goes_on_with_all_other_epochs_and_draws_its_loss(tmp_path: Path) -> None:
    words = [*TINY, f"data_dir={write_action_set(tmp_path / 'data')}", f"work_dir={tmp_path}", "from_scratch=true"]
    path, plot = tmp_path / "metrics.jsonl", tmp_path / "loss.png"
    assert finetune.main(["finetune", *words]) == 0
    last = path.read_text().splitlines()[1]
    damage(path, line=0)
    plot.unlink()  # as after a kill
    assert finetune.main(["finetune", *words]) == 0
    assert path.read_text().splitlines() == [last] and plot.is_file()
    assert finetune.main(["finetune", *words, "training.epochs=3"]) == 0
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [2, 3]
