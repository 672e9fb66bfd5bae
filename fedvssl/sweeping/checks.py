"""Settings of rows and measures that mean nothing, told before a sweep starts."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fedvssl.sweeping.plan import FINETUNE, PRETRAIN, STARTS, Measure, Row

PROTOCOLS = ("retrieval", "linear_probe", "knn", "motion_probe", "semi")
Sections = Mapping[str, Mapping[str, Any] | None]  # name -> settings; None leaves it out


def check_rows(rows: Sections) -> None:
    """Check the section `rows` of conf/sweep.yaml.

    Raises:
        ValueError: naming the row.
    """
    for name, row in rows.items():
        if row is None:
            continue
        where = f"rows.{name}"
        _refuse_unknown(row, Row, where=where)
        start, alone = row.get("start"), row.get("alone")
        if start not in (None, *STARTS):
            raise ValueError(f"{where}.start={start} is none of: {', '.join(STARTS)}; or leave it out.")
        if alone is not None and (type(alone) is not int or alone < 1):
            raise ValueError(f"{where}.alone={alone} must be the number of a client, from 1.")
        if alone is not None and (row.get("pooled") or start):
            raise ValueError(f"{where} is alone, and pooled or with a start of its own: choose one.")
        _check_list(row, "overrides", where=where)


def check_measures(measures: Sections, *, rows: Sections) -> None:
    """Check the section `measures` of conf/sweep.yaml.

    Raises:
        ValueError: naming the measure.
    """
    for kind, measure in measures.items():
        if measure is None:
            continue
        where = f"measures.{kind}"
        _refuse_unknown(measure, Measure, where=where)
        if kind == PRETRAIN:
            raise ValueError(f"{where}: the name is that of pre-training, choose another.")
        command = measure.get("command", kind)
        if command not in (FINETUNE, *PROTOCOLS):
            raise ValueError(f"{where} needs a command: {FINETUNE}, {', '.join(PROTOCOLS)}; {command} is none of them.")
        if not (isinstance(measure.get("columns"), Mapping) and measure["columns"]):
            raise ValueError(f"{where} needs 'columns', such as {{top1_acc: top-1}}, see conf/sweep.yaml.")
        _check_list(measure, "overrides", where=where)
        if measure.get("rows") is not None:
            _check_list(measure, "rows", where=where)
        named = [*(measure.get("rows") or []), *filter(None, [measure.get("baseline")])]
        if unknown := [name for name in named if name not in rows]:
            raise ValueError(f"{where} names the row {unknown[0]}, which is none of: {', '.join(rows)}.")


def _refuse_unknown(section: Mapping[str, Any], kind: type[Row] | type[Measure], *, where: str) -> None:
    known = sorted(field.name for field in fields(kind))
    if unknown := sorted({*section} - {*known}):
        raise ValueError(f"{where} has '{unknown[0]}', which is none of: {', '.join(known)}.")


def _check_list(section: Mapping[str, Any], name: str, *, where: str) -> None:
    value = section.get(name, [])
    if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        raise ValueError(f"{where}.{name}={value} must be a list of words.")
