"""Pictures of a sweep: losses and other numbers over rounds, and accuracies over the number of labelled videos."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedvssl.data.splits import few_labels, labelled_videos
from fedvssl.files.figures import save_figure
from fedvssl.sweeping.plan import FINETUNE, PRETRAIN, Step, Sweep
from fedvssl.sweeping.results import read_results
from fedvssl.training.watch import TRIVIAL

Points = dict[float, list[float]]  # x -> values of the runs
Lines = dict[str, Points]  # title -> points
BEFORE = "before round 1"
FRACTIONS = ("iou", "eval_R@", "eval_knn", "eval_motion", "top-1")  # begin the names of metrics that start at 0
PANEL = (4.4, 3.4)  # inches


def curves_of(sweep: Sweep, steps: Sequence[Step]) -> tuple[dict[str, Lines], dict[str, Lines]]:
    """Curves of the pre-trainings over rounds.

    Returns:
        metric -> title of a row -> points, and metric -> name of a baseline -> what it reaches, of all rows: a trivial
        predictor, or the weights before round 1 as a level.
    """
    found: dict[str, Lines] = {}
    for step in steps:
        if step.command != PRETRAIN:
            continue
        curves = read_results(sweep.results_dir, step.cell).get(PRETRAIN, {}).get("curves", {})
        for name, pairs in curves.items():
            points = found.setdefault(name, {}).setdefault(sweep.rows[step.cell.row].title, {})
            for position, value in pairs:
                points.setdefault(position, []).append(value)
    predictors = [name.removeprefix(TRIVIAL) for name in found if name.startswith(TRIVIAL)]
    trivial = {f"{TRIVIAL}{predictor}": ("loss", predictor) for predictor in predictors}
    trivial |= {f"{name}_{predictor}": (name, predictor) for name in found for predictor in predictors}
    panels = {name: lines for name, lines in found.items() if name not in trivial}
    dashed: dict[str, Lines] = {}
    for name, lines in found.items():
        if name in trivial:
            metric, predictor = trivial[name]
            dashed.setdefault(metric, {})[predictor] = _merged(lines)
    for name, lines in panels.items():
        merged = _merged(lines)
        if 0 in merged:  # evaluated before the first round
            dashed.setdefault(name, {})[BEFORE] = {position: merged[0] for position in (0, max(merged))}
    return panels, dashed


def labels_of(sweep: Sweep, steps: Sequence[Step]) -> Lines:
    """Top-1 accuracies in percent after fine-tuning, over the labelled videos of a class (mean over the classes).

    A row whose measures train twice with the same number of videos has a line for the second one.
    """
    lists = {step.data for step in steps if step.data and step.command == FINETUNE}
    videos = {data: labelled_videos(data, "train") for data in lists}
    lines: Lines = {}
    kinds: dict[tuple[str, float], str] = {}
    for step in steps:
        result = read_results(sweep.results_dir, step.cell).get(step.kind)
        if step.command != FINETUNE or step.data is None or not result:
            continue
        drawn = few_labels(videos[step.data], step.settings["labels_per_class"], seed=step.cell.seed)
        x = round(len(drawn) / len({video.label for video in drawn}), 1)
        title = sweep.rows[step.cell.row].title
        if kinds.setdefault((title, x), step.kind) != step.kind:
            title = f"{title}, {step.kind}"
        lines.setdefault(title, {}).setdefault(x, []).append(100 * result["metrics"]["top1_acc"])
    return lines


def draw_curves(sweep: Sweep, steps: Sequence[Step]) -> None:
    """Draw curves.png, a panel for each metric of the pre-trainings, if there is any."""
    panels, dashed = curves_of(sweep, steps)
    if panels:
        _draw(sweep.results_dir / "curves.png", panels, dashed, x="round")


def draw_labels(sweep: Sweep, steps: Sequence[Step]) -> None:
    """Draw labels.png, if fine-tuning was done with several numbers of labelled videos."""
    lines = {title: points for title, points in labels_of(sweep, steps).items() if len(points) > 1}
    if lines:
        _draw(sweep.results_dir / "labels.png", {"top-1 (%)": lines}, {}, x="labelled videos of a class")


def _merged(lines: Lines) -> Points:
    merged: Points = {}
    for points in lines.values():
        for position, values in points.items():
            merged.setdefault(position, []).extend(values)
    return merged


def _draw(png: Path, panels: Mapping[str, Lines], dashed: Mapping[str, Lines], *, x: str) -> None:
    """Draw the panels. A line is the mean over the runs, its band their least and most."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    width, height = PANEL
    figure = Figure(figsize=(width * len(panels) + 2, height), layout="constrained")
    styles: dict[str, dict] = {}
    for title in (title for lines in panels.values() for title in lines):
        number = len(styles)
        styles.setdefault(title, {"color": f"C{number % 10}", "linestyle": "-" if number < 10 else ":"})
    baselines = {name: None for lines in dashed.values() for name in lines}
    styles |= {name: {"color": "k", "linestyle": ":" if name == BEFORE else "--"} for name in baselines}
    handles = {}
    for axes, (metric, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for title, points in {**lines, **dashed.get(metric, {})}.items():
            xs = sorted(points)
            mean, *ends = ([of(points[x]) for x in xs] for of in (statistics.mean, min, max))
            handles[title] = axes.plot(xs, mean, marker="." if len(xs) < 8 else None, **styles[title])[0]
            if title in lines:
                axes.fill_between(xs, *ends, color=styles[title]["color"], alpha=0.12, linewidth=0)
        axes.set_xlabel(x)
        axes.set_ylabel(metric.removeprefix("eval_"))
        axes.grid(alpha=0.3)
        if metric.startswith(FRACTIONS):
            axes.set_ylim(bottom=0)
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize="small")
    save_figure(figure, png)
