"""Table of docs/reliability.md: faults, how each was provoked, what was promised and what was seen.

    python -m tests.reliability.table     writes the table of the stored rows into the page

Each script of this folder provokes faults of one kind and stores its rows in seen.json by calling `store`.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fedvssl.files.atomic import atomic_path, read_json, write_json

SEEN = Path(__file__).parent / "seen.json"
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- rows of tests/reliability/seen.json -->", "<!-- end of rows -->"
TITLES = ("fault", "provoked by", "promised", "seen", "times")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        fault: what goes wrong, as a user would say it.
        provoked: how the script makes it happen.
        promised: what must come of it.
        seen: what came of it, with counts.
        times: number of trials.
    """

    fault: str
    provoked: str
    promised: str
    seen: str
    times: int


def store(script: str, rows: Sequence[Row], *, path: Path = SEEN) -> None:
    """Replace the rows of a script, called by its module's last name, and write the page anew."""
    seen = read_json(path) if path.is_file() else {}
    write_json(path, dict(sorted({**seen, script: [asdict(row) for row in rows]}.items())))
    if path == SEEN:
        write_page()


def table(path: Path = SEEN) -> str:
    """All stored rows as a Markdown table."""
    seen = read_json(path) if path.is_file() else {}
    rows = [Row(**row) for rows in seen.values() for row in rows]
    cells = [TITLES, ("---",) * len(TITLES)]
    cells += [(row.fault, row.provoked, row.promised, row.seen, f"{row.times:,}") for row in rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in cells)


def write_page() -> None:
    """Replace the table of the page.

    Raises:
        ValueError: if the page lacks the marks around its table.
    """
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE} needs the lines '{BEGIN}' and '{END}' around its table.")
    with atomic_path(PAGE) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n{table()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(write_page())
