"""Pictures of a sweep have the numbers of its cells."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.figure import Figure

from fedvssl import sweep
from fedvssl.config import compose
from fedvssl.sweeping import curves
from tests.stand_in import StandIn

TWO_SEEDS = "seeds=[1,2]"


FEW = (
    "+measures.finetune_1={command: finetune, overrides: ['labels_per_class=1'], rows: null, columns: {top1_acc: few}}"
)


def test_pictures_have_the_numbers_of_the_cells(words: list[str], commands: StandIn) -> None:
    two = [*words, TWO_SEEDS, FEW, "+rows.own={title: own, overrides: []}"]
    assert sweep.main(two) == 0
    settings = sweep.read(compose("sweep", two))
    _, steps = sweep.planned(settings, two)
    panels, dashed = curves.curves_of(settings, steps)
    both = {1: [9.0, 9.0], 2: [8.0, 8.0]}
    assert panels["loss"] == {"FedVSSL (0.9, 1)": both, "own": both} and {*panels} == {"loss", "iou"}
    assert dashed == {"loss": {"still": {1: [9.5] * 4, 2: [9.5] * 4}}, "iou": {"still": {1: [0.5] * 4, 2: [0.5] * 4}}}
    lines = curves.labels_of(settings, steps)
    assert lines["from scratch"] == {1: [70.0, 70.0], 2: [70.0, 70.0]} and {*lines} == {"from scratch", *panels["loss"]}


def test_a_line_keeps_its_colour_in_every_panel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures = []
    saved = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *words, **o: figures.append(self) or saved(self, *words, **o))
    panels = {"loss": {name: {1: [1.0]} for name in "ABC"}, "iou": {name: {1: [1.0]} for name in "BC"}}
    curves._draw(tmp_path / "x.png", panels, {"loss": {"still": {1: [2.0]}}}, x="round")
    figure, same = figures
    assert figure is same and {path.name for path in tmp_path.iterdir()} == {"x.png", "x.pdf"}
    assert figure.axes[1].get_ylim()[0] == 0 < figure.axes[0].get_ylim()[0], "IoU is a fraction, the loss is none"
    colors = [[line.get_color() for line in axes.lines] for axes in figure.axes]
    assert colors == [["C0", "C1", "C2", "k"], ["C1", "C2"]]
    legend = {text.get_text(): line.get_color() for text, line in zip(*legend_of(figure), strict=True)}
    assert legend == {"A": "C0", "B": "C1", "C": "C2", "still": "k"}


def legend_of(figure: Figure) -> tuple[list, list]:
    (legend,) = figure.legends
    return legend.get_texts(), legend.get_lines()


def test_an_evaluation_before_the_first_round_is_a_level(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, steps = two_runs(
        monkeypatch, {"eval_R@1": [[0, 0.2], [1, 0.3], [4, 0.5]]}, {"eval_R@1": [[0, 0.1], [4, 0.6]]}
    )
    panels, dashed = curves.curves_of(sweep, steps)
    assert panels == {"eval_R@1": {"own": {0: [0.2, 0.1], 1: [0.3], 4: [0.5, 0.6]}}}
    assert dashed == {"eval_R@1": {curves.BEFORE: {0: [0.2, 0.1], 4: [0.2, 0.1]}}}


def two_runs(monkeypatch: pytest.MonkeyPatch, *runs: dict) -> tuple[Any, list[Any]]:
    """A sweep of one row, and a step of pre-training for each of these curves."""
    steps = [SimpleNamespace(command="pretrain", cell=SimpleNamespace(row="mine")) for _ in runs]
    found = iter(runs)
    monkeypatch.setattr(curves, "read_results", lambda *_: {"pretrain": {"curves": next(found)}})
    return SimpleNamespace(results_dir=None, rows={"mine": SimpleNamespace(title="own")}), steps
