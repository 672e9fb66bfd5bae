"""The charts: well-formed SVG in the page's colours, for as few and as odd numbers as a run may have."""

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from fedvssl.reporting.figures import (
    COLOURS,
    INK,
    Line,
    count_map,
    heat_map,
    is_number,
    line,
    line_chart,
    stacked_chart,
    titled,
)


def parsed(svg: str) -> ElementTree.Element:
    """The chart; fails where it is no XML of its own."""
    assert svg.startswith("<svg ") and INK not in svg and "<style" not in svg and "<metadata" not in svg
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img" and root.get("width") is None and root.get("height") is None
    return root


def words(root: ElementTree.Element) -> str:
    return " ".join(root.itertext())


def test_lines_are_named_and_the_main_one_has_the_colour_of_the_text() -> None:
    svg = line_chart(
        "a < b", [Line("global", [1, 2], [3.0, 4.0], main=True), Line("client 0", [1, 2], [3, 5])], x="round", y="%"
    )
    root = parsed(svg)
    assert root.get("aria-label") == "a < b"
    assert {"global", "client 0", "round", "%"} <= {text.strip() for text in root.itertext()}
    assert "stroke: currentColor; stroke-width: 2.2" in svg and COLOURS[0] in svg


def test_lines_without_names_are_many_and_faint() -> None:
    svg = line_chart(
        "clients", [Line(None, range(50), [n] * 50) for n in range(20)] + [Line("all", [0], [1])], x="x", y="y"
    )
    parsed(svg)
    assert svg.count("stroke-opacity: 0.3") == 20 and "_child" not in svg


def test_a_band_is_drawn_where_the_records_have_intervals() -> None:
    interval = {"a_low": 0.25, "a_high": 0.75}
    records = [{"epoch": 1, "a": 0.5}, {"epoch": 2, "a": 0.5, **interval}, {"epoch": 3, "a_low": 1.0}]
    points = line(records, "a", scale=100)
    assert points.lows == [pytest.approx(math.nan, nan_ok=True), 25.0] and points.highs[1] == 75.0
    plain = line(records[:1], "a")
    assert (plain.lows, plain.highs) == ([], [])
    banded, bare = (line_chart("a", [drawn], x="x", y="y") for drawn in (points, plain))
    parsed(banded)
    assert "FillBetweenPolyCollection" in banded and "FillBetweenPolyCollection" not in bare


@pytest.mark.parametrize("ys", [[], [1.0], [math.nan, math.nan], [1.0, math.inf]])
def test_odd_numbers_do_not_end_a_report(ys: list[float]) -> None:
    parsed(line_chart("odd", [Line("a", range(len(ys)), ys)], x="round", y="loss"))


def test_one_round_is_a_step_as_wide_as_a_round() -> None:
    shown = words(parsed(stacked_chart("one", [7], {"a": [99.0], "b": [99.0]}, x="round", y="s"))).split()
    assert "7" in shown and {"a", "b"} <= {*shown} and not {"6.5", "7.5"} & {*shown}
    assert "1.0" not in words(parsed(line_chart("one", [Line("a", [1], [5])], x="round", y="loss"))).split()


def test_long_runs_stay_small() -> None:
    svg = stacked_chart("long", range(1, 541), {"a": [2.0] * 540, "b": [1.0] * 540}, x="round", y="s")
    assert len(svg) < 150_000


def test_a_single_test_is_a_mark_with_a_bar_in_the_colour_of_its_run() -> None:
    test = Line("mine, test: 50.0 %", [2], [50.0], lows=[40.0], highs=[60.0], colour=COLOURS[3], marks=True)
    drawn = line_chart("a", [Line("mine", [1, 2], [20.0, 60.0], colour=COLOURS[3]), test], x="epoch", y="%")
    parsed(drawn)
    assert "LineCollection" in drawn and "FillBetweenPolyCollection" not in drawn
    assert COLOURS[3] in drawn and not any(colour in drawn for colour in COLOURS if colour != COLOURS[3])
    assert titled("Accuracy", [test]) == "Accuracy; bars are 95 % intervals"
    assert titled("Accuracy", [test, replace(test, marks=False)]) == "Accuracy; bars and bands are 95 % intervals"


@pytest.mark.parametrize("ys", [[0.6, 0.61], [0.0], [], [math.nan]])
def test_the_axis_of_a_fraction_begins_at_zero(ys: list[float]) -> None:
    shown = words(parsed(line_chart("a", [Line("a", range(len(ys)), ys)], x="x", y="IoU", fraction=True))).split()
    assert {"0.0", "0.00"} & {*shown} or "0" in shown


def test_counts_are_written_and_the_colour_bar_begins_at_one() -> None:
    counts = np.array([[0, 1, 30], [2, 4, 5]])
    names = ["Run", "$a_$", "Sit"]
    shown = words(parsed(count_map("counts", counts, x="class", y="client", unit="videos", names=names))).split()
    assert {"30", "5", *names, "client", "videos", "(grey:"} <= {*shown} and "0" not in shown
    assert "none" in words(parsed(count_map("counts", np.zeros((2, 2), int), x="x", y="y", unit="videos")))
    alike = words(parsed(count_map("counts", np.full((2, 2), 7), x="x", y="y", unit="videos"))).split()
    assert alike.count("7") >= 4 and "(grey:" not in alike


def test_heat_map_counts_from_one() -> None:
    root = parsed(heat_map("shares", np.arange(6).reshape(2, 3) / 6, x="class", y="client", unit="videos"))
    assert {"1", "2", "3", "class", "client", "videos"} <= {text.strip() for text in root.itertext()}
    images = [element for element in root.iter() if element.tag.endswith("image")]
    assert images and all(
        value.startswith("data:") for e in images for name, value in e.items() if name.endswith("href")
    )


def test_a_line_takes_the_records_that_have_the_number() -> None:
    records = [{"server_round": 1, "a": 0.5}, {"server_round": 2}, {"server_round": 3, "a": None}, {"epoch": 4, "a": 1}]
    points = line(records, "a", scale=100)
    assert (points.label, [*points.xs], [*points.ys]) == ("a", [1, 4], [50.0, 100])
    assert is_number(np.float32(1)) and not is_number(True) and not is_number("1")
