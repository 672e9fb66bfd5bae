"""Fine-tune a recognizer on labelled videos, from a pre-trained backbone or from scratch.

    python -m fedvssl.finetune finetune data_dir=data pretrained=model_pretrained.pth
    python -m fedvssl.finetune finetune data_dir=data from_scratch=true work_dir=finetune_results_scratch
    python -m fedvssl.finetune finetune data_dir=data devices=8

The work_dir gets last.pth (model, optimizer, epoch), metrics.jsonl, TensorBoard scalars, loss.png, config.yaml and
environment.json (machine, versions). With data.validation=0.2 every fifth training video is held out, and best.pth is
the epoch with the best accuracy on these. Without it, as published, the accuracy on the test list is only reported.

A repeated command goes on after last.pth. On a CPU in float32 or bfloat16 it reaches the numbers of an uninterrupted
run. On a GPU, whose sums have no fixed order, and with 16-mixed, whose scale of the loss starts anew, they may differ a
little, as with another kind or number of processors, of which a line tells.
"""

import sys

from fedvssl.early import answered

if __name__ == "__main__" and answered("finetune"):  # before PyTorch is imported, which takes seconds
    sys.exit()

import os
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric
from omegaconf import OmegaConf
from torch import nn

from fedvssl.building import build, build_optimizer, build_task
from fedvssl.config import Config, read_command_line
from fedvssl.data.annotations import Annotation
from fedvssl.data.dataset import SampleDataset
from fedvssl.data.seen import FINETUNING, for_pth, merged, record_of_start, seen_facts, seen_videos
from fedvssl.data.split import Split
from fedvssl.data.splits import (
    few_labels,
    labelled_videos,
    numbers_of_videos,
    refuse_shared,
    trained_on,
    unused_classes,
)
from fedvssl.files.arrays import Arrays
from fedvssl.files.atomic import atomic_path
from fedvssl.files.backbone import load_backbone
from fedvssl.files.ending import exit_code
from fedvssl.files.environment import ENVIRONMENT_FILE
from fedvssl.files.given import given_file
from fedvssl.files.lock import owned
from fedvssl.files.run_log import METRICS_FILE, RunLog
from fedvssl.files.settings import last_checkpoint, run_settings
from fedvssl.finetune_epochs import Recipe, Run, seeded
from fedvssl.preflight import Trial, check_finetuning, expected_report
from fedvssl.run_words import words_of
from fedvssl.training.batches import check_list
from fedvssl.training.loop import build_fabric, seed_torch, set_up
from fedvssl.training.precision import checked_precision, first_features
from fedvssl.training.processes import ending_together, synchronise_batch_norm, where

WRITES = ("last.pth", "best.pth", METRICS_FILE, "loss.png", "config.yaml", ENVIRONMENT_FILE)
# Settings that may change when a run is continued; for paths, the contents of the files are compared instead.
FREE = {
    *("work_dir", "data_dir", "pretrained", "data.media_dir", "data.annotation_dir", "data.allow_test_videos"),
    "data.train_list",
    *("device", "devices", "num_workers", "progress", "test_batch_size"),
    *("training.epochs", "training.eval_every", "training.warn_after"),
}

EVALUATED = ("test_", "validation_")  # begin the names of accuracies in the records


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return exit_code(lambda: finetune(read_command_line("finetune", argv)))


