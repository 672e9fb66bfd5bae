"""Tables of split lists: rows of cells, whatever divides them, and columns found by their names."""

import csv
import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

DELIMITERS = ("\t", ";", ",")


@dataclass(frozen=True)
class Table:
    """A table with a header.

    Args:
        path: of its file.
        columns: names in the header, spelled as by `spelled`.
        rows: line number and cells of each row, without blanks around them.
    """

    path: Path
    columns: list[str]
    rows: list[tuple[int, list[str]]]

    def column(self, names: Sequence[str]) -> int | None:
        """Place of the first of these columns that is there."""
        return next((self.columns.index(name) for name in names if name in self.columns), None)


def spelled(column: str) -> str:
    """Name of a column in lower case, without blanks and signs: "Time Start" and "time_start" are one."""
    return re.sub(r"[\W_]", "", column.casefold())


def read_table(path: Path, numbered: Sequence[tuple[int, str]], known: Set[str]) -> Table | None:
    """Table of the lines of a file; None if the first line names no two of the `known` columns.

    Raises:
        ValueError: if quotes do not fit, a cell is longer than any name, or a row has more cells than the header.
    """
    for delimiter in DELIMITERS if numbered else ():
        columns = [spelled(cell) for cell in numbered[0][1].split(delimiter)]
        if len(known & {*columns}) >= 2:
            rows = read_rows(path, numbered[1:], delimiter)
            if longer := next((row for row in rows if any(row[1][len(columns) :])), None):
                raise ValueError(
                    f"{path}, line {longer[0]}: {len(longer[1])} cells, but the header has {len(columns)}: put cells "
                    "with a comma in quotes."
                )
            return Table(path, columns, rows)
    return None


def read_rows(path: Path, numbered: Iterable[tuple[int, str]], delimiter: str) -> list[tuple[int, list[str]]]:
    """Line number and cells of each line, without blanks around the cells, which may be in quotes.

    Raises:
        ValueError: if quotes do not fit, or a cell is longer than any name.
    """
    rows = []
    for number, line in numbered:  # one by one: a stray quote cannot swallow the lines after it
        try:
            (cells,) = csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True)
        except csv.Error:
            raise ValueError(f"{path}, line {number}: a quote does not end, or a cell is too long: mend it.") from None
        rows.append((number, [cell.strip() for cell in cells]))
    return rows
