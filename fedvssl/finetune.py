"""Fine-tune a recognizer on labelled videos, from a pre-trained backbone or from scratch.

    python -m fedvssl.finetune finetune data_dir=data pretrained=model_pretrained.pth
    python -m fedvssl.finetune finetune data_dir=data from_scratch=true work_dir=finetune_results_scratch
    python -m fedvssl.finetune finetune data_dir=data devices=8

The work_dir gets last.pth (model, optimizer, epoch), best.pth (the best test accuracy so far), metrics.jsonl,
TensorBoard scalars, loss.png, config.yaml and environment.json (machine, versions). A repeated command goes on after
last.pth and reaches the numbers of an uninterrupted run. With another kind or number of processors, or another
precision, they may differ, and a line says so.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from omegaconf import OmegaConf
from torch import Tensor, nn

from fedvssl.config import Config, build, build_task, check_numbers, read_command_line
from fedvssl.data.annotations import Annotation
from fedvssl.data.dataset import ClipDataset, train_loader
from fedvssl.data.splits import labelled_videos, split_list
from fedvssl.evaluation.prediction import predict
from fedvssl.files.atomic import atomic_path
from fedvssl.files.backbone import load_backbone
from fedvssl.files.environment import record_environment
from fedvssl.files.progress import Progress
from fedvssl.files.run_log import RunLog, plot_losses, speed
from fedvssl.files.settings import Settings, last_checkpoint, run_settings
from fedvssl.files.tensors import save_torch
from fedvssl.training.loop import build_fabric, seed_torch, set_up, train_epoch
from fedvssl.training.metrics import accuracies
from fedvssl.training.precision import checked_precision
from fedvssl.training.processes import (
    adopt_statistics,
    check_devices,
    ending_together,
    exit_code,
    reduce,
    synchronise_batch_norm,
    where,
)
from fedvssl.training.schedule import step_lr

# Settings that may change when a run is continued; for paths, the contents of the files are compared instead.
FREE = {
    *("work_dir", "data_dir", "pretrained", "data.media_dir", "data.annotation_dir"),
    *("device", "devices", "num_workers", "progress", "test_batch_size", "training.epochs", "training.eval_every"),
}
LEAST = {
    **{"seed": 0, "num_workers": 0, "test_batch_size": 1, "data.num_classes": 1, "dropout": 0.0},
    **{"training.epochs": 1, "training.batch_size": 1, "training.lr": 0.0, "training.momentum": 0.0},
    **{"training.weight_decay": 0.0, "training.gamma": 0.0, "training.max_norm": 0.0},
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return exit_code(lambda: finetune(read_command_line("finetune", argv)))


def finetune(config: Config) -> None:
    """Train for the configured epochs, or for the rest of them after an earlier start.

    Raises:
        ValueError: for a user's mistake, before the training starts if possible.
    """
    check(config)
    videos = {part: labelled_videos(config["data"], part) for part in ("train", "test")}
    settings = settings_of(config)
    last = last_checkpoint(Path(config["work_dir"]) / "last.pth", settings)
    module = build_recognition_task(config)
    dataset = part_dataset(config, "train", videos["train"], seed_key=(config["seed"],))
    precision = checked_precision(
        config["precision"], device=config["device"], task=module, dataset=dataset, warn=lambda line: print(line)
    )
    # Everything above is checked once; the line below starts the other processes.
    fabric = build_fabric(device=config["device"], devices=config["devices"], precision=precision)
    with ending_together(fabric):
        run = start(fabric, module, config, settings, videos)
        fabric.print(f"{len(videos['train'])} training and {len(videos['test'])} test videos, {where(fabric)}")
        if last is not None:
            run.restore(last)
        weights = "from scratch" if config["from_scratch"] else f"from {config['pretrained']}"
        fabric.print(f"{weights}; {run.done} of {config['training']['epochs']} epochs are done")
        run.train()
        fabric.print(f"All epochs are done: test {run.work_dir / 'last.pth'} with scripts/dist_test.sh")


def check(config: Config) -> None:
    """Raise a ValueError for settings that would fail later, perhaps after hours."""
    training, devices = config["training"], config["devices"]
    check_devices(device=config["device"], devices=devices)
    least = LEAST if training["eval_every"] is None else {**LEAST, "training.eval_every": 1}
    check_numbers(config, least, or_auto=["num_workers"])
    if not isinstance(training["steps"], list):
        raise ValueError(f"training.steps={training['steps']} must be a list of epochs, for example [60,120].")
    for name, value in {"from_scratch": config["from_scratch"], "training.compile": training["compile"]}.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value} must be true or false.")
    if (batch_size := training["batch_size"]) % devices:
        raise ValueError(f"training.batch_size={batch_size} does not divide over {devices} processes: use a multiple.")
    for part in ("train", "test"):
        build(config[f"{part}_sample"])


def settings_of(config: Config) -> Settings:
    """Settings that an earlier start in the same work_dir must have shared.

    Raises:
        ValueError: if the pre-trained backbone is needed and missing.
    """
    files = {f"{part} list": split_list(config["data"], part) for part in ("train", "test")}
    if not config["from_scratch"]:
        files["pretrained"] = Path(config["pretrained"])
        if not files["pretrained"].is_file():
            raise ValueError(
                f"No pre-trained backbone {config['pretrained']}: write it with fedvssl.finetune_preprocess, "
                "name another with pretrained=<file>, or set from_scratch=true."
            )
    return run_settings(config, free=FREE, files=files)


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


def part_dataset(config: Config, part: str, videos: list[Annotation], *, seed_key: tuple[int, ...] = ()) -> ClipDataset:
    """The clips of one part, "train" or "test"."""
    return ClipDataset(Path(config["data"]["media_dir"]), videos, build(config[f"{part}_sample"]), seed_key=seed_key)


def start(
    fabric: Fabric, module: nn.Module, config: Config, settings: Settings, videos: dict[str, list[Annotation]]
) -> "Run":
    """Wrap the module for this device and these processes."""
    training = config["training"]
    module = synchronise_batch_norm(fabric, module)
    wanted = {name: training[name] for name in ("lr", "momentum", "weight_decay")}
    task, optimizer = set_up(fabric, module, compiled=training["compile"], **wanted)
    return Run(config, settings, videos, fabric, task, optimizer)


@dataclass
class Run:
    """One fine-tuning run: `done` epochs so far, the best top-1 accuracy (a fraction) of its evaluations."""

    config: Config
    settings: Settings
    videos: dict[str, list[Annotation]]
    fabric: Fabric
    task: Any  # wrapped by Fabric
    optimizer: Any
    done: int = 0
    best_top1_acc: float = -1.0

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
        if main_process:
            with atomic_path(self.work_dir / "config.yaml") as temporary:
                OmegaConf.save(OmegaConf.create(self.config), temporary)
            if self.done < training["epochs"]:
                record_environment(self.work_dir, done=self.done)
        progress = Progress("epoch", training["epochs"], done=self.done, write=self.fabric.print, every_seconds=0)
        while self.done < training["epochs"]:
            record = self.one_epoch()
            progress.update(self.done, summary(record))
            if log is not None:
                log.write(record)
                self.save(record)
        if log is not None:
            log.close()
            plot_losses(log.path, self.work_dir / "loss.png")

    def one_epoch(self) -> dict[str, float]:
        """Train over the training videos once and evaluate if it is due. Returns the record of the epoch."""
        training = self.config["training"]
        lr = step_lr(training["lr"], steps=training["steps"], gamma=training["gamma"], position=self.done)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        record = {"epoch": self.done + 1, "lr": lr, **self.train_once()}
        self.done += 1
        if self.done % (training["eval_every"] or training["epochs"]) == 0 or self.done == training["epochs"]:
            record |= {f"test_{name}": value for name, value in self.evaluate().items()}
        return record

    def train_once(self) -> dict[str, float]:
        """Train one epoch. Returns means per clip and the speed over all processes, and this process's seconds."""
        seed, rank = self.config["seed"], self.fabric.global_rank
        dataset = part_dataset(self.config, "train", self.videos["train"], seed_key=(seed, 0, 0, self.done))
        loader = train_loader(
            dataset,
            batch_size=self.config["training"]["batch_size"],
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
            max_norm=self.config["training"]["max_norm"],
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
        """Accuracies (fractions) on the test videos."""
        dataset = part_dataset(self.config, "test", self.videos["test"])
        progress = Progress("  test video", len(dataset), write=self.fabric.print)
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
        """Write last.pth, and best.pth if this epoch's evaluation is the best so far."""
        state = {"model": self.task.module.recognizer.state_dict(), "epoch": self.done}
        state |= {"settings": self.settings, "where": where(self.fabric)}
        if record.get("test_top1_acc", -1.0) > self.best_top1_acc:
            self.best_top1_acc = record["test_top1_acc"]
            save_torch(self.work_dir / "best.pth", state)
        rest = {"optimizer": self.optimizer.state_dict(), "best_top1_acc": self.best_top1_acc}
        save_torch(self.work_dir / "last.pth", {**state, **rest})


def summary(record: dict[str, float]) -> str:
    """ "loss 2.31  top-1 41.2 %  7.9 clips/s  test top-1 38.0 %" """
    words = [f"loss {record['loss']:.3f}", f"top-1 {100 * record['top1_acc']:.1f} %"]
    words.append(speed(record))
    if "test_top1_acc" in record:
        words.append(f"test top-1 {100 * record['test_top1_acc']:.1f} %")
    return "  ".join(words)


if __name__ == "__main__":
    sys.exit(main())
