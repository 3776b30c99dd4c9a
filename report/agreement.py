"""Labels made elsewhere on the terminal: the files, what their labels name, and how far methods agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from leaderboard.store import escape
from leaderboard.view.content import Cell, printed
from report.terminal import terminal_cell

_NAMING = (("CLIP", "clip"), ("sentence", "sentence"), ("exact", "exact"), ("names it", "concept"))
"""Heading → column of the table of names."""
_ENCODERS = {"clip": "CLIP", "sentence_encoder": "the sentence encoder"}
_AGREEMENT_NOTES = (
    "CLIP, sentence: mean cosine of the two labels of one unit, over the units that both methods name, with its 95 % "
    "bootstrap interval over units. One only: units that the first or the second method alone names.",
    "Chance: mean cosine of labels of two different units. Equal: share of units with equal labels. Two methods can "
    "agree and both be wrong.",
)


def terminal_scored_labels(
    facts: Mapping[str, Any], naming: pd.DataFrame, agreement: pd.DataFrame
) -> list[Table | Text]:
    """All there is to say besides the tables of stability, of ``Text`` only.

    Args:
        facts: Task, profile, files, references, what is not scored.
        naming: Labels against what units should be called; see ``benchmark.external.reference_scores``.
        agreement: Pairs of methods; see ``benchmark.external.agreement``.
    """
    parts: list[Table | Text] = [_heading(f"Labels: {facts['task']}"), files_table(facts["files"])]
    for file in facts["files"]:
        name = file["path"].rsplit("/", 1)[-1]
        left_out = [f"rows left out, {reason}: {count}." for reason, count in file["skipped"].items()]
        latin = ["Read as Latin-1, for it is not UTF-8."] if file["encoding"] == "Latin-1" else []
        parts += [_dim(f"{name}: {note}") for note in (*left_out, *latin, *file["notes"])]
    if len(naming):
        known = facts["references"]
        parts += [Text(), _heading(f"What the units should be called: {facts['task']}, profile {facts['profile']}")]
        parts += [naming_table(naming), *map(_dim, _naming_notes(known))]
    if len(agreement):
        parts += [Text(), _heading(f"Agreement between methods: {facts['task']}, profile {facts['profile']}")]
        parts += [agreement_table(agreement), *map(_dim, _AGREEMENT_NOTES)]
    cut = [
        f"Texts of which {_ENCODERS.get(encoder, encoder)} reads the beginning only: {count}."
        for encoder, count in facts["texts_cut_by"].items()
        if count
    ]
    return [*parts, Text(), *map(_dim, (*facts["not_scored"], *cut, facts["note"]))]


def files_table(files: Sequence[Mapping[str, Any]]) -> Table:
    """One line a method: where its labels come from and how many there are."""
    table = _table("method", "format", "units", "missing", "rows of file", "SHA-256", "file")
    for file in files:
        for method, counts in file["methods"].items():
            table.add_row(
                _text(method),
                Text(file["format"]),
                *(Text(str(number)) for number in (counts["units"], counts["missing"], file["rows"])),
                Text(file["sha256"][:12]),
                _text(file["path"].rsplit("/", 1)[-1]),
            )
    return table


def naming_table(naming: pd.DataFrame) -> Table:
    """Three lines a method: its labels, its most frequent label for every unit, one word for every unit."""
    table = _table("labels", "units", *(heading for heading, _ in _NAMING))
    for row in naming.to_dict("records"):
        if row["labels"] == "own":
            table.add_section()
            said = _text(row["method"])
        else:
            said = Text(f"always “{escape.terminal(row['text'], limit=22)}”")
        table.add_row(said, Text(str(row["units"])), *(_interval(row, column) for _, column in _NAMING))
    return table


def agreement_table(agreement: pd.DataFrame) -> Table:
    """One line a pair of methods."""
    table = _table("methods", "units", "one only", "CLIP", "chance", "sentence", "chance", "equal")
    for row in agreement.to_dict("records"):
        table.add_row(
            Text(f"{escape.terminal(row['first'], limit=60)} / {escape.terminal(row['second'], limit=60)}"),
            Text(str(row["units"])),
            Text(f"{row['first_only']} / {row['second_only']}"),
            _interval(row, "clip"),
            Text(printed(row["clip_chance"])),
            _interval(row, "sentence"),
            Text(printed(row["sentence_chance"])),
            Text(printed(row["equal"])),
        )
    return table


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


def _interval(row: Mapping[str, Any], column: str) -> Text:
    return terminal_cell(Cell(row[column], row[f"{column}_low"], row[f"{column}_high"]), intervals=True)


def _table(*headings: str) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    left = ("method", "methods", "labels", "format", "file", "SHA-256")
    for heading in headings:
        table.add_column(Text(heading), justify="left" if heading in left else "right")
    return table


def _heading(text: str) -> Text:
    return Text(escape.terminal(text), style="bold")


def _dim(text: str) -> Text:
    return Text(escape.terminal(text), style="dim")


def _text(text: str) -> Text:
    return Text(escape.terminal(text, limit=80))
