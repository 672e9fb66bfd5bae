"""Test a fine-tuned recognizer: evenly spread clips of every test video, mean of their logits, accuracies.

    python -m fedvssl.test test data_dir=data
    python -m fedvssl.test test data_dir=data checkpoint=finetune_results/best.pth devices=8
    python -m fedvssl.test test data_dir=data data.validation=0.2     with the videos that such a fine-tuning held out

Prints the table with 95 % intervals, and a warning if nearly all answers are the same class. Writes test.json,
predictions.csv, per_class.csv and confusion_matrix.png into the work_dir.
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from fedvssl.config import Config, build, build_task, check_numbers, read_command_line
from fedvssl.data.annotations import Annotation, class_names
from fedvssl.data.dataset import ClipDataset
from fedvssl.data.splits import labelled_videos
from fedvssl.data.validation import check_unseen, evaluated_videos, part_facts
from fedvssl.evaluation.intervals import wilson
from fedvssl.evaluation.prediction import predict, right_videos
from fedvssl.evaluation.protocol import fractions
from fedvssl.files.atomic import atomic_path, write_json
from fedvssl.files.backbone import load_weights, recognizer_state
from fedvssl.files.lock import owned
from fedvssl.files.predictions import PREDICTIONS_FILE, write_predictions
from fedvssl.files.progress import Progress
from fedvssl.files.tensors import load_torch
from fedvssl.sweeping.comparison import ACCURACIES, aligned, single
from fedvssl.training.loop import build_fabric
from fedvssl.training.metrics import accuracies, chance, class_accs, confusion_matrix, majority_class
from fedvssl.training.precision import checked_inference
from fedvssl.training.processes import check_devices, ending_together, exit_code, where

WRITES = ("test.json", PREDICTIONS_FILE, "per_class.csv", "confusion_matrix.png")
LEAST = {"num_workers": 0, "test_batch_size": 1, "data.num_classes": 1}
SAME_ANSWER = 0.9  # share of the most frequent answer from which on the test warns,
RARE_CLASS = 0.5  # unless the class of this answer has at least this share of the videos
MOST_CLASSES_WITH_NAMES = 60  # more names than this cannot be read beside the confusion matrix


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return exit_code(lambda: run_test(read_command_line("test", argv)))


def run_test(config: Config) -> None:
    """Test one checkpoint.

    Raises:
        ValueError: for a missing or unfitting checkpoint, list or video, before the work starts.
    """
    check_numbers(config, LEAST, or_auto=["num_workers", "data.num_classes"])
    check_devices(device=config["device"], devices=config["devices"])
    sample = build(config["test_sample"])
    annotations = labelled_videos(config["data"], "test")
    task, epoch = load_recognizer(config)
    dataset = ClipDataset(Path(config["data"]["media_dir"]), annotations, sample)
    precision = checked_inference(
        config["precision"],
        device=config["device"],
        backbone=task.recognizer.backbone,
        dataset=dataset,
        warn=lambda line: print(line),
    )
    # The folder of a fine-tuning that still runs is refused: its test would be of an epoch on the way.
    with owned(Path(config["work_dir"]), writes=WRITES):
        # Everything above is checked once; the line below starts the other processes.
        fabric = build_fabric(device=config["device"], devices=config["devices"], precision=precision)
        with ending_together(fabric):
            part = part_facts(config["data"], annotations)
            fabric.print(f"{evaluated_videos(part, len(annotations))}, {where(fabric)}")
            progress = Progress("video", len(dataset), write=fabric.print)
            logits, labels = predict(
                fabric,
                task.to(fabric.device),
                dataset,
                batch_size=config["test_batch_size"],
                num_workers=config["num_workers"],
                report=progress.update if config["progress"] else None,
            )
            if fabric.is_global_zero:
                result = {**summarise(logits, labels, config=config, epoch=epoch), **part}
                print(table(result))
                if warning := same_answer(logits, labels, class_names(annotations)):
                    print(warning)
                write_results(Path(config["work_dir"]), result, logits, labels, annotations)


def load_recognizer(config: Config) -> tuple[Any, int | None]:
    """Recognizer of the checkpoint, on the CPU, and its number of epochs, if the checkpoint has it.

    Raises:
        ValueError: if there is no checkpoint, it is of another model, or has seen the validation videos.
    """
    path = Path(config["checkpoint"])
    if not path.is_file():
        raise ValueError(
            f"No checkpoint {path}: fine-tune first, or name one with checkpoint=<file> or work_dir=<folder>."
        )
    checkpoint = load_torch(path)
    check_unseen(checkpoint, config["data"], path=path)
    task = build_task(config)
    load_weights(task.recognizer, recognizer_state(checkpoint, path=path), path=path)
    return task, checkpoint.get("epoch")


def summarise(logits: Tensor, labels: Tensor, *, config: Config, epoch: int | None) -> dict[str, Any]:
    """Content of test.json: accuracies as fractions, intervals, baselines, and the conditions of the test."""
    num_classes, right = logits.shape[1], right_videos(logits, labels)
    return {
        **asdict(accuracies(logits, labels)),
        "intervals": {name: wilson(fraction, len(labels)) for name, fraction in fractions(right).items()},
        "chance": asdict(chance(num_classes)),
        "majority_class": asdict(majority_class(labels)),
        "num_videos": len(labels),
        "num_clips": config["test_sample"]["num_clips"],
        "num_classes": num_classes,
        "dataset": config["data"]["name"],
        "split": config["data"]["split"],
        "checkpoint": str(config["checkpoint"]),
        "epoch": epoch,
    }


def table(result: dict[str, Any]) -> str:
    """Accuracies in percent, next to their baselines: the most frequent class and guessing."""
    rows = {
        "recognizer": result,
        "majority class": result["majority_class"],
        f"chance (1/{result['num_classes']})": result["chance"],
    }
    trained = "" if result["epoch"] is None else f", epoch {result['epoch']}"
    return (
        f"{aligned(single(rows, ACCURACIES, {'recognizer': result['intervals']}), ACCURACIES)}\n"
        f"{evaluated_videos(result, result['num_videos'])} of {result['dataset']} split {result['split']}, "
        f"{result['num_clips']} clips each; {result['checkpoint']}{trained}"
    )


def same_answer(logits: Tensor, labels: Tensor, names: Mapping[int, str]) -> str | None:
    """Warning if one class is the answer to nearly every video and not the class of most of them; else None."""
    answers = logits.argmax(dim=1)
    common = int(answers.mode().values)
    given, true = (float((some == common).double().mean()) for some in (answers, labels))
    if given < SAME_ANSWER or true >= RARE_CLASS:
        return None
    return (
        f"warning: {100 * given:.0f} % of the answers are {names.get(common, f'label {common}')}, the class of "
        f"{100 * true:.0f} % of the videos: the recognizer hardly tells classes apart. Train it for longer."
    )


def write_results(
    work_dir: Path, result: dict[str, Any], logits: Tensor, labels: Tensor, annotations: Sequence[Annotation]
) -> None:
    """Write test.json, predictions.csv, per_class.csv (classes with videos) and confusion_matrix.png."""
    write_json(work_dir / "test.json", result)
    write_predictions(
        work_dir / PREDICTIONS_FILE,
        [annotation.name for annotation in annotations],
        labels=labels.tolist(),
        answers=logits.argmax(dim=1).tolist(),
        right=right_videos(logits, labels),
    )
    confusion, names = confusion_matrix(logits, labels), class_names(annotations)
    accs, videos = class_accs(confusion).tolist(), confusion.sum(dim=1).tolist()
    with (
        atomic_path(work_dir / "per_class.csv") as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        rows = csv.writer(file)
        rows.writerow(["class", "label", "num_videos", "top1_acc"])  # zero-based labels, as everywhere in Python
        rows.writerows([name, label, videos[label], f"{accs[label]:.4f}"] for label, name in names.items())
    draw_confusion(work_dir / "confusion_matrix.png", confusion, names)


def draw_confusion(png: Path, confusion: Tensor, names: dict[int, str]) -> None:
    """Draw the share of each true class's videos (row) that were classified as each class (column)."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    size = min(4 + 0.25 * len(confusion), 16)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.add_subplot(xlabel="answer", ylabel="class")
    shares = confusion / confusion.sum(dim=1, keepdim=True).clamp(min=1)
    image = axes.imshow(shares.numpy(), vmin=0, vmax=1, cmap="Blues")
    if len(names) <= MOST_CLASSES_WITH_NAMES:
        axes.set_xticks(list(names), list(names.values()), rotation=90)
        axes.set_yticks(list(names), list(names.values()))
    figure.colorbar(image, ax=axes, label="share of the class's videos", shrink=0.8)
    with atomic_path(png) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


if __name__ == "__main__":
    sys.exit(main())
