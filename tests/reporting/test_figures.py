"""The charts: well-formed SVG in the page's colours, for as few and as odd numbers as a run may have."""

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from fedvssl.reporting.figures import COLOURS, INK, Line, heat_map, is_number, line, line_chart, stacked_chart


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


def test_heat_map_counts_from_one() -> None:
    root = parsed(heat_map("counts", np.arange(6).reshape(2, 3), x="class", y="client", unit="videos"))
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
