"""Settings of rows and measures that mean nothing, told before a sweep starts."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fedvssl.sweeping.plan import STARTS, Measure, Row

Sections = Mapping[str, Mapping[str, Any] | None]  # name -> settings; None leaves it out


def check_rows(rows: Sections) -> None:
    """Check the section `rows` of conf/sweep.yaml.

    Raises:
        ValueError: naming the row.
    """
    for name, row in rows.items():
        if row is None:
            continue
        _refuse_unknown(row, Row, where=f"rows.{name}")
        if row.get("start") not in (None, *STARTS):
            raise ValueError(f"rows.{name}.start={row['start']} is none of: {', '.join(STARTS)}; or leave it out.")
        if row.get("pooled") and row.get("alone") is not None:
            raise ValueError(f"rows.{name} is pooled and alone: choose one.")


def check_measures(measures: Sections, *, rows: Sections) -> None:
    """Check the section `measures` of conf/sweep.yaml.

    Raises:
        ValueError: naming the measure.
    """
    for kind, measure in measures.items():
        if measure is None:
            continue
        _refuse_unknown(measure, Measure, where=f"measures.{kind}")
        for name in ("rows", "columns"):
            if name not in measure:
                raise ValueError(f"measures.{kind} needs '{name}', see conf/sweep.yaml.")
        if unknown := sorted({*(measure["rows"] or [])} - {*rows}):
            raise ValueError(f"measures.{kind}.rows has {unknown[0]}, which is none of: {', '.join(rows)}.")


def _refuse_unknown(section: Mapping[str, Any], kind: type[Row] | type[Measure], *, where: str) -> None:
    known = sorted(field.name for field in fields(kind))
    if unknown := sorted({*section} - {*known}):
        raise ValueError(f"{where} has '{unknown[0]}', which is none of: {', '.join(known)}.")
