"""Evaluate a backbone by a protocol, next to a random baseline; see fedvssl/evaluation.

    python -m fedvssl.retrieval    checkpoint=outputs/<DATE>/<TIME>/<exp_name>/round-20-weights.npz data_dir=data
    python -m fedvssl.linear_probe checkpoint=model_pretrained.pth data_dir=data data=hmdb51
    python -m fedvssl.knn          checkpoint=finetune_results/last.pth data_dir=data
    python -m fedvssl.evaluate conf/mine.yaml checkpoint=model_pretrained.pth     a protocol of your own

`checkpoint` is a round of pre-training, ours or published, a file of finetune_preprocess, or a fine-tuned model. Prints
a table and writes <protocol>.json and <protocol>.png into the work_dir. Features are kept in feature_dir: a repeated
command, or another protocol on the same clips, does not compute them again.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lightning.fabric import Fabric

from fedvssl.config import Config, build, check_numbers, read_command_line
from fedvssl.data.dataset import ClipDataset
from fedvssl.data.splits import check_classes, labelled_videos, split_list
from fedvssl.data.video import find_video, open_video
from fedvssl.evaluation.features import Features, extract, fingerprint, load
from fedvssl.evaluation.protocol import Result
from fedvssl.files.atomic import write_json
from fedvssl.files.backbone import load_backbone
from fedvssl.files.progress import Progress
from fedvssl.sweeping.comparison import aligned, single
from fedvssl.training.loop import build_fabric, seed_torch
from fedvssl.training.precision import checked_inference
from fedvssl.training.processes import check_devices, ending_together, exit_code, where

RANDOM = "random"  # the baseline of every table, and a checkpoint that asks for it alone
LEAST = {"seed": 0, "num_workers": 0, "test_batch_size": 1, "data.num_classes": 1}


def main(protocol: str | None = None, argv: Sequence[str] | None = None) -> int:
    """Command of a protocol, by default the one named by the first word; returns its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    if {"-h", "--help"} & {*words} or not (protocol or words):
        print(__doc__)
        return 0
    words = words if protocol is None else [protocol, *words]
    return exit_code(lambda: evaluate(Path(words[0]).stem, read_command_line("retrieval", words)))


def evaluate(name: str, config: Config) -> None:
    """Evaluate one checkpoint.

    Args:
        name: of the protocol, for the files and the table.
        config: conf/<name>.yaml with its overrides.

    Raises:
        ValueError: for a missing or unfitting checkpoint, list, label or video, before the work starts.
    """
    check_numbers(config, LEAST, or_auto=["num_workers"])
    check_devices(device=config["device"], devices=config["devices"])
    protocol, sample = build(config["protocol"]), build(config["test_sample"])
    backbones = load_backbones(config)
    videos = {part: labelled_videos(config["data"], part) for part in ("train", "test")}
    check_classes(videos, split_list(config["data"], "train"))
    folder = Path(config["data"]["media_dir"])
    datasets = {part: ClipDataset(folder, annotations, sample) for part, annotations in videos.items()}
    precision = checked_inference(
        config["precision"],
        device=config["device"],
        backbone=next(iter(backbones.values())),
        dataset=datasets["test"],
        warn=lambda line: print(line),
    )
    # Everything above is checked once; the line below starts the other processes.
    fabric = build_fabric(device=config["device"], devices=config["devices"], precision=precision)
    with ending_together(fabric):
        fabric.print(f"{len(videos['train'])} training and {len(videos['test'])} test videos, {where(fabric)}")
        folders = {
            (row, part): extract_kept(fabric, backbone, dataset, config=config, label=f"{row}: {part} video")
            for row, backbone in backbones.items()
            for part, dataset in datasets.items()
        }
        if fabric.is_global_zero:
            features = {
                row: {part: load(folders[row, part], dataset) for part, dataset in datasets.items()}
                for row in backbones
            }
            results = {row: protocol(parts["train"], parts["test"]) for row, parts in features.items()}
            report = summarise(name, results, config={**config, "precision": precision}, features=features)
            print(table(report))
            path, shown = work_dir(config) / name, next(iter(features.values()))
            write_json(path.with_suffix(".json"), report)
            protocol.draw(path.with_suffix(".png"), results, **shown, frame=partial(middle_frame, folder))
            print(f"{path}.json and .png")


