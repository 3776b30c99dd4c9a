"""Reader of CLEAR's own format: ``labels.parquet`` of a run, or a CSV file with at least ``unit`` and ``label``."""

from __future__ import annotations

from benchmark.external.files.csv_table import Table
from benchmark.external.files.rows import CLEAN, Found, Row, number, unit_number, whole
from tasks.common.errors import UserError

HIGHEST_SEVERITY = 5


def own(table: Table, task: str | None = None) -> Found:
    """``unit, label``; if present, also ``task, method, layer, perturbation, severity, repeat, rank, score``.

    Args:
        task: If the file has a column ``task``, the task whose labels to read; None for any.

    Raises:
        UserError: A number is out of range, a perturbed condition has no severity, or the task is not in the file.
    """
    found = Found()
    label = table.header.index("label")
    for line, row in zip(table.lines, table.rows, strict=True):
        cell = {name: text.strip() for name, text in zip(table.header, row, strict=True) if name != "label"}
        if task is not None and cell.get("task", task) != task:
            found.skipped["of another task"] += 1
            continue
        found.rows.append(_row(cell, row[label], line, f"{table.path}, line {line}"))
    if not found.rows and found.skipped:
        named = sorted(set(table.column("task")))
        raise UserError(f"{table.path} has no labels of task {task}, only of {', '.join(named[:5])}.")
    return found


def _row(cell: dict[str, str], label: str, line: int, where: str) -> Row:
    condition = cell.get("perturbation") or CLEAN
    severity = whole(cell["severity"], "the severity", where) if cell.get("severity") else 0
    least = 0 if condition == CLEAN else 1
    if not least <= severity <= (0 if condition == CLEAN else HIGHEST_SEVERITY):
        raise UserError(f"{where}: severity {severity} of {condition[:60]!r}; clean has 0, a perturbation 1 to 5.")
    repeat = whole(cell["repeat"], "the repeat", where) if cell.get("repeat") else 0
    rank = whole(cell["rank"], "the rank", where) if cell.get("rank") else 1
    if repeat < 0 or rank < 1:
        raise UserError(f"{where}: repeats count from 0 and ranks from 1.")
    return Row(
        unit=unit_number(cell["unit"], 0, where),
        label=label,
        line=line,
        rank=rank,
        score=number(cell.get("score", "")),
        layer=cell.get("layer") or None,
        method=cell.get("method") or None,
        condition=condition,
        severity=severity,
        repeat=repeat,
    )
