"""Lines and bands of the plot, read from the figure."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from fedvssl.evaluation.curves import draw_curves
from fedvssl.evaluation.intervals import wilson


@pytest.fixture
def axes(monkeypatch, tmp_path: Path):
    """Axes of a plot of three rows."""
    figures = []
    saved = Figure.savefig

    def savefig(self, *words, **options):
        figures.append(self)
        saved(self, *words, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    accs = {"a": [0, 0.5], "random": [0.1, 0.2], "mean frame": [0.3, 1]}
    curves, numbers = {name: ([1, 2], own) for name, own in accs.items()}, {**dict.fromkeys(accs, 30), "a": 20}
    draw_curves(tmp_path / "x.png", curves, num_videos=numbers, xlabel="x")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    return figures[0].axes[0]


def test_the_first_line_is_solid_and_the_baselines_are_dashed_each_in_its_way(axes):
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--", ":"]


def test_bands_are_the_intervals(axes):
    (band, *others) = axes.collections
    assert len(others) == 2
    ys = band.get_paths()[0].vertices[:, 1]
    ends = [100 * end for acc in (0, 0.5) for end in wilson(acc, 20)]
    assert {round(end, 6) for end in ends} <= {*np.round(ys, 6)}
