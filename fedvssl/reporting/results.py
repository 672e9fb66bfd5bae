"""Sections about the results with the backbone, the machines and the papers."""

import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from fedvssl.files.environment import Facts
from fedvssl.reporting import page
from fedvssl.reporting.figures import is_number, line, line_chart
from fedvssl.reporting.folders import Folder
from fedvssl.sweeping.comparison import ACCURACIES, cells, conditions, single

SIZES = {"crop_size": "crop_size", "test_sample.size": "size"}
# Protocols that every report mentions, before any other.
TITLES = {"retrieval": "Retrieval", "knn": "Nearest neighbours (kNN)", "linear_probe": "Linear probe"}


def fine_tuning(included: Sequence[Folder]) -> str:
    """Curves of the included folders; folders of test and evaluation alone have none."""
    trained = [folder for folder in included if folder.records]
    if not trained:
        return page.missing(
            "No fine-tuning is included; train one, then name its work_dir:",
            "python -m fedvssl.finetune finetune data_dir=<data> pretrained=<model_pretrained.pth> work_dir=<folder>\n"
            "python -m fedvssl.report <this run> --include <folder>",
        )
    losses = [line(folder.records, "loss", label=folder.label) for folder in trained]
    accs = [
        replace(points, label=f"{folder.label}, {part}")
        for folder in trained
        for name, part in (("top1_acc", "training"), ("test_top1_acc", "test"))
        if (points := line(folder.records, name, scale=100)).xs
    ]
    return page.charts(
        ("Loss", line_chart("Loss of fine-tuning", losses, x="epoch", y="loss")),
        ("Top-1 accuracy", line_chart("Top-1 accuracy of fine-tuning", accs, x="epoch", y="%")),
    )


def tables(run: Folder, included: Sequence[Folder]) -> str:
    """Tables, one for each protocol and set of videos, because only results on the same videos can be compared."""
    tests = tested(included)
    html = "<h3>Fine-tuned recognizer</h3>" + (
        "".join(map(test_table, tests))
        or page.missing("No test is included:", "python -m fedvssl.test test data_dir=<data> work_dir=<folder>")
    )
    evaluations = [(folder, e.result) for folder in (run, *included) for e in folder.evaluations]
    for protocol in dict.fromkeys([*TITLES, *(result["protocol"] for _, result in evaluations)]):
        html += f"<h3>{escape(TITLES.get(protocol, protocol))}</h3>"
        same: dict[tuple[Any, ...], list[tuple[Folder, dict]]] = defaultdict(list)
        for folder, result in evaluations:
            if result["protocol"] == protocol:
                same[conditions(result)].append((folder, result))
        html += "".join(map(evaluation_table, same.values()))
        if not same:
            html += page.missing("Not evaluated:", evaluation_command(run, protocol))
        if protocol != "retrieval":  # its strips have a section of their own
            html += page.charts(*pictures([run, *included], protocol))
    return html


def tested(included: Sequence[Folder]) -> list[list[Folder]]:
    """Folders with a test, grouped by the videos of their tests."""
    same: dict[tuple[Any, ...], list[Folder]] = defaultdict(list)
    for folder in included:
        if folder.test:
            same[conditions(folder.test)].append(folder)
    return list(same.values())


def test_table(folders: Sequence[Folder]) -> str:
    """Tests of the same videos, above the baselines of guessing."""
    first = folders[0].test or {}
    rows = {folder.label: folder.test or {} for folder in folders}
    baselines = {name.replace("_", " "): first[name] for name in ("majority_class", "chance") if name in first}
    return page.table(
        ["percent", *ACCURACIES.values()],
        [line for part in (rows, baselines) for line in cells(single(part, ACCURACIES), ACCURACIES)],
        caption=f"{first['num_videos']} test videos of {first['dataset']}, split {first['split']}; "
        f"{first.get('num_clips', '?')} clips of each",
    )


def evaluation_table(results: Sequence[tuple[Folder, dict]]) -> str:
    """A row for each checkpoint, and the random baseline; equal rows appear once."""
    first = results[0][1]
    size = first.get("settings", {}).get("test_sample", {}).get("crop_size")
    crop = f", {size} pixels" if size else ""
    names = dict.fromkeys(name for _, result in results for row in result["rows"].values() for name in row)
    metrics = {str(name): ACCURACIES.get(name, str(name)) for name in names}
    rows: dict[tuple[str, ...], None] = {}
    for folder, result in sorted(results, key=lambda pair: "checkpoint" not in pair[1]["rows"]):
        for kind, row in sorted(result["rows"].items(), key=lambda pair: pair[0] == "random"):
            label = "random weights" if kind == "random" else f"{folder.label}, {checkpoint_name(result)}"
            label += f", seed {result['seed']}" if kind == "random" and "seed" in result else ""
            rows[tuple(cells(single({label: row}, metrics), metrics)[0])] = None
    ordered = sorted(rows, key=lambda row: row[0].startswith("random weights"))
    return page.table(
        ["percent", *metrics.values()],
        ordered,
        caption=f"{first.get('num_test', '?')} test and {first.get('num_train', '?')} training videos of "
        f"{first['dataset']}, split {first['split']}; {first.get('num_clips', '?')} clips of each{crop}",
    )


