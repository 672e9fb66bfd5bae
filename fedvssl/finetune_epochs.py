"""Epochs of a fine-tuning run: training, evaluation, records and checkpoints."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor

from fedvssl.building import build
from fedvssl.data.dataset import NumWorkers, SampleDataset, train_loader
from fedvssl.data.validation import group_of, medium_in
from fedvssl.evaluation.intervals import interval
from fedvssl.evaluation.prediction import predict, right_videos
from fedvssl.files.environment import record_environment
from fedvssl.files.progress import Progress
from fedvssl.files.run_log import RunLog, plot_losses, speed
from fedvssl.files.tensors import save_torch
from fedvssl.training.batches import least_of
from fedvssl.training.loop import seed_torch, train_epoch
from fedvssl.training.metrics import accuracies
from fedvssl.training.processes import adopt_statistics, reduce, where
from fedvssl.training.schedule import Schedule, warm_up
from fedvssl.training.watch import Watch, beside_trivial


def seeded(clips: SampleDataset, *key: int) -> SampleDataset:
    """The same clips with random parameters of their own."""
    return SampleDataset(clips.media_dir, clips.annotations, clips.sample, seed_key=key)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of the training; conf/finetune.yaml describes them."""

    epochs: int
    batch_size: int
    lr: float
    schedule: Schedule
    warmup_steps: int
    max_norm: float
    warn_after: int
    eval_every: int | None

    @classmethod
    def of(cls, training: Mapping[str, Any]) -> "Recipe":
        """Read the section `training`."""
        parts = {"lr": training["optimizer"]["lr"], "schedule": build(training["schedule"])}
        return cls(**{field.name: training[field.name] for field in fields(cls) if field.name not in parts}, **parts)


