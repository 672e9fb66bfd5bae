"""Matrix of counts as coloured cells, alike in the page of a run and in the pictures of partitions and tests."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

MAX_WRITTEN = 12  # rows and columns for which the numbers are written into the cells
NOTHING = "0.93"  # grey of the cells without any


def show_counts(axes: Axes, counts: np.ndarray, *, unit: str, write: bool, first: tuple[int, int] = (1, 1)) -> None:
    """Counts [rows,columns] as colours, dark for many; cells without any stay grey, and the colour bar begins at 1.

    Args:
        axes, counts: place and numbers.
        unit: of the numbers, for the colour bar.
        write: True to write the numbers into the cells.
        first: number of the first row and column.
    """
    (rows, columns), (top, left) = counts.shape, first
    most = max(1, counts.max())
    image = axes.imshow(
        np.ma.masked_equal(counts, 0),
        aspect="auto",
        interpolation="nearest",
        extent=(left - 0.5, left + columns - 0.5, top + rows - 0.5, top - 0.5),
        norm=PowerNorm(0.5, vmin=min(1, most - 1), vmax=most),  # keeps small counts distinguishable
        cmap=colormaps["viridis_r"].with_extremes(bad=NOTHING),
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if not counts.any():
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", va="center", color="0.5")
        return
    label = unit if counts.all() else f"{unit} (grey: none)"
    ticks = MaxNLocator(integer=True, nbins=8)
    axes.figure.colorbar(image, ax=axes, label=label, pad=0.01, shrink=0.9, ticks=ticks)
    if write:
        write_numbers(axes, image, counts, first=first)


def write_numbers(axes: Axes, image: AxesImage, counts: np.ndarray, *, first: tuple[int, int] = (0, 0)) -> None:
    """Write each count but 0 into its cell, white on dark colours."""
    shades = image.to_rgba(np.ma.asarray(image.get_array()))[..., :3].mean(axis=-1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shades[row, column] < 0.5 else "black"
            place = column + first[1], row + first[0]
            axes.text(*place, f"{count}", ha="center", va="center", color=colour, fontsize=9)
