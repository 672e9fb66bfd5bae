"""Evaluate a backbone by a protocol, next to a random backbone and the mean frame; see fedvssl/evaluation.

    python -m fedvssl.retrieval    checkpoint=outputs/<DATE>/<TIME>/<exp_name>/round-20-weights.npz data_dir=data
    python -m fedvssl.linear_probe checkpoint=model_pretrained.pth data_dir=data data=hmdb51
    python -m fedvssl.knn          checkpoint=finetune_results/last.pth data_dir=data
    python -m fedvssl.motion_probe checkpoint=model_pretrained.pth data_dir=data crop_size=48     needs no labels
    python -m fedvssl.evaluate conf/mine.yaml checkpoint=model_pretrained.pth     a protocol of your own
    python -m fedvssl.evaluate retrieval linear_probe motion_probe checkpoint=model_pretrained.pth     one after another

`checkpoint` is a round of pre-training, ours or published, a file of finetune_preprocess, or a fine-tuned model. Prints
a table with 95 % intervals and the paired differences from the random backbone, and writes <protocol>.json and
<protocol>.png into the work_dir. Features are kept in feature_dir: a repeated command, or another protocol on the same
clips, does not compute them again.
"""

import sys

from fedvssl.help import show_help

if __name__ == "__main__" and show_help("evaluate"):  # before PyTorch is imported, which takes seconds
    sys.exit()

from collections.abc import Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric

from fedvssl.building import build
from fedvssl.config import Config, check_numbers, read_command_line
from fedvssl.data.annotations import Annotation
from fedvssl.data.dataset import LabellingSample, SampleDataset, evaluation_datasets
from fedvssl.data.media import picture_of_sample
from fedvssl.data.seen import read_seen, seen_facts, seen_words
from fedvssl.data.splits import evaluation_lists, few_videos, few_words, lists_digest, numbers_of_videos, test_part
from fedvssl.data.validation import check_unseen, evaluated_videos, part_facts
from fedvssl.evaluation.calibration import calibrate_once
from fedvssl.evaluation.features import contents_digest, extract, fingerprint, load
from fedvssl.evaluation.intervals import Difference, paired_difference
from fedvssl.evaluation.pixels import MeanFrame
from fedvssl.evaluation.protocol import Result, own_sample
from fedvssl.files.atomic import write_json
from fedvssl.files.backbone import load_backbone
from fedvssl.files.lock import owned
from fedvssl.files.names import check_name
from fedvssl.files.progress import Progress
from fedvssl.files.results import CHECKPOINT as CHECKPOINT_PATH
from fedvssl.files.results import change_in, free_folder, from_here, refuse_other
from fedvssl.files.tensors import load_torch
from fedvssl.sweeping.comparison import aligned, clip_words, clips_of, deciding, single
from fedvssl.training.loop import build_fabric, seed_torch
from fedvssl.training.precision import checked_inference
from fedvssl.training.processes import check_devices, ending_together, exit_code, where

CHECKPOINT = "checkpoint"
RANDOM = "random"  # the baseline of every table, and a checkpoint that asks for the baselines alone
MEAN_FRAME = "mean frame"  # the baseline without a network
LEAST = {"seed": 0, "num_workers": 0, "test_batch_size": 1, "data.num_classes": 1}