@dataclass
class Run:
    """One fine-tuning run: `done` epochs so far, the best top-1 accuracy (a fraction) on validation videos.

    Args:
        recipe: settings of the training.
        clips: of the videos, "train" and "test".
        part: name of what is evaluated, "test" or "validation".
        work_dir: folder of the results.
        constant: entries of all checkpoints: settings, devices, record of the videos seen.
        fabric: gives device and precision, and joins the processes.
        task, optimizer: wrapped by Fabric.
        seed, num_workers, test_batch_size, progress: as in the configuration.
    """

    recipe: Recipe
    clips: dict[str, SampleDataset]
    part: str
    work_dir: Path
    constant: dict[str, Any]
    fabric: Fabric
    task: Any
    optimizer: Any
    seed: int
    num_workers: NumWorkers
    test_batch_size: int
    progress: bool
    done: int = 0
    best_top1_acc: float = -1.0  # as long as there is none

    def restore(self, last: dict[str, Any]) -> None:
        if last["where"] != where(self.fabric):
            self.fabric.print(f"The epochs so far ran on {last['where']}: from here on the numbers may differ.")
        self.task.module.recognizer.load_state_dict(last["model"])
        self.optimizer.load_state_dict(last["optimizer"])
        self.done, self.best_top1_acc = last["epoch"], last["best_top1_acc"]

    def train(self, log: RunLog | None) -> None:
        """Train the remaining epochs; write a record and a checkpoint after each if there is a log, in process 0."""
        recipe = self.recipe
        watch = Watch("epoch", recipe.warn_after, warn=self.fabric.print)
        if log is not None and self.done < recipe.epochs:
            record_environment(self.work_dir, done=self.done)
        progress = Progress("epoch", recipe.epochs, done=self.done, write=self.fabric.print, every_seconds=0)
        while self.done < recipe.epochs:
            record = self.one_epoch()
            progress.update(self.done, summary(record))
            watch(record, position=self.done)
            if log is not None:
                log.write(record)
                self.save(record)
        if log is not None:
            log.close()
            plot_losses(log.path, self.work_dir / "loss.png")

    def one_epoch(self) -> dict[str, float]:
        """Train over the training videos once and evaluate if it is due. Returns the record of the epoch."""
        recipe, factor = self.recipe, self.recipe.schedule(self.done)
        record = {"epoch": self.done + 1, "lr": recipe.lr * factor, **self.train_once(factor)}
        self.done += 1
        if self.done % (recipe.eval_every or recipe.epochs) == 0 or self.done == recipe.epochs:
            record |= {f"{self.part}_{name}": value for name, value in self.evaluate().items()}
        return record

    def train_once(self, factor: float) -> dict[str, float]:
        """Train one epoch with `factor` times the learning rates.

        Returns:
            means per clip and the speed over all processes, and this process's seconds.
        """
        recipe, seed, rank = self.recipe, self.seed, self.fabric.global_rank
        dataset = seeded(self.clips["train"], seed, 0, 0, self.done)
        loader = train_loader(
            dataset,
            batch_size=recipe.batch_size,
            least=least_of(self.task.module, world_size=self.fabric.world_size),
            num_workers=self.num_workers,
            rank=rank,
            world_size=self.fabric.world_size,
            on_gpu=self.fabric.device.type == "cuda",
        )
        progress = Progress("  step", len(loader), write=self.fabric.print)

        def report(step: int, steps: int, means: dict[str, Tensor]) -> None:
            if step < steps:
                progress.update(step, lambda: f"loss {means['loss']:.3f}")

        seed_torch((seed, 0, rank, self.done))  # dropout, different in each process
        result = train_epoch(
            self.fabric,
            self.task,
            self.optimizer,
            loader,
            max_norm=recipe.max_norm,
            lr_factor=lambda step: factor * warm_up(self.done * len(loader) + step, recipe.warmup_steps),
            report=report if self.progress else None,
        )
        adopt_statistics(self.fabric, self.task.module)
        means = reduce(self.fabric, torch.tensor(list(result.metrics.values())), how="mean").tolist()
        return {
            **dict(zip(result.metrics, means, strict=True)),
            "clips_per_second": result.clips_per_second * self.fabric.world_size,
            "data_share": result.data_share,
            "seconds_data": result.seconds_data,
            "seconds_compute": result.seconds_compute,
        }

    def evaluate(self) -> dict[str, float]:
        """Accuracies (fractions) on the test or validation videos, and the ends of the interval of "top1_acc"."""
        medium = medium_in(self.clips["test"].media_dir, self.clips["test"].annotations)
        progress = Progress(f"  {self.part} {medium}", len(self.clips["test"]), write=self.fabric.print)
        logits, labels = predict(
            self.fabric,
            self.task.module,
            self.clips["test"],
            batch_size=self.test_batch_size,
            num_workers=self.num_workers,
            report=progress.update if self.progress else None,
        )
        groups = [group_of(video.name) for video in self.clips["test"].annotations]
        low, high = interval(right_videos(logits, labels)["top1_acc"], groups)
        return {**asdict(accuracies(logits, labels)), "top1_acc_low": low, "top1_acc_high": high}

    def save(self, record: dict[str, float]) -> None:
        """Write last.pth, and best.pth if this epoch's accuracy on validation videos is the best so far."""
        state = {"model": self.task.module.recognizer.state_dict(), "epoch": self.done, **self.constant}
        if record.get("validation_top1_acc", -1.0) > self.best_top1_acc:
            self.best_top1_acc = record["validation_top1_acc"]
            save_torch(self.work_dir / "best.pth", state)
        rest = {"optimizer": self.optimizer.state_dict(), "best_top1_acc": self.best_top1_acc}
        save_torch(self.work_dir / "last.pth", {**state, **rest})


def summary(record: dict[str, float]) -> str:
    """ "loss 2.310 (chance 4.615)  top-1 41.2 %  7.9 samples/s  test top-1 38.0 % [30.1, 46.6]" """
    accuracy = [f"top-1 {100 * record['top1_acc']:.1f} %"] if "top1_acc" in record else []  # a task may report none
    words = [beside_trivial(record), *accuracy, speed(record)]
    for part in ("validation", "test"):
        if f"{part}_top1_acc" in record:
            acc, low, high = (100 * record[f"{part}_top1_acc{end}"] for end in ("", "_low", "_high"))
            words.append(f"{part} top-1 {acc:.1f} % [{low:.1f}, {high:.1f}]")
    return "  ".join(words)
