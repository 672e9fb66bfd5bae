"""Test a fine-tuned recognizer: evenly spread clips of every test video, mean of their logits, accuracies.

    python -m fedvssl.test test data_dir=data
    python -m fedvssl.test test data_dir=data checkpoint=finetune_results/best.pth work_dir=best_results devices=8
    python -m fedvssl.test test data_dir=data data.validation=0.2     with the videos that such a fine-tuning held out

Prints the table with 95 % intervals, and a warning if nearly all answers are the same class. Writes test.json,
predictions.csv, per_class.csv and confusion_matrix.png into the work_dir. A work_dir with a test of other settings,
such as another checkpoint or picture size, is refused.
"""

import sys

from fedvssl.early import answered

if __name__ == "__main__" and answered("test"):  # before PyTorch is imported, which takes seconds
    sys.exit()

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from fedvssl.building import build, build_task
from fedvssl.config import Config, read_command_line
from fedvssl.data.annotations import Annotation, class_names
from fedvssl.data.dataset import SampleDataset
from fedvssl.data.seen import seen_facts, seen_in, seen_words
from fedvssl.data.split import Split
from fedvssl.data.splits import labelled_videos, lists_digest
from fedvssl.data.validation import check_unseen, evaluated_videos, group_of, medium_of, part_facts
from fedvssl.evaluation.features import contents_digest
from fedvssl.evaluation.intervals import interval
from fedvssl.evaluation.prediction import predict, right_videos
from fedvssl.files.atomic import atomic_path, write_json
from fedvssl.files.backbone import load_weights, recognizer_state
from fedvssl.files.checkpoint import read_checkpoint
from fedvssl.files.ending import exit_code
from fedvssl.files.figures import save_figure
from fedvssl.files.given import given_file
from fedvssl.files.lock import owned
from fedvssl.files.predictions import PREDICTIONS_FILE, write_predictions
from fedvssl.files.progress import Progress
from fedvssl.files.results import CHECKPOINT, change_in, from_here, refuse_other
from fedvssl.overlaps import ObjectTest
from fedvssl.sweeping.comparison import ACCURACIES, aligned, clip_facts, clip_words, deciding, single, training_words
from fedvssl.training.loop import build_fabric
from fedvssl.training.metrics import accuracies, chance, class_accs, confusion_matrix, majority_class
from fedvssl.training.precision import checked_inference
from fedvssl.training.processes import check_devices, ending_together, where

TEST_FILE = "test.json"
WRITES = (TEST_FILE, PREDICTIONS_FILE, "per_class.csv", "confusion_matrix.*")
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
    check_devices(device=config["device"], devices=config["devices"])
    if "overlays" in config:  # a task that predicts objects and not classes
        return object_test(config).run()
    sample, data = build(config["test_sample"]), Split.of(config["data"])
    annotations, path = labelled_videos(data, "test"), given_file(config["checkpoint"], command="test")
    task, facts = load_recognizer(partial(build_task, config), path, data, annotations)
    dataset = SampleDataset(data.media_dir, annotations, sample)
    precision = checked_inference(
        config["precision"],
        device=config["device"],
        backbone=task.recognizer.backbone,
        dataset=dataset,
        warn=lambda line: print(line),
    )
    work_dir, settings = Path(config["work_dir"]), {"test_sample": config["test_sample"], "precision": precision}
    named = {"checkpoint": str(config["checkpoint"]), CHECKPOINT: from_here(config["checkpoint"], work_dir)}
    facts |= conditions_of(settings, data, dataset, checkpoint=named, num_classes=task.num_classes)
    refuse_other(work_dir / TEST_FILE, change_in(work_dir / TEST_FILE, deciding(facts), deciding))
    # The folder of a fine-tuning that still runs is refused: its test would be of an epoch on the way.
    with owned(work_dir, writes=WRITES):
        # Everything above is checked once; the line below starts the other processes.
        fabric = build_fabric(device=config["device"], devices=config["devices"], precision=precision)
        with ending_together(fabric):
            fabric.print(f"{evaluated_videos(facts, len(annotations))}, {where(fabric)}")
            progress = Progress(medium_of(facts), len(dataset), write=fabric.print)
            logits, labels = predict(
                fabric,
                task.to(fabric.device),
                dataset,
                batch_size=config["test_batch_size"],
                num_workers=config["num_workers"],
                report=progress.update if config["progress"] else None,
            )
            if fabric.is_global_zero:
                result = {**summarise(logits, labels, [group_of(video.name) for video in annotations]), **facts}
                print(table(result))
                if warning := same_answer(logits, labels, class_names(annotations), medium=medium_of(facts)):
                    print(warning)
                write_results(work_dir, result, logits, labels, annotations)


