"""Fine-tune a recognizer on labelled videos, from a pre-trained backbone or from scratch.

    python -m fedvssl.finetune finetune data_dir=data pretrained=model_pretrained.pth
    python -m fedvssl.finetune finetune data_dir=data from_scratch=true work_dir=finetune_results_scratch
    python -m fedvssl.finetune finetune data_dir=data devices=8

The work_dir gets last.pth (model, optimizer, epoch), metrics.jsonl, TensorBoard scalars, loss.png, config.yaml and
environment.json (machine, versions). With data.validation=0.2 every fifth training video is held out, and best.pth is
the epoch with the best accuracy on these. Without it, as published, the accuracy on the test list is only reported.

A repeated command goes on after last.pth and reaches the numbers of an uninterrupted run. With another kind or number
of processors, or another precision, they may differ, and a line says so.
"""

import sys

from fedvssl.help import show_help

if __name__ == "__main__" and show_help("finetune"):  # before PyTorch is imported, which takes seconds
    sys.exit()

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from omegaconf import OmegaConf
from torch import Tensor, nn

from fedvssl.building import build, build_optimizer, build_task
from fedvssl.config import Config, read_command_line
from fedvssl.data.annotations import Annotation
from fedvssl.data.dataset import SampleDataset, train_loader
from fedvssl.data.seen import FINETUNING, for_pth, may_see_tests, merged, read_seen, seen_facts, seen_videos
from fedvssl.data.splits import labelled_videos, lists_read, numbers_of_videos, refuse_shared, test_part
from fedvssl.evaluation.intervals import wilson
from fedvssl.evaluation.prediction import predict
from fedvssl.files.arrays import Arrays
from fedvssl.files.atomic import atomic_path
from fedvssl.files.backbone import load_backbone
from fedvssl.files.environment import ENVIRONMENT_FILE, record_environment
from fedvssl.files.lock import owned
from fedvssl.files.progress import Progress
from fedvssl.files.run_log import METRICS_FILE, RunLog, plot_losses, speed
from fedvssl.files.settings import Settings, last_checkpoint, run_settings
from fedvssl.files.tensors import save_torch
from fedvssl.preflight import check_finetuning
from fedvssl.training.loop import build_fabric, seed_torch, set_up, train_epoch
from fedvssl.training.metrics import accuracies
from fedvssl.training.precision import checked_precision
from fedvssl.training.processes import (
    adopt_statistics,
    ending_together,
    exit_code,
    reduce,
    synchronise_batch_norm,
    where,
)
from fedvssl.training.schedule import Schedule, warm_up
from fedvssl.training.watch import Watch, beside_trivial

