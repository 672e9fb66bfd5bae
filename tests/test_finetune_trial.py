"""Fine-tuning with a task of somebody's own: a step on two videos tells its mistakes before the work."""

from pathlib import Path

import pytest
import torch

from fedvssl import finetune
from fedvssl.data.annotations import Annotation
from fedvssl.files.run_log import read_records
from fedvssl.tasks.recognition import RecognitionTask
from fedvssl.tasks.task import Batch
from tests.action_set import TINY, write_action_set

STEPS: list[int] = []  # clips of each step


class Own(RecognitionTask):
    """A task with a metric of somebody's own instead of the accuracy."""

    def __init__(self, *args, metric: str, **settings) -> None:
        super().__init__(*args, **settings)
        self.metric = metric

    def forward(self, batch: Batch) -> Batch:
        STEPS.append(len(batch["index"]))
        loss = super().forward(batch)["loss"]
        return {"loss": loss, self.metric: loss[0] if self.metric == "broken" else loss.detach()}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_action_set(tmp_path_factory.mktemp("data"))


def run(data_dir: Path, work_dir: Path, *, metric: str) -> int:
    STEPS.clear()
    own = [f"task.module._target_={__name__}.Own", f"+task.module.metric={metric}", "from_scratch=true"]
    words = [*TINY, *own, f"data_dir={data_dir}", f"work_dir={work_dir}", "training.epochs=1", "precision=32-true"]
    return finetune.main(["finetune", *words])


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        ("broken", "Own fails in a step on {first} and {last}: IndexError: invalid index"),
        ("lr", "The task reports a metric 'lr', a name that is taken: give it another one."),
        ("num_clips", "The task reports a metric 'num_clips', a name that is taken"),
        ("test_top1_acc", "The task reports a metric 'test_top1_acc', a name that is taken"),
    ],
)
def test_a_mistake_in_a_task_is_told_before_the_work(metric, sentence, data_dir, tmp_path, capsys, monkeypatch):
    seen: list[list[Annotation]] = []
    trial = finetune.expected_report
    monkeypatch.setattr(
        finetune, "expected_report", lambda tried: (seen.append(tried.dataset.annotations), trial(tried))[1]
    )
    assert run(data_dir, tmp_path, metric=metric) == 2
    ((first, last),) = seen
    assert f"error: {sentence.format(first=first.name, last=last.name)}" in capsys.readouterr().err
    assert STEPS == [2] and first.label != last.label and not list(tmp_path.iterdir())


def test_the_trial_is_one_small_step_that_changes_nothing(data_dir, tmp_path, monkeypatch):
    assert run(data_dir, tmp_path / "tried", metric="own") == 0
    assert STEPS[0] == 2 and len(STEPS) > 1
    steps = list(STEPS)
    monkeypatch.setenv("LOCAL_RANK", "1")
    finetune.try_step(None, None)  # not in another process
    monkeypatch.delenv("LOCAL_RANK")
    monkeypatch.setattr(finetune, "try_step", lambda *_: None)
    assert run(data_dir, tmp_path / "untried", metric="own") == 0 and steps[1:] == STEPS
    one, other = (torch.load(tmp_path / name / "last.pth", weights_only=True)["model"] for name in ("tried", "untried"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    (record,) = read_records(tmp_path / "tried/metrics.jsonl", position="epoch")
    assert record["own"] == record["loss"] and "top1_acc" not in record