def finetune(config: Config) -> None:
    """Train for the configured epochs, or for the rest of them after an earlier start.

    Raises:
        ValueError: for a user's mistake, before the training starts if possible.
    """
    check_finetuning(config)
    data, seed, training = Split.of(config["data"]), config["seed"], config["training"]
    pretrained = None if config["from_scratch"] else str(config["pretrained"])
    videos = {part: labelled_videos(data, part) for part in ("train", "test")}
    videos["train"] = few_labels(videos["train"], config["labels_per_class"], seed=seed)
    settings = run_settings(config, free=FREE, files=files_read(data, pretrained))
    seen = videos_seen(data, videos, pretrained)
    module = build_recognition_task(partial(build_task, config), pretrained=pretrained, seed=seed)
    recipe, new_optimizer = Recipe.of(training), partial(build_optimizer, training)
    check_list(module, len(videos["train"]), batch_size=training["batch_size"], world_size=config["devices"])
    new_optimizer(module, on_gpu=False)  # a mistake in its settings shows here
    clips = {p: SampleDataset(data.media_dir, own, build(config[f"{p}_sample"])) for p, own in videos.items()}
    first_features(module.recognizer.backbone.eval(), clips["test"], device="cpu")
    first = seeded(clips["train"], seed)
    try_step(module, first)
    precision = checked_precision(config["precision"], device=config["device"], task=module, dataset=first, warn=print)
    with owned(work_dir := Path(config["work_dir"]), writes=WRITES):
        last = last_checkpoint(work_dir / "last.pth", settings)
        # Everything above is checked once; the line below starts the other processes.
        fabric = build_fabric(device=config["device"], devices=config["devices"], precision=precision)
        with ending_together(fabric):
            wrapped = wrap(fabric, module, new_optimizer, compiled=training["compile"])
            constant = {"settings": settings, "where": where(fabric), **for_pth(seen), **trained_on(data, videos)}
            loading = {name: config[name] for name in ("num_workers", "test_batch_size", "progress")}
            run = Run(recipe, clips, data.test_part, work_dir, constant, fabric, *wrapped, seed=seed, **loading)
            fabric.print(f"{numbers_of_videos(data, videos)}{unused_classes(data, videos)}, {where(fabric)}")
            if last is not None:
                run.restore(last)
            weights = "from scratch" if pretrained is None else f"from {pretrained}"
            fabric.print(f"{weights}; {run.done} of {recipe.epochs} epochs are done")
            log = RunLog(work_dir, position="epoch", done=run.done) if fabric.is_global_zero else None
            if log is not None:
                with atomic_path(work_dir / "config.yaml") as temporary:
                    OmegaConf.save(OmegaConf.create(config), temporary)
            run.train(log)
            chosen = work_dir / ("last.pth" if data.validation is None else "best.pth")
            words = [f"checkpoint={chosen}", f"work_dir={work_dir}", *words_of(config, "test")]
            fabric.print(f"All epochs are done; the test: python -m fedvssl.test test {shlex.join(words)}")


def files_read(data: Split, pretrained: str | None) -> dict[str, Path]:
    """Input files that an earlier start in the same work_dir must have shared.

    Raises:
        ValueError: if the pre-trained backbone is needed and missing.
    """
    if pretrained is None:
        return data.lists_read()
    return {**data.lists_read(), "pretrained": given_file(pretrained, command="finetune")}


def videos_seen(data: Split, videos: dict[str, list[Annotation]], pretrained: str | None) -> Arrays:
    """The record of the videos of this training and of the one that it starts from, see `fedvssl.data.seen`.

    Raises:
        ValueError: if the videos to evaluate on are among them and data.allow_test_videos is false.
    """
    before = record_of_start(None if pretrained is None else Path(pretrained))
    seen_facts(data, videos["test"], before, checkpoint=pretrained and Path(pretrained))
    refuse_shared(data, videos)
    allowed = videos["test"] if data.allow_test_videos else []
    return merged(before, seen_videos(data.name, videos["train"], stage=FINETUNING, allowed=allowed))


def build_recognition_task(new_task: Callable[[], Any], *, pretrained: str | None, seed: int) -> Any:
    """The recognizer with its initial weights, on the CPU.

    Args:
        new_task: builds it with random weights.
        pretrained: file of its backbone; None for training from scratch.
        seed: of the random weights.

    Raises:
        ValueError: if the pre-trained file is not a backbone of this shape.
    """
    seed_torch((seed, 0, 0, 0))
    task = new_task()
    if pretrained is not None:
        load_backbone(task.recognizer.backbone, Path(pretrained))
    return task


def try_step(task: Any, clips: SampleDataset) -> None:
    """Make a step on the first and the last training video, in the first process only; the task is not changed.

    Raises:
        ValueError: if a video is damaged, the task cannot make a step, or uses a name of a metric that is taken.
    """
    if int(os.environ.get("LOCAL_RANK", 0)) > 0:
        return  # the first process has passed this before it started the others
    videos = [clips.annotations[0], clips.annotations[-1]]
    two = SampleDataset(clips.media_dir, videos, clips.sample, seed_key=clips.seed_key)
    for index in range(len(two)):
        two[index]  # a damaged video is no fault of the task
    report = expected_report(Trial(task, two))
    for name in report.names:
        if name.startswith(EVALUATED):
            raise ValueError(f"The task reports a metric '{name}', a name that is taken: give it another one.")


def wrap(fabric: Fabric, module: nn.Module, new_optimizer: Callable[..., Any], *, compiled: bool) -> tuple[Any, Any]:
    """Wrap the module and its optimizer for this device and these processes."""
    module = synchronise_batch_norm(fabric, module)
    return set_up(fabric, module, new_optimizer(module, on_gpu=fabric.device.type == "cuda"), compiled=compiled)


if __name__ == "__main__":
    sys.exit(main())
