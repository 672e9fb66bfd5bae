"""Pictures for people who print them: a PNG to look at, and the same as a PDF beside it."""

from pathlib import Path
from typing import TYPE_CHECKING

from fedvssl.files.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(figure: "Figure", png: Path, *, dpi: int = 110) -> None:
    """Write `png`, and first the .pdf of its name. Equal figures make equal files."""
    with atomic_path(png.with_suffix(".pdf")) as temporary:
        figure.savefig(temporary, format="pdf", metadata={"CreationDate": None})
    with atomic_path(png) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png")
