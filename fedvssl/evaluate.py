"""Evaluate a backbone by a protocol, next to a random backbone and plain pixels; see fedvssl/evaluation.

    python -m fedvssl.retrieval    checkpoint=outputs/<DATE>/<TIME>/<exp_name>/round-20-weights.npz data_dir=data
    python -m fedvssl.linear_probe checkpoint=model_pretrained.pth data_dir=data data=hmdb51
    python -m fedvssl.knn          checkpoint=finetune_results/last.pth data_dir=data
    python -m fedvssl.motion_probe checkpoint=model_pretrained.pth data_dir=data crop_size=48     needs no labels
    python -m fedvssl.retrieval    checkpoint=model_pretrained.pth data=cifar10 model=resnet18 input=pictures
    python -m fedvssl.evaluate conf/mine.yaml checkpoint=model_pretrained.pth     a protocol of your own
    python -m fedvssl.evaluate retrieval linear_probe motion_probe checkpoint=model_pretrained.pth     one after another

`checkpoint` is a round of pre-training, ours or published, a file of finetune_preprocess, or a fine-tuned model. Prints
a table with 95 % intervals and the paired differences from the random backbone, and writes <protocol>.json and
<protocol>.png into the work_dir. Features are kept in feature_dir: a repeated command, or another protocol on the same
clips, does not compute them again.
"""

import sys

from fedvssl.early import answered

if __name__ == "__main__" and answered("evaluate"):  # before PyTorch is imported, which takes seconds
    sys.exit()

import json
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from fedvssl.building import build
from fedvssl.config import Config, compose, read_command_line
from fedvssl.data.annotations import Annotation
from fedvssl.data.dataset import LabellingSample, SampleDataset, evaluation_datasets
from fedvssl.data.media import picture_of_sample
from fedvssl.data.seen import labels_words, read_seen, seen_facts, seen_words, unseen_labels
from fedvssl.data.split import Split
from fedvssl.data.splits import evaluation_lists, few_videos, few_words, lists_digest, numbers_of_videos
from fedvssl.data.validation import PICTURE, evaluated_videos, group_of, medium_of, part_facts
from fedvssl.evaluation.features import contents_digest, load
from fedvssl.evaluation.intervals import Difference, paired_difference
from fedvssl.evaluation.protocol import EvaluationProtocol, Result, own_sample
from fedvssl.evaluation.rows import (
    CHECKPOINT,
    INITIAL,
    MEAN_FRAME,
    PIXELS,
    RANDOM,
    Extraction,
    extract_rows,
    load_backbones,
)
from fedvssl.files.atomic import write_json
from fedvssl.files.ending import exit_code
from fedvssl.files.lock import owned
from fedvssl.files.names import check_name
from fedvssl.files.predictions import to_digits
from fedvssl.files.results import CHECKPOINT as CHECKPOINT_PATH
from fedvssl.files.results import change_in, free_folder, from_here, refuse_other
from fedvssl.files.settings import flat
from fedvssl.help import show_help
from fedvssl.overrides import SEARCH_PATH, parse_overrides
from fedvssl.sweeping.comparison import aligned, clip_facts, clip_words, deciding, recipe_words, single
from fedvssl.training.loop import build_fabric
from fedvssl.training.precision import checked_inference
from fedvssl.training.processes import check_devices, ending_together, where


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
    folders = [word for word in parse_overrides(overrides) if word.startswith(SEARCH_PATH)]
    for protocol, config in zip(protocols, configs, strict=True):
        recipe = own_recipe(config["protocol"], compose(protocol, folders, resolve=False)["protocol"])
        evaluate(check_name(Path(protocol).stem, where="protocol"), config, recipe=recipe)


