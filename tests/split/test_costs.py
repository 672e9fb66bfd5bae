"""What a client of split learning costs: parameters and latents of the published table, and how many are timed."""

import pytest

from benchmarks import split

PUBLISHED = {  # cut -> parameters of a client, latent, its KiB
    "1": ("1,856", "64x32x32", "256"),
    "2": ("75,840", "64x32x32", "256"),
    "3": ("149,824", "64x32x32", "256"),
    "1 + C4S2": ("4,164", "4x16x16", "4"),
    "2 + C4S2": ("78,148", "4x16x16", "4"),
}


@pytest.mark.parametrize("cut", PUBLISHED)
def test_the_table_is_the_published_one_with_the_latents_that_really_travel(cut: str) -> None:
    cells = {kind: split.row(64, cut, frozen=kind).strip("| ").split(" | ") for kind in (False, True)}
    for frozen, row in cells.items():
        assert tuple(row[2:5]) == PUBLISHED[cut]
        kib = float(row[4])
        assert [float(cell) for cell in row[8:]] == [2 * kib, 0 if frozen else kib, kib, 0 if frozen else kib]
    trained, kept = ([float(cell) for cell in cells[kind][5:8]] for kind in (False, True))
    assert trained[0] > kept[0] > 0 and trained[1] > kept[1] > 0 and trained[2] > kept[2] == 0


def test_a_convolution_is_counted_for_both_views_and_its_weights_gradient() -> None:
    """Cut 1 at width 64: 64 channels of 27 multiply-adds at 1,024 places, three times."""
    assert float(split.row(64, "1", frozen=False).split(" | ")[5]) == round(3 * 64 * 27 * 1024 / 1e6, 1)


def test_all_ways_of_a_step_are_timed() -> None:
    found = split.steps(8, "1 + C4S2", number=3, repeats=1)
    ways = ("vmap", "one after the other", "one client", "frozen, in one batch")
    assert all(found[way] > 0 for way in ways)
    assert found["vmap - one client"] == found["vmap"] - found["one client"]
