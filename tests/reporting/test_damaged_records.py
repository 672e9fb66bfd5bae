"""A damaged line of a metrics.jsonl costs the report this line and nothing else."""

import json
from pathlib import Path

from fedvssl import report
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