def own_recipe(protocol: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    """Words on the settings of the protocol that are not those of its file: "AdamProbe, epochs 20"; "" if none is.

    Args:
        protocol: section of the configuration.
        usual: the same of the file alone. Its references to other settings are not compared.
    """
    own, usual = dict(flat(protocol)), dict(flat(usual))
    target = str(own.pop("_target_", None))
    changed = target != usual.pop("_target_", None)
    words = [target.rpartition(".")[2]] if changed else []
    for name, value in own.items():
        refers = isinstance(usual.get(name), str) and usual[name].startswith("${")
        if not refers and (changed or name not in usual or value != usual[name]):
            words.append(f"{name} {json.dumps(value)}")
    return ", ".join(words)


def evaluate(name: str, config: Config, *, recipe: str = "") -> None:
    """Evaluate one checkpoint.

    Args:
        name: of the protocol, for the files and the table.
        config: conf/<name>.yaml with its overrides.
        recipe: `own_recipe`, for the tables.

    Raises:
        ValueError: for a missing or unfitting checkpoint, list, label or video, before the work starts.
    """
    check_devices(device=config["device"], devices=config["devices"])
    protocol, data, seed = build(config["protocol"]), Split.of(config["data"]), config["seed"]
    sample, checkpoint = own_sample(protocol) or build(config["test_sample"]), config["checkpoint"]
    backbones = load_backbones(partial(build, config["model"]), checkpoint=checkpoint, data=data, seed=seed)
    labelled = not isinstance(sample, LabellingSample)
    videos = evaluation_lists(data, labelled=labelled)
    held_out = getattr(protocol, "held_out", False)
    facts = list_facts(data, videos, checkpoint=checkpoint, labelled=labelled, held_out=held_out)
    if medium_of(facts) == PICTURE:
        backbones[PIXELS] = backbones.pop(MEAN_FRAME)
    datasets = evaluation_datasets(data.media_dir, videos, sample, seed=seed)
    precision = checked_inference(
        config["precision"],
        device=config["device"],
        backbone=next(iter(backbones.values())),
        dataset=datasets["test"],
        warn=lambda line: print(line),
    )
    used = {"test_sample": config["protocol"].get("sample", config["test_sample"]), "precision": precision}
    settings = {key: {**config, **used}[key] for key in ("protocol", "test_sample", "model", "precision")}
    facts |= settings_facts(settings, datasets, checkpoint=checkpoint, seed=seed) | {"recipe": recipe}
    folder = result_folder(config["work_dir"], name, facts, data=data, checkpoint=checkpoint)
    # Protocols may run beside each other, each with files of its own.
    with owned(folder, writes=(f"{name}.json", f"{name}.png"), name=f".{name}.lock"):
        # Everything above is checked once; the line below starts the other processes.
        fabric = build_fabric(device=config["device"], devices=config["devices"], precision=precision)
        with ending_together(fabric):
            fabric.print(f"{numbers_of_videos(data, videos)}, {where(fabric)}{few_words(facts)}{labels_words(facts)}")
            places = Path(config["feature_dir"]), config["test_batch_size"], config["num_workers"]
            extraction = Extraction(fabric, *places, progress=config["progress"])
            folders = extract_rows(extraction, backbones, datasets, test_part=data.test_part)
            if fabric.is_global_zero:
                conclude(folder / f"{name}.json", protocol, facts, folders, datasets)


def list_facts(
    data: Split, videos: dict[str, list[Annotation]], *, checkpoint: str, labelled: bool, held_out: bool
) -> dict[str, Any]:
    """Entries of <protocol>.json about the videos.

    Args:
        data: the split.
        videos: its lists.
        checkpoint: as the user names it.
        labelled: True if the labels are those of the lists.
        held_out: True if training must not have had the training list.

    Raises:
        ValueError: if training has seen evaluated videos and data.allow_test_videos is false, or such a training list.
    """
    seen = {} if checkpoint == RANDOM else read_seen(Path(checkpoint).expanduser())
    refusing = held_out and checkpoint != RANDOM
    return {
        "dataset": data.name,
        "split": data.split,
        **{f"num_{part}": len(own) for part, own in videos.items()},
        "num_classes": data.num_classes,
        **(few_videos(videos) if labelled else {}),
        **part_facts(data, videos["test"]),
        **seen_facts(data, videos["test"], seen, checkpoint=checkpoint, gallery=videos["train"]),
        **(unseen_labels(data, videos["train"], seen, checkpoint=checkpoint) if refusing else {}),
        "lists": lists_digest(videos),
    }


def settings_facts(
    settings: dict[str, Any], datasets: dict[str, SampleDataset], *, checkpoint: str, seed: int
) -> dict[str, Any]:
    """Entries of <protocol>.json about the settings; clips also apart, as in the results of tests.

    Args:
        settings: protocol, test_sample, model and precision, as they are recorded.
        datasets: the videos of each part.
        checkpoint: as the user names it.
        seed: of the random backbone and the protocol.
    """
    return {
        **clip_facts(settings),
        "checkpoint": str(checkpoint),
        "seed": seed,
        "media": contents_digest(datasets.values()),
        "settings": settings,
    }


def conclude(
    path: Path,
    protocol: EvaluationProtocol,
    facts: dict[str, Any],
    folders: dict[tuple[str, str], Path],
    datasets: dict[str, SampleDataset],
) -> None:
    """Apply the protocol to the features of each row in these folders, print the table and write <protocol>.json."""
    features = {row: {part: load(folders[row, part], datasets[part]) for part in datasets} for row, _ in folders}
    results = {row: protocol(parts["train"], parts["test"]) for row, parts in features.items()}
    report = {"protocol": path.stem, CHECKPOINT_PATH: from_here(facts["checkpoint"], path.parent), **facts}
    report |= summarise(results, [group_of(video.name) for video in datasets["test"].annotations])
    print(table(report))
    shown = next(iter(features.values()))
    write_json(path, report)
    if not hasattr(protocol, "draw"):
        print(path)
        return
    frame = partial(picture_of_sample, datasets["test"].media_dir)
    protocol.draw(path.with_name(f"{path.stem}.png"), results, **shown, frame=frame)
    print(f"{path} and .png")


def summarise(results: dict[str, Result], groups: Sequence[str]) -> dict[str, Any]:
    """Entries of <protocol>.json that were measured: metrics, intervals and differences as fractions.

    Args:
        results: of each row.
        groups: of the test videos.
    """
    return {
        "rows": {row: result.metrics for row, result in results.items()},
        "intervals": {row: result.intervals(groups) for row, result in results.items()},
        "chance": results[RANDOM].chance,
        "differences": differences(results, groups, baseline=RANDOM),
        "differences_initial": differences(results, groups, baseline=INITIAL),
        "details": {row: result.details for row, result in results.items()},
        "right": {row: {name: to_digits(own) for name, own in r.right.items()} for row, r in results.items()},
    }


def differences(results: dict[str, Result], groups: Sequence[str], *, baseline: str) -> dict[str, dict[str, float]]:
    """Paired difference between the checkpoint and a random backbone, for each metric that counts test videos."""
    if CHECKPOINT not in results or baseline not in results:
        return {}
    before = results[baseline].right
    right = results[CHECKPOINT].right
    return {name: paired_difference(own, before[name], groups)._asdict() for name, own in right.items()}


def table(report: dict[str, Any]) -> str:
    """The metrics of all rows in percent, and a line for each difference."""
    names = {name: name for name in report["rows"][RANDOM]}
    rows = {**report["rows"], "chance": report["chance"]} if report["chance"] else report["rows"]
    notes = dict.fromkeys(row["note"] for row in report["details"].values() if "note" in row)
    lines = [f"{note}\n" for note in notes] + [
        f"{name}: {CHECKPOINT} - {baseline} {Difference(**report[kind][name]).text()}\n"
        for name in report["differences"]
        for kind, baseline in (("differences", RANDOM), ("differences_initial", INITIAL))
        if name in report[kind]
    ]
    return (
        f"{report['protocol']}{recipe_words(report)}\n{aligned(single(rows, names, report['intervals']), names)}\n"
        f"{''.join(lines)}"
        f"{evaluated_videos(report, report['num_test'])} and {report['num_train']} training {medium_of(report)}s of "
        f"{report['dataset']} split {report['split']}, {clip_words(report)}{seen_words(report)}; {report['checkpoint']}"
    )


def result_folder(work_dir: str | None, name: str, facts: dict[str, Any], *, data: Split, checkpoint: str) -> Path:
    """The configured work_dir, or a folder beside the checkpoint that holds no result of other settings.

    Raises:
        ValueError: if the configured one holds a result of other settings.
    """

    def change(folder: Path) -> str | None:
        now = {**facts, CHECKPOINT_PATH: from_here(checkpoint, folder)}
        return change_in(folder / f"{name}.json", deciding(now), deciding)

    if work_dir:
        folder = Path(work_dir)
        refuse_other(folder / f"{name}.json", change(folder))
        return folder
    path, held_out = Path(checkpoint).expanduser(), "" if data.validation is None else "-validation"
    usual = f"{path.stem}-{data.name}-split{data.split}{held_out}"
    return free_folder(path.parent / "evaluation" / usual, change)


if __name__ == "__main__":
    sys.exit(main())
