"""Pictures of a sweep: losses and other numbers over rounds, and accuracies over the number of labelled videos."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedvssl.data.splits import labelled_videos
from fedvssl.files.atomic import atomic_path
from fedvssl.sweeping.plan import FINETUNE, PRETRAIN, Plan, Step, Sweep
from fedvssl.sweeping.results import read_results
from fedvssl.training.watch import TRIVIAL

Points = dict[float, list[float]]  # x -> values of the runs
PANEL = (4.4, 3.4)  # inches


def draw_curves(sweep: Sweep, steps: Sequence[Step]) -> None:
    """Draw curves.png: a panel for the loss and each other number that a pre-training has, over rounds.

    A line is the mean over the runs of a row, its band their least and most; dashed is a trivial predictor.
    """
    found: dict[str, dict[str, Points]] = {}  # metric -> title of the row -> points
    for step in steps:
        curves = read_results(sweep.results_dir, step.cell).get(PRETRAIN, {}).get("curves", {})
        if step.command == PRETRAIN:
            for name, pairs in curves.items():
                points = found.setdefault(name, {}).setdefault(sweep.rows[step.cell.row].title, {})
                for position, value in pairs:
                    points.setdefault(position, []).append(value)
    panels, dashed = {}, {}
    for name, lines in found.items():
        if beaten := _predicted(name, found):
            dashed[beaten] = _merged(lines.values())
        else:
            panels[name] = lines
    if panels:
        _draw(sweep.results_dir / "curves.png", panels, dashed, x="round")


def draw_labels(sweep: Sweep, plans: Sequence[Plan], steps: Sequence[Step]) -> None:
    """Draw labels.png: top-1 accuracy after fine-tuning over the labelled videos of a class, a line for each row."""
    lines: dict[str, Points] = {}
    for step in steps:
        result = read_results(sweep.results_dir, step.cell).get(step.kind)
        if step.command == FINETUNE and result:
            points = lines.setdefault(sweep.rows[step.cell.row].title, {})
            points.setdefault(_labels(step, plans), []).append(100 * result["metrics"]["top1_acc"])
    if len({labels for points in lines.values() for labels in points}) > 1:
        _draw(sweep.results_dir / "labels.png", {"top-1 (%)": lines}, {}, x="labelled videos of a class")


def _labels(step: Step, plans: Sequence[Plan]) -> float:
    """Number of labelled videos of a class; of all videos its mean over the classes."""
    if (chosen := step.settings["labels_per_class"]) is not None:
        return chosen
    plan = next(plan for plan in plans if plan.data.split == step.cell.split)
    return round(len(labelled_videos(plan.data, "train")) / plan.data.num_classes, 1)


def _predicted(name: str, found: Mapping[str, Any]) -> str | None:
    """The metric of which a trivial predictor reaches this one, as "loss" of "trivial_still"; None for any other."""
    if name.startswith(TRIVIAL):
        return "loss"
    others = [other.removeprefix(TRIVIAL) for other in found if other.startswith(TRIVIAL)]
    return next((name.removesuffix(f"_{other}") for other in others if name.endswith(f"_{other}")), None)


def _merged(lines: Iterable[Points]) -> Points:
    merged: Points = {}
    for points in lines:
        for position, values in points.items():
            merged.setdefault(position, []).extend(values)
    return merged


def _draw(png: Path, panels: Mapping[str, Mapping[str, Points]], dashed: Mapping[str, Points], *, x: str) -> None:
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    width, height = PANEL
    figure = Figure(figsize=(width * len(panels) + 2, height), layout="constrained")
    handles: dict[str, Any] = {}
    for axes, (metric, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for number, (title, points) in enumerate(lines.items()):
            xs = sorted(points)
            color, mean = f"C{number % 10}", [statistics.mean(points[position]) for position in xs]
            style = "-" if number < 10 else ":"
            handles[title] = axes.plot(xs, mean, style, color=color, marker="." if len(xs) < 8 else None)[0]
            ends = [[end(points[position]) for position in xs] for end in (min, max)]
            axes.fill_between(xs, *ends, color=color, alpha=0.12, linewidth=0)
        if metric in dashed:
            xs = sorted(dashed[metric])
            mean = [statistics.mean(dashed[metric][position]) for position in xs]
            handles["trivial predictor"] = axes.plot(xs, mean, "k--", linewidth=1)[0]
        axes.set_xlabel(x)
        axes.set_ylabel(metric)
        axes.grid(alpha=0.3)
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize="small")
    with atomic_path(png) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
