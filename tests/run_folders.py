"""Folders as a pre-training run, fine-tunings and evaluations leave them, without any training."""

import json
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import yaml
from matplotlib.figure import Figure

from data_tools.partition import write_partition
from fedvssl.config import compose
from fedvssl.data.annotations import Annotation
from fedvssl.data.partition import uniform
from fedvssl.files.environment import record_environment
from fedvssl.identity import claim, decisive_settings

NUM_CLIENTS, NUM_ROUNDS = 3, 4
EVALUATION = {
    **{"eval_R@1": 0.3, "eval_R@1_low": 0.2, "eval_R@1_high": 0.4},
    **{"eval_knn_top1_acc": 0.4, "eval_feature_std": 0.03, "eval_effective_rank": 20.0},
    **{"eval_motion_probe": 0.2, "seconds_eval": 2.5},
}
METRICS = {
    "retrieval": ("R@1", "R@5", "R@10", "R@20", "R@50"),
    "knn": ("k=1", "k=5", "k=20", "k=200"),
    "linear_probe": ("top1_acc", "top5_acc", "mean_class_acc"),
    "motion_probe": ("top1_acc",),
}


VERDICT = {
    "server_round": NUM_ROUNDS,
    "dataset": "ucf101",
    "num_test": 12,
    "pretext": {"loss": 1.0, "trivial_still": 2.0, "iou": 0.7, "iou_still": 0.5, "better": {"still": [0.9, 0.6, 1.0]}},
    "features": {name: {"eval_effective_rank": 5.0, "eval_feature_std": 0.4} for name in ("run", "random weights")},
    "verdict": "It has learned.",
}


def write_pretraining(folder: Path, *, evaluated: bool = True, overrides: tuple[str, ...] = ()) -> Path:
    """A finished run: configuration, partition, metrics, machine, and evaluations of its last round."""
    run, lists = folder / "pretraining", folder / "client_distribution"
    annotations = [Annotation(f"Class{n % 5}/v{n}", n % 5) for n in range(31)]
    write_partition(annotations, uniform([a.label for a in annotations], NUM_CLIENTS), lists)
    run.mkdir(parents=True)
    words = [f"pool_size={NUM_CLIENTS}", f"rounds={NUM_ROUNDS}", f"partition_dir={lists}", *overrides]
    config = compose("base", words)
    claim(run, decisive_settings(config))
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    records = [
        record for n in range(1, NUM_ROUNDS + 1) for record in round_records(n, evaluated=evaluated and n % 2 == 0)
    ]
    if evaluated:
        records.insert(0, {"server_round": 0, **EVALUATION, "eval_R@1": 0.123})
    write_lines(run / "metrics.jsonl", records)
    record_environment(run)
    if evaluated:
        for number in (2, 4):
            write_evaluations(run, f"round-{number}-weights", shift=number / 100)
        write_json(run / "verdict.json", VERDICT)
    return run


def round_records(number: int, *, evaluated: bool) -> list[dict]:
    """The records of one round, with the names that fedvssl.server_app gives."""
    seconds = {"seconds_data": 0.5, "seconds_compute": 3.0, "seconds_on_client": 4.0, "seconds_communication": 1.0}
    shared = {"loss": 9 / number, "loss_ctr": 5 / number, "loss_size": 4 / number, "clips_per_second": 9.0, **seconds}
    shared |= {"grad_norm": 2.0, "grad_norm_max": 7.0, "clipped_share": 0.25}
    shared |= {"trivial_still": 4.0, "iou": 0.7, "iou_still": 0.5, "active_share": 0.4, "backbone_grad_norm": 0.1}
    clients = [
        {
            "server_round": number,
            "partition_id": n,
            **shared,
            "loss": 9 / number + n,
            "bytes_up": 1e6,
            "bytes_down": 2e6,
        }
        for n in range(NUM_CLIENTS)
    ]
    total = {"server_round": number, "lr": 0.01, "num_clients": 3, "failed_partition_ids": [], **shared}
    total |= {"bytes_up": 3e6, "bytes_down": 6e6, "seconds": 12.0, "seconds_clients": 10.0, "seconds_aggregate": 1.5}
    if evaluated:
        total |= EVALUATION
    return [total, *clients]


def write_evaluations(folder: Path, checkpoint: str, *, shift: float = 0.0) -> None:
    """All protocols, below `folder`/evaluation, in the form in which their commands write."""
    for protocol, names in METRICS.items():
        out = folder / "evaluation" / f"{checkpoint}-ucf101-split1"
        rows = {kind: {name: base + shift for name in names} for kind, base in (("checkpoint", 0.5), ("random", 0.125))}
        rows |= {kind: dict.fromkeys(names, acc) for kind, acc in (("random", 0.125), ("mean frame", 0.25))}
        intervals = {kind: {names[0]: [row[names[0]] - 0.1, row[names[0]] + 0.1]} for kind, row in rows.items()}
        facts = {"dataset": "ucf101", "split": 1, "num_train": 20, "num_test": 11, "num_classes": 5, "num_clips": 10}
        facts["settings"] = {"test_sample": {"crop_size": 112}}
        result = {"protocol": protocol, **facts, "checkpoint": f"{folder}/{checkpoint}.npz", "seed": 7, "rows": rows}
        result |= {"intervals": intervals, "chance": {"top1_acc": 0.0625} if protocol == "motion_probe" else {}}
        write_json(out / f"{protocol}.json", result)
        write_picture(out / f"{protocol}.png")


def write_finetuning(work_dir: Path, *, top1_acc: float = 0.7, part: str = "test") -> Path:
    """Two epochs and a test, both on the part "test" or "validation"."""
    work_dir.mkdir(parents=True)
    (work_dir / "config.yaml").write_text(yaml.safe_dump({"from_scratch": False, "data": {"name": "ucf101"}}))
    ends = {f"{part}_top1_acc_low": 0.1, f"{part}_top1_acc_high": 0.9}
    records = [{"epoch": n, "loss": 2 / n, "top1_acc": n / 4, f"{part}_top1_acc": n / 3, **ends} for n in (1, 2)]
    records = [{**record, "trivial_chance": 1.609} for record in records]
    write_lines(work_dir / "metrics.jsonl", records)
    accs = {"top1_acc": top1_acc, "top5_acc": 1.0, "mean_class_acc": top1_acc}
    test = {**accs, "chance": dict.fromkeys(accs, 0.2), "majority_class": dict.fromkeys(accs, 0.25)}
    test |= {"num_videos": 11, "num_clips": 10, "num_classes": 5, "dataset": "ucf101", "split": 1}
    test["intervals"] = {"top1_acc": [top1_acc - 0.2, top1_acc + 0.1]}
    if part == "validation":
        test |= {"part": part, "validation": 0.2, "validation_seed": 0, "held_out": "in whole groups"}
    write_json(work_dir / "test.json", {**test, "checkpoint": "last.pth", "epoch": 2})
    write_picture(work_dir / "confusion_matrix.png")
    record_environment(work_dir)
    return work_dir


def write_lines(path: Path, records: list[dict]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_picture(path: Path) -> None:
    path.write_bytes(picture())


@cache
def picture() -> bytes:
    """Some PNG of 900 x 300 pixels."""
    figure, file = Figure(figsize=(9, 3)), BytesIO()
    figure.add_subplot().imshow(np.eye(5))
    figure.savefig(file, dpi=100)
    return file.getvalue()