def object_test(config: Config) -> ObjectTest:
    """The test of a task that predicts objects.

    Raises:
        ValueError: if several devices are asked for.
    """
    if config["devices"] != 1:
        raise ValueError(f"devices={config['devices']}: a test of objects runs in one process, set devices=1.")
    decide = ("test_sample", "model", "seed")
    return ObjectTest(
        new_task=partial(build_task, config),
        sample=build(config["test_sample"]),
        data=Split.of(config["data"]),
        checkpoint=None if config["checkpoint"] is None else Path(config["checkpoint"]).expanduser(),
        work_dir=Path(config["work_dir"]),
        settings={name: config[name] for name in decide},
        **{name: config[name] for name in ("model", "seed", "overlays", "device", "precision", "num_workers")},
    )


def load_recognizer(
    new_task: Callable[[], Any], path: Path, data: Split, annotations: Sequence[Annotation]
) -> tuple[Any, dict[str, Any]]:
    """Recognizer of the checkpoint, on the CPU, and the entries of test.json about its training.

    Args:
        new_task: builds it with random weights.
        path: of the checkpoint.
        data: the split.
        annotations: its test or validation videos.

    Raises:
        ValueError: if there is no checkpoint, it is of another model, or has seen the videos to test with.
    """
    checkpoint = read_checkpoint(path).content
    check_unseen(checkpoint, data, path=path)
    seen = seen_facts(data, annotations, seen_in(checkpoint), checkpoint=path)
    task = new_task()
    load_weights(task.recognizer, recognizer_state(checkpoint, path=path), path=path)
    labels = checkpoint.get("settings", {}).get("labels_per_class")
    known = {name: checkpoint.get(name) for name in ("epoch", "training_samples", "train_list")}
    return task, {**known, "labels_per_class": labels, **seen}


def conditions_of(
    settings: dict[str, Any], data: Split, dataset: SampleDataset, *, checkpoint: dict[str, str], num_classes: int
) -> dict[str, Any]:
    """Entries of test.json about the videos and the settings; clips also apart.

    Args:
        settings: test_sample and precision, as they are recorded.
        data: the split.
        dataset: its test or validation videos.
        checkpoint: entries that name it.
        num_classes: of the recognizer.
    """
    return {
        "num_videos": len(dataset),
        "num_classes": num_classes,
        "dataset": data.name,
        "split": data.split,
        **part_facts(data, dataset.annotations),
        "lists": lists_digest({"test": dataset.annotations}),
        "media": contents_digest([dataset]),
        **clip_facts(settings),
        **checkpoint,
        "settings": settings,
    }


def summarise(logits: Tensor, labels: Tensor, groups: Sequence[str]) -> dict[str, Any]:
    """Entries of test.json that were measured: accuracies as fractions, intervals over groups, baselines."""
    right = right_videos(logits, labels)
    return {
        **asdict(accuracies(logits, labels)),
        "intervals": {name: interval(videos, groups) for name, videos in right.items()},
        "chance": asdict(chance(logits.shape[1])),
        "majority_class": asdict(majority_class(labels)),
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
        f"{clip_words(result)}{seen_words(result)}; {result['checkpoint']}{trained}{training_words(result)}"
    )


def same_answer(logits: Tensor, labels: Tensor, names: Mapping[int, str], *, medium: str) -> str | None:
    """Warning if one class is the answer to nearly every sample and not the class of most of them; else None."""
    answers = logits.argmax(dim=1)
    common = int(answers.mode().values)
    given, true = (float((some == common).double().mean()) for some in (answers, labels))
    if given < SAME_ANSWER or true >= RARE_CLASS:
        return None
    return (
        f"warning: {100 * given:.0f} % of the answers are {names.get(common, f'label {common}')}, the class of "
        f"{100 * true:.0f} % of the {medium}s: the recognizer hardly tells classes apart. Train it for longer."
    )


def write_results(
    work_dir: Path, result: dict[str, Any], logits: Tensor, labels: Tensor, annotations: Sequence[Annotation]
) -> None:
    """Write test.json, predictions.csv, per_class.csv (classes with videos), confusion_matrix.png and .pdf."""
    write_json(work_dir / TEST_FILE, result)
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
    """Draw the share of each true class's videos (row) that were classified as each class (column).

    Few classes have their numbers of videos in the cells.
    """
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    from fedvssl.files.matrices import MAX_WRITTEN, write_numbers

    size = min(4 + 0.25 * len(confusion), 16)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.add_subplot(xlabel="answer", ylabel="class")
    shares = confusion / confusion.sum(dim=1, keepdim=True).clamp(min=1)
    image = axes.imshow(shares.numpy(), vmin=0, vmax=1, cmap="Blues")
    right, whole = int(confusion.trace()), int(confusion.sum())
    axes.set_title(f"Answers by class: {right} of {whole} right ({100 * right / max(whole, 1):.1f} %)")
    if len(confusion) <= MAX_WRITTEN:
        write_numbers(axes, image, confusion.numpy())
    if len(names) <= MOST_CLASSES_WITH_NAMES:
        axes.set_xticks(list(names), list(names.values()), rotation=90, parse_math=False)  # a name may hold a $
        axes.set_yticks(list(names), list(names.values()), parse_math=False)
    figure.colorbar(image, ax=axes, label="share of the class", shrink=0.8)
    save_figure(figure, png, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