Videos = dict[str, list[Annotation]]  # of the parts "train" and "test"
WRITES = ("last.pth", "best.pth", METRICS_FILE, "loss.png", "config.yaml", ENVIRONMENT_FILE)
# Settings that may change when a run is continued; for paths, the contents of the files are compared instead.
FREE = {
    *("work_dir", "data_dir", "pretrained", "data.media_dir", "data.annotation_dir", "data.allow_test_videos"),
    *("device", "devices", "num_workers", "progress", "test_batch_size"),
    *("training.epochs", "training.eval_every", "training.warn_after"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return exit_code(lambda: finetune(read_command_line("finetune", argv)))


def finetune(config: Config) -> None:
    """Train for the configured epochs, or for the rest of them after an earlier start.

    Raises:
        ValueError: for a user's mistake, before the training starts if possible.
    """
    check_finetuning(config)
    videos = {part: labelled_videos(config["data"], part) for part in ("train", "test")}
    settings, seen = settings_of(config), videos_seen(config, videos)
    module = build_recognition_task(config)
    build_optimizer(config["training"], module, on_gpu=False)  # a mistake in its settings shows here
    clips = dataset_of(config, "train", videos["train"], seed_key=(config["seed"],))
    precision = checked_precision(config["precision"], device=config["device"], task=module, dataset=clips, warn=print)
    with owned(work_dir := Path(config["work_dir"]), writes=WRITES):
        last = last_checkpoint(work_dir / "last.pth", settings)
        # Everything above is checked once; the line below starts the other processes.
        fabric = build_fabric(device=config["device"], devices=config["devices"], precision=precision)
        with ending_together(fabric):
            run = start(fabric, module, config, settings, videos)
            run.seen = for_pth(seen)
            fabric.print(f"{numbers_of_videos(config['data'], videos)}, {where(fabric)}")
            if last is not None:
                run.restore(last)
            weights = "from scratch" if config["from_scratch"] else f"from {config['pretrained']}"
            fabric.print(f"{weights}; {run.done} of {config['training']['epochs']} epochs are done")
            run.train()
            chosen = run.work_dir / ("last.pth" if config["data"]["validation"] is None else "best.pth")
            fabric.print(f"All epochs are done: test {chosen} with scripts/dist_test.sh")


def settings_of(config: Config) -> Settings:
    """Settings that an earlier start in the same work_dir must have shared.

    Raises:
        ValueError: if the pre-trained backbone is needed and missing.
    """
    files = lists_read(config["data"])
    if not config["from_scratch"]:
        files["pretrained"] = Path(config["pretrained"])
        if not files["pretrained"].is_file():
            raise ValueError(
                f"No pre-trained backbone {config['pretrained']}: write it with fedvssl.finetune_preprocess, "
                "name another with pretrained=<file>, or set from_scratch=true."
            )
    return run_settings(config, free=FREE, files=files)


def videos_seen(config: Config, videos: Videos) -> Arrays:
    """The record of the videos of this training and of the one that it starts from, see `fedvssl.data.seen`.

    Raises:
        ValueError: if the videos to evaluate on are among them and data.allow_test_videos is false.
    """
    data, pretrained = config["data"], Path(config["pretrained"])
    before = {} if config["from_scratch"] else read_seen(pretrained)
    seen_facts(data, videos["test"], before, checkpoint=pretrained)
    refuse_shared(data, videos)
    allowed = videos["test"] if may_see_tests(data) else []
    return merged(before, seen_videos(data, videos["train"], stage=FINETUNING, allowed=allowed))


def build_recognition_task(config: Config) -> Any:
    """The recognizer with its initial weights, on the CPU.

    Raises:
        ValueError: if the pre-trained file is not a backbone of this shape.
    """
    seed_torch((config["seed"], 0, 0, 0))
    task = build_task(config)
    if not config["from_scratch"]:
        load_backbone(task.recognizer.backbone, Path(config["pretrained"]))
    return task


def dataset_of(config: Config, part: str, videos: list[Annotation], *, seed_key: tuple[int, ...] = ()) -> SampleDataset:
    """The clips of one part, "train" or "test"."""
    return SampleDataset(Path(config["data"]["media_dir"]), videos, build(config[f"{part}_sample"]), seed_key=seed_key)


def start(fabric: Fabric, module: nn.Module, config: Config, settings: Settings, videos: Videos) -> "Run":
    """Wrap the module for this device and these processes."""
    training = config["training"]
    module = synchronise_batch_norm(fabric, module)
    optimizer = build_optimizer(training, module, on_gpu=fabric.device.type == "cuda")
    task, optimizer = set_up(fabric, module, optimizer, compiled=training["compile"])
    return Run(config, settings, videos, fabric, task, optimizer, schedule=build(training["schedule"]))


@dataclass
class Run:
    """One fine-tuning run: `done` epochs so far, the best top-1 accuracy (a fraction) on validation videos."""

    config: Config
    settings: Settings
    videos: Videos
    fabric: Fabric
    task: Any  # wrapped by Fabric
    optimizer: Any
    schedule: Schedule
    done: int = 0
    best_top1_acc: float = -1.0  # as long as there is none
    seen: dict[str, Tensor] = field(default_factory=dict)  # record of its videos, for the checkpoints

    @property
    def work_dir(self) -> Path:
        return Path(self.config["work_dir"])

    def restore(self, last: dict[str, Any]) -> None:
        if last["where"] != where(self.fabric):
            self.fabric.print(f"The epochs so far ran on {last['where']}: from here on the numbers may differ.")
        self.task.module.recognizer.load_state_dict(last["model"])
        self.optimizer.load_state_dict(last["optimizer"])
        self.done, self.best_top1_acc = last["epoch"], last["best_top1_acc"]

    def train(self) -> None:
        """Train the remaining epochs; write a record and a checkpoint after each."""
        training, main_process = self.config["training"], self.fabric.is_global_zero
        log = RunLog(self.work_dir, position="epoch", done=self.done) if main_process else None
        watch = Watch("epoch", training["warn_after"], warn=self.fabric.print)
        if main_process:
            with atomic_path(self.work_dir / "config.yaml") as temporary:
                OmegaConf.save(OmegaConf.create(self.config), temporary)
            if self.done < training["epochs"]:
                record_environment(self.work_dir, done=self.done)
        progress = Progress("epoch", training["epochs"], done=self.done, write=self.fabric.print, every_seconds=0)
        while self.done < training["epochs"]:
            record = self.one_epoch()
            progress.update(self.done, summary(record, num_evaluated=len(self.videos["test"])))
            watch(record, position=self.done)
            if log is not None:
                log.write(record)
                self.save(record)
        if log is not None:
            log.close()
            plot_losses(log.path, self.work_dir / "loss.png")

    def one_epoch(self) -> dict[str, float]:
        """Train over the training videos once and evaluate if it is due. Returns the record of the epoch."""
        training = self.config["training"]
        factor = self.schedule(self.done)
        record = {"epoch": self.done + 1, "lr": training["optimizer"]["lr"] * factor, **self.train_once(factor)}
        self.done += 1
        if self.done % (training["eval_every"] or training["epochs"]) == 0 or self.done == training["epochs"]:
            part = test_part(self.config["data"])
            record |= {f"{part}_{name}": value for name, value in self.evaluate().items()}
        return record

    def train_once(self, factor: float) -> dict[str, float]:
        """Train with `factor` times the learning rates; means per clip and speed of all processes, own seconds."""
        seed, rank, training = self.config["seed"], self.fabric.global_rank, self.config["training"]
        dataset = dataset_of(self.config, "train", self.videos["train"], seed_key=(seed, 0, 0, self.done))
        loader = train_loader(
            dataset,
            batch_size=training["batch_size"],
            num_workers=self.config["num_workers"],
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
            max_norm=training["max_norm"],
            lr_factor=lambda step: factor * warm_up(self.done * len(loader) + step, training["warmup_steps"]),
            report=report if self.config["progress"] else None,
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
        """Accuracies (fractions) on the test or validation videos."""
        dataset = dataset_of(self.config, "test", self.videos["test"])
        progress = Progress(f"  {test_part(self.config['data'])} video", len(dataset), write=self.fabric.print)
        logits, labels = predict(
            self.fabric,
            self.task.module,
            dataset,
            batch_size=self.config["test_batch_size"],
            num_workers=self.config["num_workers"],
            report=progress.update if self.config["progress"] else None,
        )
        return asdict(accuracies(logits, labels))

    def save(self, record: dict[str, float]) -> None:
        """Write last.pth, and best.pth if this epoch's accuracy on validation videos is the best so far."""
        state = {"model": self.task.module.recognizer.state_dict(), "epoch": self.done}
        state |= {"settings": self.settings, "where": where(self.fabric), **self.seen}
        if record.get("validation_top1_acc", -1.0) > self.best_top1_acc:
            self.best_top1_acc = record["validation_top1_acc"]
            save_torch(self.work_dir / "best.pth", state)
        rest = {"optimizer": self.optimizer.state_dict(), "best_top1_acc": self.best_top1_acc}
        save_torch(self.work_dir / "last.pth", {**state, **rest})


def summary(record: dict[str, float], *, num_evaluated: int) -> str:
    """ "loss 2.310 (chance 4.615)  top-1 41.2 %  7.9 samples/s  test top-1 38.0 % [30.1, 46.6]" """
    words = [beside_trivial(record), f"top-1 {100 * record['top1_acc']:.1f} %", speed(record)]
    for part in ("validation", "test"):
        if (acc := record.get(f"{part}_top1_acc")) is not None:
            low, high = wilson(acc, num_evaluated)
            words.append(f"{part} top-1 {100 * acc:.1f} % [{100 * low:.1f}, {100 * high:.1f}]")
    return "  ".join(words)


if __name__ == "__main__":
    sys.exit(main())
