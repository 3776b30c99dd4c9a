"""Labels made elsewhere: the files, what their labels name, and how far methods agree, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pandas as pd

from leaderboard.store import escape
from leaderboard.view.content import Cell, Row, Section, Table, count_cell, number_cell, text_cell

_NAMING: Final = (("CLIP", "clip"), ("sentence", "sentence"), ("exact", "exact"), ("names it", "concept"))
"""Heading → column of the table of names."""
_ENCODERS: Final = {"clip": "CLIP", "sentence_encoder": "the sentence encoder"}
_AGREEMENT_NOTES: Final = (
    "CLIP, sentence: mean cosine of the two labels of one unit, over the units that both methods name, with its 95 % "
    "bootstrap interval over units. One only: units that the first or the second method alone names.",
    "Chance: mean cosine of labels of two different units. Equal: share of units with equal labels. Two methods can "
    "agree and both be wrong.",
)


def scored_label_tables(facts: Mapping[str, Any], naming: pd.DataFrame, agreement: pd.DataFrame) -> list[Table]:
    """All there is to say besides the tables of stability; what holds for all of it is noted under the last table.

    Args:
        facts: Task, profile, files, references, what is not scored.
        naming: Labels against what units should be called; see ``benchmark.external.reference_scores``.
        agreement: Pairs of methods; see ``benchmark.external.agreement``.
    """
    place = (facts["task"], facts["profile"])
    files = facts["files"]
    heads = ("format", "units", "missing", "rows of file", "SHA-256", "file")
    sections = (Section(tuple(_file_rows(files))),)
    tables = [
        Table("labels", *place, "Labels", "from files", None, "method", heads, sections, tuple(_file_notes(files)))
    ]
    if len(naming):
        heads = ("units", *(heading for heading, _ in _NAMING))
        sections = tuple(Section(tuple(map(_naming_row, own))) for own in _by_method(naming))
        notes = _naming_notes(facts["references"])
        tables.append(Table("naming", *place, "Labels", "against references", None, "labels", heads, sections, notes))
    if len(agreement):
        heads = ("units", "one only", "CLIP", "chance", "sentence", "chance", "equal")
        sections = (Section(tuple(map(_agreement_row, agreement.to_dict("records")))),)
        title, subject = "Agreement", "between methods"
        tables.append(Table("agreement", *place, title, subject, None, "methods", heads, sections, _AGREEMENT_NOTES))
    cut = (
        f"Texts of which {_ENCODERS.get(encoder, encoder)} reads the beginning only: {count}."
        for encoder, count in facts["texts_cut_by"].items()
        if count
    )
    closing = filter(None, (*facts["not_scored"], *cut, facts["note"]))
    tables[-1] = replace(tables[-1], notes=(*tables[-1].notes, *closing))
    return tables


def _file_rows(files: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """One per method: where its labels come from and how many there are."""
    for file in files:
        for method, counts in file["methods"].items():
            numbers = map(count_cell, (counts["units"], counts["missing"], file["rows"]))
            yield Row(
                method, (text_cell(file["format"]), *numbers, text_cell(file["sha256"][:12]), text_cell(_name_of(file)))
            )


def _file_notes(files: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for file in files:
        left_out = [f"rows left out, {reason}: {count}." for reason, count in file["skipped"].items()]
        latin = ["Read as Latin-1, for it is not UTF-8."] if file["encoding"] == "Latin-1" else []
        yield from (f"{_name_of(file)}: {note}" for note in (*left_out, *latin, *file["notes"]))


def _name_of(file: Mapping[str, Any]) -> str:
    return file["path"].rsplit("/", 1)[-1]


def _by_method(naming: pd.DataFrame) -> list[list[Mapping[Any, Any]]]:
    """The rows of each method: its labels, its most frequent label for every unit, one word for every unit."""
    groups: list[list[Mapping[Any, Any]]] = []
    for row in naming.to_dict("records"):
        if row["labels"] == "own":
            groups.append([])
        groups[-1].append(row)
    return groups


def _naming_row(row: Mapping[Any, Any]) -> Row:
    own = row["labels"] == "own"
    name = row["method"] if own else f"always “{escape.terminal(row['text'], limit=22)}”"
    return Row(name, (count_cell(row["units"]), *(_interval(row, column) for _, column in _NAMING)))


def _agreement_row(row: Mapping[Any, Any]) -> Row:
    cells = (
        count_cell(row["units"]),
        text_cell(f"{row['first_only']} / {row['second_only']}"),
        _interval(row, "clip"),
        number_cell(row["clip_chance"]),
        _interval(row, "sentence"),
        number_cell(row["sentence_chance"]),
        number_cell(row["equal"]),
    )
    first, second = (escape.terminal(row[name], limit=60) for name in ("first", "second"))
    return Row(f"{first} / {second}", cells)


def _naming_notes(known: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"References: {known['source']}, {known['units']} units, SHA-256 {known['sha256']}. Scores by another list do "
        "not compare.",
        "CLIP, sentence: mean cosine of label and reference with all its names, 95 % bootstrap interval over units. "
        "Exact, names it: share of units whose label is, or holds, one of the names (Wilson's interval); not a missing "
        "label.",
        "Always: the method's most frequent label, and the word “depiction”, for every unit. A cosine that these reach "
        "too shows no knowledge of the units.",
    )


def _interval(row: Mapping[Any, Any], column: str) -> Cell:
    return number_cell(row[column], row[f"{column}_low"], row[f"{column}_high"])