def evaluation_command(run: Folder, protocol: str) -> str:
    """Command that evaluates the last round of this run."""
    rounds = [record["server_round"] for record in run.rounds] or ["<N>"]
    words = [
        f"checkpoint={run.path / f'round-{rounds[-1]}-weights.npz'}",
        f"data_dir={run.setting('data_dir')}",
        f"data.name={run.setting('data.name')}",
        f"data.num_classes={run.setting('data.num_classes')}",
        *(f"{key}={run.setting(key)}" for key in ("data.split", "model.depth", "model.width") if run.setting(key)),
    ]
    sample = run.setting("eval.sample", {})
    words += [f"{key}={sample[name]}" for key, name in SIZES.items() if name in sample]
    return f"python -m fedvssl.{protocol} {shlex.join(words)}"


def confusion(included: Sequence[Folder]) -> str:
    """The confusion matrix of each test."""
    files = {folder.label: folder.path / "confusion_matrix.png" for folder in included if folder.test}
    drawn = [
        (label, page.picture(png, f"confusion matrix of {label}")) for label, png in files.items() if png.is_file()
    ]
    if drawn:
        return page.charts(*drawn)
    return page.missing(
        "No included folder has a confusion_matrix.png, which the test draws:",
        "python -m fedvssl.test test data_dir=<data> work_dir=<folder>",
    )


def strips(run: Folder, included: Sequence[Folder]) -> str:
    """Queries with their nearest videos."""
    found = pictures([run, *included], "retrieval")
    command = evaluation_command(run, "retrieval")
    return "".join(page.figure(*drawn) for drawn in found) or page.missing("No retrieval was drawn:", command)


def pictures(folders: Sequence[Folder], protocol: str) -> list[tuple[str, str]]:
    """Title and PNG of each drawn evaluation of the protocol."""
    found = [(folder, e.result, e.picture) for folder in folders for e in folder.evaluations if e.picture]
    return [
        (title, page.picture(png, f"{protocol}: {title}"))
        for folder, result, png in found
        if result["protocol"] == protocol
        for title in [f"{folder.label}, {checkpoint_name(result)}, {result['dataset']} split {result['split']}"]
    ]


def machines(folders: Sequence[Folder]) -> str:
    """A column for each start on another machine or with other versions."""
    starts = [(folder, entry) for folder in folders for entry in folder.environment]
    unknown = [folder for folder in folders if not folder.environment and folder.records]
    html = ""
    if starts:
        columns = [machine(entry) for _, entry in starts]
        names = list(dict.fromkeys(name for column in columns for name in column))
        rows = [[name, *(column.get(name, "") for column in columns)] for name in names]
        html = page.table(["", *(folder.label for folder, _ in starts)], rows, numbers=False)
    if unknown:
        named = ", ".join(str(folder.path) for folder in unknown)
        html += page.missing(
            f"Machine and versions are unknown, because there is no readable environment.json in: {named}."
        )
    return html or page.missing(
        "Nothing has recorded its machine and versions yet: fedvssl.main and fedvssl.finetune do."
    )


def machine(entry: Facts) -> dict[str, str]:
    """Readable facts of one entry of environment.json."""
    position = entry["done"] + 1
    known = {
        "from round or epoch": str(position),
        "started": str(entry.get("started", "")),
        "processor": str(entry.get("processor", "")),
        "cores": str(entry.get("cores", "")),
        "memory": f"{(entry.get('memory_bytes') or 0) / 2**30:.1f} GiB",
        "GPUs": "; ".join(map(str, entry.get("gpus") or [])) or "none",
        "system": str(entry.get("system", "")),
        "git revision": str(entry.get("revision") or "an installed package"),
    }
    return known | {name: str(version) for name, version in (entry.get("versions") or {}).items()}


def tiles(run: Folder, included: Sequence[Folder]) -> list[tuple[str, str]]:
    """The figures at the top: the first test, and the retrieval of the last evaluated checkpoint."""
    shown = [(f"top-1, {f.label}", f"{percent(f.test['top1_acc'])} %") for f in included if f.test][:1]
    for evaluation in run.evaluations[::-1]:
        found = evaluation.result["rows"].get("checkpoint", {}).get("R@1")
        if is_number(found):
            return [*shown, (f"R@1, {checkpoint_name(evaluation.result)}", f"{percent(found)} %")]
    return shown


def checkpoint_name(result: dict[str, Any]) -> str:
    """The file's name without its folders."""
    return Path(str(result["checkpoint"])).name


def citation() -> str:
    """The papers in BibTeX."""
    return page.listing((page.HERE.parent / "references.bib").read_text(encoding="utf-8"))


def percent(fraction: Any) -> str:
    """0.4123 -> "41.23"; empty if it is no number."""
    return f"{100 * fraction:.2f}" if is_number(fraction) else ""
