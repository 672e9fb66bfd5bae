"""Sections about the results with the backbone, the machines and the papers."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from itertools import cycle
from pathlib import Path
from typing import Any

from fedvssl.data.seen import seen_words
from fedvssl.data.validation import evaluated_videos, medium_of
from fedvssl.evaluation.intervals import in_percent
from fedvssl.files.environment import Facts
from fedvssl.files.references import bibtex, names_in, terms
from fedvssl.reporting import page
from fedvssl.reporting.commands import evaluation_command, finetuning_commands, test_command
from fedvssl.reporting.figures import COLOURS, Line, is_number, line, line_chart, titled
from fedvssl.reporting.folders import Folder
from fedvssl.reporting.learning import dashed, trivial_names
from fedvssl.sweeping.comparison import (
    ACCURACIES,
    cells,
    clip_words,
    conditions,
    facts,
    interval_words,
    recipe_words,
    single,
    training_words,
)
from fedvssl.training.watch import TRIVIAL

PERCENT = "percent [95 % interval]"
TEST_LIST = "test list, as published: do not choose an epoch by it"
# Rows of every evaluation; pictures have their pixels in the place of a mean frame.
BASELINES = {
    "random": "random weights",
    "random initial": "random weights, initial statistics",
    "mean frame": "mean frame, no network",
    "pixels": "pixels, no network",
}
# Protocols that every report mentions, before any other.
TITLES = {
    **{"retrieval": "Retrieval", "knn": "Nearest neighbours (kNN)", "linear_probe": "Linear probe"},
    "motion_probe": "Motion probe (direction of a moving window, no labels)",
}
OF_VIDEOS = {"motion_probe"}  # protocols that have no use for pictures
SOFTWARE = "The software is under Apache-2.0. Who passes weights on decides about them, within the terms of the data."


def fine_tuning(run: Folder, included: Sequence[Folder]) -> str:
    """Curves of the included folders; folders of test and evaluation alone have none."""
    trained = [folder for folder in included if folder.records]
    if not trained:
        return page.missing(
            "No fine-tuning is included; train one, then name its work_dir:",
            finetuning_commands(run),
        )
    colours = {folder.label: colour for folder, colour in zip(trained, cycle(COLOURS), strict=False)}
    losses = [replace(line(f.records, "loss", label=f.label), colour=colours[f.label]) for f in trained]
    accs = [own for folder in trained for own in accuracies(folder, colour=colours[folder.label])]
    tested = any("test_top1_acc" in record for folder in trained for record in folder.records)
    accs += chances(trained)
    title = titled("Top-1 accuracy", accs) + ("; " + TEST_LIST) * tested
    return page.charts(
        ("Loss", line_chart("Loss of fine-tuning", [*losses, *guesses(trained)], x="epoch", y="loss")),
        (title, line_chart("Top-1 accuracy of fine-tuning", accs, x="epoch", y="%", fraction=True)),
    )


def accuracies(folder: Folder, *, colour: str) -> Iterator[Line]:
    """Accuracies in percent of one fine-tuning, in its colour: a line in training, marks where it was evaluated."""
    yield replace(line(folder.records, "top1_acc", scale=100), label=f"{folder.label}, training", colour=colour)
    for part in ("validation", "test"):
        points = line(folder.records, f"{part}_top1_acc", scale=100)
        if points.xs:
            label = f"{folder.label}, {part}: {points.ys[-1]:.1f} %"
            yield replace(points, label=label, colour=colour, marks=True)


def chances(trained: Sequence[Folder]) -> list[Line]:
    """Dashed line at the accuracy of guessing, for each number of classes."""
    lines: dict[int, Line] = {}
    for folder in sorted(trained, key=lambda folder: len(folder.records)):  # the longest line stays
        classes = (folder.test or {}).get("num_classes") or folder.setting("data.num_classes")
        if isinstance(classes, int):
            xs, percent = [record["epoch"] for record in folder.records], 100 / classes
            label = f"chance, {classes} classes: {percent:.1f} %"
            lines[classes] = Line(label, xs, [percent] * len(xs), dashed=True)
    return [*lines.values()]


def guesses(trained: Sequence[Folder]) -> list[Line]:
    """Dashed lines at the losses of trivial predictors, one for all fine-tunings with the same."""
    lines: dict[str, Line] = {}
    for folder in sorted(trained, key=lambda folder: len(folder.records)):  # the longest line stays
        for name in trivial_names(folder.records):
            label = f"{name.removeprefix(TRIVIAL)}, {folder.records[-1][name]:.3g}"
            lines[label] = dashed(folder.records, name, label=label)
    return [*lines.values()]


def tables(run: Folder, included: Sequence[Folder]) -> str:
    """Tables, one for each protocol and set of videos, because only results on the same videos can be compared."""
    tests = tested(included)
    html = "<h3>Fine-tuned recognizer</h3>" + (
        "".join(map(test_table, tests)) or page.missing("No test is included:", test_command(run))
    )
    evaluations = [(folder, e.result) for folder in (run, *included) for e in folder.evaluations]
    usual = [name for name in TITLES if run.medium == "video" or name not in OF_VIDEOS]
    for protocol in dict.fromkeys([*usual, *(result["protocol"] for _, result in evaluations)]):
        html += f"<h3>{escape(TITLES.get(protocol, protocol))}</h3>"
        same: dict[str, list[tuple[Folder, dict]]] = defaultdict(list)
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
    same: dict[str, list[Folder]] = defaultdict(list)
    for folder in included:
        if folder.test:
            same[conditions(folder.test)].append(folder)
    return list(same.values())


def test_table(folders: Sequence[Folder]) -> str:
    """Tests of the same videos, above the baselines of guessing."""
    tests = [folder.test or {} for folder in folders]
    pairs = [(folder.label, test) for folder, test in zip(folders, tests, strict=True)]
    rows = {
        f"{label}{training_words(test)}{seen_words(test)}{interval_words(test, tests)}": test for label, test in pairs
    }
    first = tests[0]
    intervals = {label: test.get("intervals", {}) for label, test in rows.items()}
    baselines = {name.replace("_", " "): first[name] for name in ("majority_class", "chance") if name in first}
    return page.table(
        [PERCENT, *ACCURACIES.values()],
        [line for part in (rows, baselines) for line in cells(single(part, ACCURACIES, intervals), ACCURACIES)],
        caption=f"{evaluated_videos(first, first['num_videos'])} of {first['dataset']}, split {first['split']}; "
        f"{clip_words(first)}",
    )


def evaluation_table(results: Sequence[tuple[Folder, dict]]) -> str:
    """A row for each checkpoint, and the baselines; equal rows appear once."""
    first = results[0][1]
    names = dict.fromkeys(name for _, result in results for row in result["rows"].values() for name in row)
    metrics = {str(name): ACCURACIES.get(name, str(name)) for name in names}
    several = len({result.get("seed") for _, result in results}) > 1
    rows: dict[tuple[str, ...], None] = {}
    for folder, result in sorted(results, key=lambda pair: "checkpoint" not in pair[1]["rows"]):
        for kind, row in result["rows"].items():
            label = BASELINES.get(kind, f"{folder.label}, {checkpoint_name(result)}")
            names_seed = kind in ("random", "random initial") or (several and kind == "checkpoint")
            label += f", seed {result['seed']}" if names_seed and "seed" in result else ""
            label += seen_words(result) if kind == "checkpoint" else ""
            label += interval_words(result, [other for _, other in results])
            intervals = {label: result.get("intervals", {}).get(kind, {})}
            rows[tuple(cells(single({label: row}, metrics, intervals), metrics)[0])] = None
    ordered = sorted(rows, key=lambda row: [row[0].startswith(label) for label in [*BASELINES.values()][::-1]])
    return page.table(
        [PERCENT, *metrics.values()],
        [*ordered, *(cells(single({"chance": first["chance"]}, metrics), metrics) if first.get("chance") else [])],
        caption=f"{evaluated_videos(first, first.get('num_test', '?'))} and {first.get('num_train', '?')} training "
        f"{medium_of(first)}s of "
        f"{first['dataset']}, split {first['split']}; {clip_words(first)}{recipe_words(first)}",
    )


def confusion(run: Folder, included: Sequence[Folder]) -> str:
    """The confusion matrix of each test."""
    files = {folder.label: folder.path / "confusion_matrix.png" for folder in included if folder.test}
    drawn = [
        (label, page.picture(png, f"confusion matrix of {label}")) for label, png in files.items() if png.is_file()
    ]
    if drawn:
        return page.charts(*drawn)
    return page.missing(
        "No included folder has a confusion_matrix.png, which the test draws:",
        test_command(run),
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
        for title in [
            named(f"{folder.label}, {checkpoint_name(result)}, {result['dataset']} split {result['split']}", result)
            + recipe_words(result)
        ]
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
    tests = [(named(f"top-1, {f.label}", f.test), f.test) for f in included if f.test]
    shown = [(label, percent("top1_acc", test, test.get("intervals", {}))) for label, test in tests][:1]
    for evaluation in run.evaluations[::-1]:
        result = evaluation.result
        row, intervals = (result.get(part, {}).get("checkpoint", {}) for part in ("rows", "intervals"))
        if is_number(row.get("R@1")):
            return [*shown, (named(f"R@1, {checkpoint_name(result)}", result), percent("R@1", row, intervals))]
    return shown


def named(title: str, result: dict[str, Any]) -> str:
    """Title of a result; one on validation videos, or on videos that training had, says so."""
    part = facts(result)["part"]
    return (title if part == "test" else f"{title}, {part} {medium_of(result)}s") + seen_words(result)


def checkpoint_name(result: dict[str, Any]) -> str:
    """The file's name without its folders."""
    return Path(str(result["checkpoint"])).name


def citation(run: Folder, included: Sequence[Folder]) -> str:
    """The papers of the methods and data in BibTeX, after the terms of software and data."""
    folders = [run, *included]
    found = [e.result for folder in folders for e in folder.evaluations] + [f.test for f in folders if f.test]
    names = names_in(run.config) | {str(result["dataset"]) for result in found}
    return page.paragraph(f"{SOFTWARE} {terms(names)}") + page.listing(bibtex(names))


def percent(name: str, row: dict[str, Any], intervals: dict[str, Any]) -> str:
    """Text of an accuracy: "41.23 [33.1, 49.8] %"; empty if it is no number."""
    return f"{in_percent(row[name], intervals.get(name))} %" if is_number(row[name]) else ""