def main(protocol: str | None = None, argv: Sequence[str] | None = None) -> int:
    """Command of a protocol, by default of those named by the first words; returns its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    if show_help(protocol or "evaluate", words if protocol or words else ["--help"]):
        return 0
    named = list(takewhile(lambda word: "=" not in word and not word.startswith("-"), words))
    protocols = [protocol] if protocol else named or words[:1]
    overrides = words if protocol else words[len(protocols) :]
    return exit_code(lambda: evaluate_all(protocols, overrides))


def evaluate_all(protocols: Sequence[str], overrides: Sequence[str]) -> None:
    """Evaluate one checkpoint by several protocols, in one process.

    Raises:
        ValueError: as `evaluate`, and if several protocols are to run in several processes.
    """
    configs = [read_command_line("retrieval", [protocol, *overrides]) for protocol in protocols]
    if len(configs) > 1 and any(config["devices"] != 1 for config in configs):
        raise ValueError("Several protocols in one command need devices=1: give each protocol a command of its own.")
    for protocol, config in zip(protocols, configs, strict=True):
        evaluate(check_name(Path(protocol).stem, where="protocol"), config)


def evaluate(name: str, config: Config) -> None:
    """Evaluate one checkpoint.

    Args:
        name: of the protocol, for the files and the table.
        config: conf/<name>.yaml with its overrides.

    Raises:
        ValueError: for a missing or unfitting checkpoint, list, label or video, before the work starts.
    """
    check_numbers(config, LEAST, or_auto=["num_workers", "data.num_classes"])
    check_devices(device=config["device"], devices=config["devices"])
    protocol, folder = build(config["protocol"]), Path(config["data"]["media_dir"])
    sample = own_sample(protocol) or build(config["test_sample"])
    config = {**config, "test_sample": config["protocol"].get("sample", config["test_sample"])}
    backbones = load_backbones(config)
    labelled = not isinstance(sample, LabellingSample)
    videos = evaluation_lists(config["data"], labelled=labelled)
    facts = list_facts(config, videos, labelled=labelled)
    datasets = evaluation_datasets(folder, videos, sample, seed=config["seed"])
    precision = checked_inference(
        config["precision"],
        device=config["device"],
        backbone=next(iter(backbones.values())),
        dataset=datasets["test"],
        warn=lambda line: print(line),
    )
    facts |= settings_of({**config, "precision": precision}, datasets)
    path = result_folder(config, name, facts) / f"{name}.json"
    # Protocols may run beside each other, each with files of its own.
    with owned(path.parent, writes=(f"{name}.json", f"{name}.png"), name=f".{name}.lock"):
        # Everything above is checked once; the line below starts the other processes.
        fabric = build_fabric(device=config["device"], devices=config["devices"], precision=precision)
        with ending_together(fabric):
            fabric.print(f"{numbers_of_videos(config['data'], videos)}, {where(fabric)}{few_words(facts)}")
            folders = extract_rows(fabric, backbones, datasets, config=config)
            if fabric.is_global_zero:
                features = {
                    row: {part: load(folders[row, part], dataset) for part, dataset in datasets.items()}
                    for row in backbones
                }
                results = {row: protocol(parts["train"], parts["test"]) for row, parts in features.items()}
                report = {"protocol": name, CHECKPOINT_PATH: from_here(config["checkpoint"], path.parent), **facts}
                report |= summarise(results)
                print(table(report))
                shown = next(iter(features.values()))
                write_json(path, report)
                frame = partial(picture_of_sample, folder)
                protocol.draw(path.with_name(f"{name}.png"), results, **shown, frame=frame)
                print(f"{path} and .png")


def load_backbones(config: Config) -> dict[str, Any]:
    """The backbone of the checkpoint, a random one and the mean frame, on the CPU, by the names of their rows.

    Raises:
        ValueError: if there is no checkpoint, it is of another model, or it has seen the validation videos.
    """
    if not config["checkpoint"]:
        raise ValueError(
            "Name the backbone with checkpoint=<file>: a round-<N>-weights.npz, model_pretrained.pth, a fine-tuned "
            "checkpoint, or checkpoint=random for the baselines alone."
        )
    backbones = {}
    if config["checkpoint"] != RANDOM:
        backbones[CHECKPOINT] = build(config["model"])
        path = Path(config["checkpoint"]).expanduser()
        load_backbone(backbones[CHECKPOINT], path)
        if config["data"]["validation"] is not None and path.suffix != ".npz":
            check_unseen(load_torch(path), config["data"], path=path)
    seed_torch((config["seed"], 0, 0, 0))  # the weights that fine-tuning from scratch starts from
    backbones[RANDOM] = build(config["model"])
    backbones[MEAN_FRAME] = MeanFrame()
    return backbones


def extract_rows(
    fabric: Fabric, backbones: dict[str, Any], datasets: dict[str, SampleDataset], *, config: Config
) -> dict[tuple[str, str], Path]:
    """Extract the features of each row and list, and return their folders; the random backbone is calibrated first."""
    calibrate_once(
        fabric,
        backbones[RANDOM],
        datasets["train"],
        feature_dir=Path(config["feature_dir"]),
        num_workers=config["num_workers"],
    )
    shown = {"train": "train", "test": test_part(config["data"])}
    return {
        (row, part): extract_kept(fabric, backbone, dataset, config=config, label=f"{row}: {shown[part]} video")
        for row, backbone in backbones.items()
        for part, dataset in datasets.items()
    }


def extract_kept(fabric: Fabric, backbone: Any, dataset: SampleDataset, *, config: Config, label: str) -> Path:
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


def list_facts(config: Config, videos: dict[str, list[Annotation]], *, labelled: bool) -> dict[str, Any]:
    """Entries of <protocol>.json about the videos.

    Raises:
        ValueError: if training has seen evaluated videos and data.allow_test_videos is false.
    """
    data, checkpoint = config["data"], config["checkpoint"]
    seen = {} if checkpoint == RANDOM else read_seen(Path(checkpoint).expanduser())
    return {
        "dataset": data["name"],
        "split": data["split"],
        **{f"num_{part}": len(own) for part, own in videos.items()},
        "num_classes": data["num_classes"],
        **(few_videos(videos) if labelled else {}),
        **part_facts(data, videos["test"]),
        **seen_facts(data, videos["test"], seen, checkpoint=checkpoint, gallery=videos["train"]),
        "lists": lists_digest(videos),
    }


def settings_of(config: Config, datasets: dict[str, SampleDataset]) -> dict[str, Any]:
    """Entries of <protocol>.json about the settings; clips also apart, as in the results of tests."""
    settings = {key: config[key] for key in ("protocol", "test_sample", "model", "precision")}
    return {
        "num_clips": config["test_sample"]["num_clips"],
        **clips_of({"settings": settings}),
        "checkpoint": str(config["checkpoint"]),
        "seed": config["seed"],
        "media": contents_digest(datasets.values()),
        "settings": settings,
    }


def summarise(results: dict[str, Result]) -> dict[str, Any]:
    """Entries of <protocol>.json that were measured: metrics, intervals and differences as fractions."""
    return {
        "rows": {row: result.metrics for row, result in results.items()},
        "intervals": {row: result.intervals for row, result in results.items()},
        "chance": results[RANDOM].chance,
        "differences": {metric: found._asdict() for metric, found in differences(results).items()},
        "details": {row: result.details for row, result in results.items()},
    }


def differences(results: dict[str, Result]) -> dict[str, Difference]:
    """Paired difference between the checkpoint and the random backbone, for each metric that counts test videos."""
    if CHECKPOINT not in results:
        return {}
    baseline = results[RANDOM].right
    return {name: paired_difference(own, baseline[name]) for name, own in results[CHECKPOINT].right.items()}


def table(report: dict[str, Any]) -> str:
    """The metrics of all rows in percent, and a line for each difference."""
    names = {name: name for name in report["rows"][RANDOM]}
    rows = {**report["rows"], "chance": report["chance"]} if report["chance"] else report["rows"]
    found = {name: Difference(**difference) for name, difference in report["differences"].items()}
    lines = [f"{name}: {CHECKPOINT} - {RANDOM} {difference.text()}\n" for name, difference in found.items()]
    return (
        f"{report['protocol']}\n{aligned(single(rows, names, report['intervals']), names)}\n"
        f"{''.join(lines)}"
        f"{evaluated_videos(report, report['num_test'])} and {report['num_train']} training videos of "
        f"{report['dataset']} split {report['split']}, {clip_words(report)}{seen_words(report)}; {report['checkpoint']}"
    )


def result_folder(config: Config, name: str, facts: dict[str, Any]) -> Path:
    """The configured work_dir, or a folder beside the checkpoint that holds no result of other settings.

    Raises:
        ValueError: if the configured one holds a result of other settings.
    """
    data, checkpoint = config["data"], Path(config["checkpoint"]).expanduser()

    def change(folder: Path) -> str | None:
        now = {**facts, CHECKPOINT_PATH: from_here(config["checkpoint"], folder)}
        return change_in(folder / f"{name}.json", deciding(now), deciding)

    if config["work_dir"]:
        folder = Path(config["work_dir"])
        refuse_other(folder / f"{name}.json", change(folder))
        return folder
    held_out = "" if data["validation"] is None else "-validation"
    usual = f"{checkpoint.stem}-{data['name']}-split{data['split']}{held_out}"
    return free_folder(checkpoint.parent / "evaluation" / usual, change)


if __name__ == "__main__":
    sys.exit(main())
