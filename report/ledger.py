"""The ledger of published numbers as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from leaderboard.view.content import Cell, Row, Section, Table, count_cell, text_cell

_DIGITS: Final = 4
_SECOND_HAND: Final = "second hand"

Entries = Sequence[Mapping[str, Any]]


def ledger_tables(entries: Entries) -> list[Table]:
    """Published numbers beside ours, what is missing for the rest, and how many there are of each verdict.

    Args:
        entries: See ``benchmark.external.published.ledger.Entry.as_json``, rows of one source together.
    """
    return [*_compared(entries), *_missing(entries), _counted(entries)]


def _compared(entries: Entries) -> list[Table]:
    found = [entry for entry in entries if entry["verdict"] != "missing"]
    sections = [
        Section(tuple(map(_row, own)), source) for source, own in groupby(found, key=lambda entry: entry["source"])
    ]
    if not sections:
        return []
    columns = ("published", "ours", "tolerance", "verdict", "what")
    notes = (
        "Ours is computed here, never copied. Reproduced: it differs from the published number by no more than the "
        "tolerance, which is the rounding of the published number or the spread of its random draws.",
    )
    return [Table("ledger", "", "", "Published numbers", "and ours", None, "row", columns, tuple(sections), notes)]


def _row(entry: Mapping[str, Any]) -> Row:
    numbers = (Cell(entry[name], digits=_DIGITS) for name in ("published", "ours", "tolerance"))
    return Row(entry["id"], (*numbers, text_cell(_verdict(entry)), text_cell(_what(entry))))


def _verdict(entry: Mapping[str, Any]) -> str:
    return f"{entry['verdict']}, {_SECOND_HAND}" if entry["second_hand"] else entry["verdict"]


def _what(entry: Mapping[str, Any]) -> str:
    return ", ".join(filter(None, (entry["method"], entry["quantity"], entry["network"], entry["layer"])))


def _missing(entries: Entries) -> list[Table]:
    """One row per source and missing thing."""
    found: dict[tuple[str, str, bool], list[Mapping[str, Any]]] = {}
    for entry in entries:
        if entry["verdict"] == "missing":
            key = (entry["source"].partition(":")[0], entry["missing"], entry["second_hand"])
            found.setdefault(key, []).append(entry)
    rows = []
    for (repository, missing, second_hand), own in found.items():
        name = own[0]["id"] if len(own) == 1 else f"{own[0]['id']} to {own[-1]['id']}"
        sources = {entry["source"] for entry in own}
        source = sources.pop() if len(sources) == 1 else f"{repository}, {len(sources)} files"
        words = f"{_SECOND_HAND}: {missing}" if second_hand else missing
        rows.append(Row(name, (count_cell(len(own)), text_cell(source), text_cell(words))))
    if not rows:
        return []
    columns = ("rows", "source", "missing")
    notes = ("Rows between the two named ones that lack something else have a line of their own.",)
    return [
        Table(
            "missing",
            "",
            "",
            "Published numbers",
            "without ours",
            None,
            "rows",
            columns,
            (Section(tuple(rows)),),
            notes,
        )
    ]


def _counted(entries: Entries) -> Table:
    columns = ("reproduced", "differs", "missing", _SECOND_HAND)
    sources = {entry["source"].partition(":")[0]: None for entry in entries}
    rows = [Row(source, _counts([e for e in entries if e["source"].partition(":")[0] == source])) for source in sources]
    sections = (Section(tuple(rows)), Section((Row("all", _counts(entries)),)))
    notes = ("Second hand: quoted by somebody else; shown, and counted in no other column.",)
    return Table("verdicts", "", "", "Verdicts", "by source", None, "source", columns, sections, notes)


def _counts(entries: Entries) -> tuple[Cell, ...]:
    own = [entry["verdict"] for entry in entries if not entry["second_hand"]]
    counts = [own.count(verdict) for verdict in ("reproduced", "differs", "missing")]
    return tuple(map(count_cell, (*counts, len(entries) - len(own))))
