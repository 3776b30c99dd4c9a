"""How far one profile predicts another, on the terminal, of ``Text`` only, so that no name can be read as markup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from leaderboard.board.validity import METHODS, Compared, Validity, rows
from leaderboard.board.validity_pairs import INTERVALS, TITLES, in_words, main_numbers, told_interval
from leaderboard.store.escape import terminal


def terminal_validity(validity: Validity) -> Iterator[Table | Text]:
    """The agreement, then both sides by condition and by method."""
    first, second = validity.first, validity.second
    yield _text(f"{first.task} ({first.profile}) and {second.task} ({second.profile})", "bold")
    by_condition = [one for one in validity.compared if one.of != METHODS]
    by_method = [one for one in validity.compared if one.of == METHODS]
    for part in (by_condition, by_method):
        if part:
            yield _agreement(part)
    shown = main_numbers(validity)
    for part in (shown, by_method):
        if part:
            yield _values(part, (first.profile, second.profile))
    yield from (_text(sentence) for sentence in in_words(validity))
    yield from (_text(note, "dim") for note in (*validity.notes, *([INTERVALS] if validity.compared else [])))
    if not validity.compared:
        yield _text("They have no condition in common under which both were measured.")


def _agreement(compared: Sequence[Compared]) -> Table:
    statistics = list(compared[0].agreement)
    return _table(
        ("measure", "of", "n", *(TITLES[name] for name in statistics)),
        [
            (one.measure, one.of, str(len(one.names)), *(told_interval(one.agreement[name]) for name in statistics))
            for one in compared
        ],
    )


def _values(compared: Sequence[Compared], profiles: tuple[str, str]) -> Table:
    names = list(dict.fromkeys(name for one in compared for name in one.names))
    shown = {(one.measure, one.of, name): f"{a:.2f} | {b:.2f}" for one in compared for name, a, b in rows(one)}
    heads = [f"{one.measure}: {one.of}" if one.of != METHODS else one.measure for one in compared]
    return _table(
        (" | ".join(profiles), *heads),
        [(name, *(shown.get((one.measure, one.of, name), "–") for one in compared)) for name in names],
    )


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for number, head in enumerate(heads):
        table.add_column(_text(head), justify="right" if number else "left", no_wrap=not number)
    for line in lines:
        table.add_row(*map(_text, line))
    return table


def _text(text: str, style: str = "") -> Text:
    return Text(terminal(text, limit=400), style=style)