def load_backbones(config: Config) -> dict[str, Any]:
    """The backbone of the checkpoint and a random one, on the CPU, by the names of their rows.

    Raises:
        ValueError: if there is no checkpoint, or it is of another model.
    """
    if not config["checkpoint"]:
        raise ValueError(
            "Name the backbone with checkpoint=<file>: a round-<N>-weights.npz, model_pretrained.pth, a fine-tuned "
            "checkpoint, or checkpoint=random for the baseline alone."
        )
    backbones = {}
    if config["checkpoint"] != RANDOM:
        backbones["checkpoint"] = build(config["model"])
        load_backbone(backbones["checkpoint"], Path(config["checkpoint"]).expanduser())
    seed_torch((config["seed"], 0, 0, 0))  # the weights that fine-tuning from scratch starts from
    backbones[RANDOM] = build(config["model"])
    return backbones


def extract_kept(fabric: Fabric, backbone: Any, dataset: ClipDataset, *, config: Config, label: str) -> Path:
    """Extract the features of one list, unless they are kept, and return their folder."""
    folder = Path(config["feature_dir"]) / fingerprint(backbone, dataset, precision=fabric._precision.precision)
    progress = Progress(label, len(dataset), write=fabric.print)
    extract(
        fabric,
        backbone.to(fabric.device),
        dataset,
        folder=folder,
        batch_size=config["test_batch_size"],
        num_workers=config["num_workers"],
        report=progress.update if config["progress"] else None,
    )
    return folder


def summarise(
    name: str, results: dict[str, Result], *, config: Config, features: dict[str, dict[str, Features]]
) -> dict[str, Any]:
    """Content of <protocol>.json: metrics as fractions, and the conditions of the evaluation."""
    return {
        "protocol": name,
        "dataset": config["data"]["name"],
        "split": config["data"]["split"],
        **{f"num_{part}": len(videos) for part, videos in features[RANDOM].items()},
        "num_classes": config["data"]["num_classes"],
        "num_clips": config["test_sample"]["num_clips"],
        "checkpoint": str(config["checkpoint"]),
        "seed": config["seed"],
        "rows": {row: result.metrics for row, result in results.items()},
        "settings": {key: config[key] for key in ("protocol", "test_sample", "model", "precision")},
        "details": {row: result.details for row, result in results.items()},
    }


def table(report: dict[str, Any]) -> str:
    """The metrics of all rows in percent."""
    names = {name: name for name in report["rows"][RANDOM]}
    return (
        f"{report['protocol']}\n{aligned(single(report['rows'], names), names)}\n"
        f"{report['num_test']} test and {report['num_train']} training videos of {report['dataset']} split "
        f"{report['split']}, {report['num_clips']} clips each; {report['checkpoint']}"
    )


def middle_frame(media_dir: Path, name: str) -> np.ndarray:
    """Middle frame of a video: uint8 [H,W,3]."""
    video = open_video(find_video(media_dir, name))
    return video.read(np.array([len(video) // 2]))[0]


def work_dir(config: Config) -> Path:
    """The configured work_dir, or one beside the checkpoint for this checkpoint and data set alone."""
    if config["work_dir"]:
        return Path(config["work_dir"])
    checkpoint, data = Path(config["checkpoint"]).expanduser(), config["data"]
    return checkpoint.parent / "evaluation" / f"{checkpoint.stem}-{data['name']}-split{data['split']}"


if __name__ == "__main__":
    sys.exit(main())
