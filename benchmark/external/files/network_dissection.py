"""Reader of Network Dissection's tables, which count units from 1 and contain the numbers needed to check them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from benchmark.external.files.csv_table import Table
from benchmark.external.files.rows import Found, Row, number, unit_number
from tasks.common.errors import UserError

FIRST_UNIT = 1
DETECTOR = 0.04
"""A unit counts as a detector of its label if the IoU is above this."""

_ROUNDING = 1e-8
"""The released files have nine decimals."""
_PIXELS = 112 * 112
"""Pixels of a segmentation; a 1 × 1 map covers them all."""


def network_dissection(table: Table) -> Found:
    """``unit, category, label, score`` and, for each category, ``label, truth, activation, intersect, iou``.

    Names become words as in Linear Explanations; see ``words``.

    Raises:
        UserError: A score is not the largest IoU of its row, or the category or label not that of the largest: the
            columns do not belong together.
    """
    found = Found()
    scores = np.array([number(text) for text in table.column("score")])
    cells = zip(table.lines, *map(table.column, ("unit", "category", "label")), scores.tolist(), strict=True)
    for line, unit, category, label, score in cells:
        number_of = unit_number(unit, FIRST_UNIT, f"{table.path}, line {line}")
        found.rows.append(Row(number_of, words(label, category), line, score=score))
    found.notes.append(f"{int((scores > DETECTOR).sum())} of {len(scores)} units have an IoU above {DETECTOR}.")
    categories = [name.removesuffix("-iou") for name in table.header if name.endswith("-iou")]
    if categories:
        _check_best(table, categories, scores)
        found.notes += _told(table, categories, scores)
    return found


def words(label: str, category: str) -> str:
    """A Broden name as words.

    Example:
        >>> words("greenhouse-indoor-s", "scene"), words("red-c", "color"), words("swivel_chair", "object")
        ('greenhouse, indoor', 'red color', 'swivel chair')
    """
    text = label.strip()
    if category.strip() == "scene" and text.endswith("-s"):
        text = text.removesuffix("-s").replace("-", ", ")
    elif category.strip() == "color" and text.endswith("-c"):
        text = text.removesuffix("-c") + " color"
    return text.replace("_", " ")


def _check_best(table: Table, categories: list[str], scores: Float[np.ndarray, " rows"]) -> None:
    iou = np.stack([_numbers(table, f"{name}-iou") for name in categories], axis=1)
    largest = np.where(np.isnan(iou), -np.inf, iou).max(axis=1, initial=-np.inf)
    named = [table.column(f"{name}-label") if f"{name}-label" in table.header else None for name in categories]
    told = zip(table.column("category"), table.column("label"), strict=True)
    for row, (category, label) in enumerate(told):
        place = categories.index(category.strip()) if category.strip() in categories else None
        own = named[place] if place is not None else None
        fits = (
            place is not None
            and abs(scores[row] - largest[row]) <= _ROUNDING
            and abs(iou[row, place] - largest[row]) <= _ROUNDING
            and (own is None or own[row].strip() == label.strip())
        )
        if not fits:
            raise UserError(
                f"{table.path}, line {table.lines[row]}: the score is not the largest IoU of the row, or the label and "
                "category are not those of the largest. Take the file as Network Dissection wrote it."
            )


def _told(table: Table, categories: list[str], scores: Float[np.ndarray, " rows"]) -> list[str]:
    """Notes on the file from its pixel counts."""
    broken = best = 0
    activations = []
    for name in categories:
        parts = [f"{name}-{part}" for part in ("truth", "activation", "intersect", "iou")]
        if not set(parts) <= set(table.header):
            continue
        truth, activation, intersect, iou = (_numbers(table, part) for part in parts)
        union = truth + activation - intersect
        expected = np.divide(intersect, union, out=np.zeros_like(union), where=union > 0)
        wrong = np.abs(iou - expected) > _ROUNDING
        broken, best = broken + int(wrong.sum()), best + int((wrong & (iou >= scores - _ROUNDING)).sum())
        activations.append(activation)
    notes = []
    if broken:
        notes.append(
            f"{broken} IoUs of categories are not intersect / (truth + activation - intersect), {best} of them the "
            "best of their unit."
        )
    if activations and all(bool((part % _PIXELS == 0).all()) for part in activations):
        notes.append(
            "Every activation is whole images: the layer's maps have one cell, so IoU is retrieval of images, not "
            "localisation, and the count above does not compare with that of a convolutional layer."
        )
    return notes


def _numbers(table: Table, name: str) -> Float[np.ndarray, " rows"]:
    return np.array([number(text) for text in table.column(name)])
