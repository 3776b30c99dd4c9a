"""Readers of the formats in which the methods' authors released labels, except Network Dissection's."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator

from benchmark.external.files.csv_table import Table
from benchmark.external.files.rows import Found, Row, number, ranked, unit_number

_LONGEST_LIST = 100_000
"""Maximum characters of a cell with a list; longer ones cannot be a list of eight phrases."""


def describe_and_dissect(table: Table) -> Found:
    """``Neuron ID`` with ``label``, or with ``Label 1`` to ``Label 3``, where a space means no runner-up."""
    names = ["label"] if "label" in table.header else [name for name in table.header if name.startswith("Label ")]
    found = Found()
    for line, cell in _records(table):
        unit = unit_number(cell["Neuron ID"], 0, _where(table, line))
        found.rows += ranked(unit, [cell[name] for name in names], line)
    return found


def clip_dissect(table: Table) -> Found:
    """``layer, unit, description, similarity``."""
    return _described(table, "similarity")


def milan(table: Table) -> Found:
    """``layer, unit, description``; no score."""
    return _described(table, None)


def linear_explanations(table: Table) -> Found:
    """``weight0, concept0, …`` of an explanation, or ``description`` of another method scored in the same way.

    The label is the concept of the largest weight, the others are the runners-up. The score belongs to the whole
    explanation: ``sim correlation``, on test images. ``val correlation`` is on the images that chose the explanation,
    so it is biased upward, and is never read. Units count from 0, also in the tables for Network Dissection.
    """
    found = Found()
    if "sim correlation" not in table.header:
        found.notes.append("No column 'sim correlation', so no scores; 'val correlation' is on the images of the fit.")
    for line, cell in _records(table):
        unit = unit_number(cell["unit"], 0, _where(table, line))
        labels = [cell["description"]] if "description" in cell else _concepts(cell)
        score = number(cell.get("sim correlation", ""))
        found.rows += ranked(unit, labels or [""], line, [score], cell.get("layer"))
    return found


def invert(table: Table) -> Found:
    """``neuron, concept, concept_id, metric``: the concept or formula and its AUROC."""
    return _neurons(table, "metric")


def cosy(table: Table) -> Found:
    """``neuron, concept, auc, …``: CoSy's results for another method's labels; a second run appends to the first's."""
    found = _neurons(table, "auc")
    found.notes.append("CoSy's results hold labels of another method; the file does not say which.")
    return found


def falcon(table: Table) -> Found:
    """``group, concept_set_words, concept_set_noun_phrases``: lists of (phrase, score) as Python writes them.

    The label is the first noun phrase, as in CoSy. Groups of several units are skipped: they are not the label of a
    unit.
    """
    found = Found()
    for line, cell in _records(table):
        group = cell["group"].strip()
        if not group.removesuffix(".0").isdigit():
            found.skipped["a group of several units"] += 1
            continue
        phrases = _phrases(cell["concept_set_noun_phrases"])
        if phrases is None:
            found.skipped["no list of (phrase, score)"] += 1
            continue
        unit = unit_number(group, 0, _where(table, line))
        found.rows += ranked(unit, [text for text, _ in phrases] or [""], line, [score for _, score in phrases])
    return found


def _described(table: Table, score: str | None) -> Found:
    found = Found()
    for line, cell in _records(table):
        unit = unit_number(cell["unit"], 0, _where(table, line))
        value = number(cell[score]) if score else math.nan
        found.rows.append(Row(unit, cell["description"], line, score=value, layer=cell["layer"].strip()))
    return found


def _neurons(table: Table, score: str) -> Found:
    found = Found()
    for line, cell in _records(table):
        if cell["neuron"].strip() == "neuron":
            found.skipped["the header once more"] += 1
            continue
        unit = unit_number(cell["neuron"], 0, _where(table, line))
        found.rows.append(Row(unit, cell["concept"], line, score=number(cell[score])))
    return found


def _concepts(cell: dict[str, str]) -> list[str]:
    """The concepts with nonzero weight, largest first; unused places contain the concept 0 with weight 0."""
    weighted = []
    place = 0
    while f"concept{place}" in cell:
        weight = number(cell.get(f"weight{place}", ""))
        if not (weight == 0 or math.isnan(weight)):
            weighted.append((weight, cell[f"concept{place}"]))
        place += 1
    return [concept for _, concept in sorted(weighted, key=lambda pair: -pair[0])]


def _phrases(text: str) -> list[tuple[str, float]] | None:
    """The (phrase, score) pairs of a cell; literals only, so nothing in it can run."""
    if len(text) > _LONGEST_LIST:
        return None
    try:
        pairs = ast.literal_eval(text.strip())
        return [(phrase, float(score)) for phrase, score in pairs if isinstance(phrase, str)]
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _records(table: Table) -> Iterator[tuple[int, dict[str, str]]]:
    for line, row in zip(table.lines, table.rows, strict=True):
        yield line, dict(zip(table.header, row, strict=True))


def _where(table: Table, line: int) -> str:
    return f"{table.path}, line {line}"
