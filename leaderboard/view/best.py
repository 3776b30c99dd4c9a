"""Which method of a row is the best, and which are not significantly different from it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from leaderboard.board.facts import RunFacts
from leaderboard.view.content import Cell, Row
from leaderboard.view.words import listed


def emphasised(
    cells: Sequence[Cell],
    methods: Sequence[str],
    facts: RunFacts,
    groups: Mapping[str, Collection[str]] | None = None,
    higher_is_better: bool = True,
) -> tuple[Cell, ...]:
    """The cells of a row with the best and its ties marked.

    The best is the extreme value among the methods that are no trivial baselines, or several if they are equal; one
    method alone is not the best of anything. Ties are the other methods, trivial baselines too, that share a group with
    the best or, without groups, those that print the same.

    Args:
        groups: Method → its groups, see ``leaderboard.view.ties``; None without a test between methods.
        higher_is_better: Direction of the values.
    """
    rivals = {method: cell.value for cell, method in zip(cells, methods, strict=True) if _has_value(cell)}
    rivals = {method: rivals[method] for method in facts.rivals(rivals)}
    if len(rivals) < 2:
        return tuple(cells)
    top = max(rivals.values()) if higher_is_better else min(rivals.values())
    winners = [method for method, value in rivals.items() if value == top]
    marked = []
    for cell, method in zip(cells, methods, strict=True):
        best = method in winners
        tied = not best and _has_value(cell) and _is_tied(cell, method, top, winners, groups)
        marked.append(replace(cell, best=best, tied=tied))
    return tuple(marked)


def emphasis_notes(
    rows: Sequence[Row], methods: Sequence[str], facts: RunFacts, tests: Mapping[str, str] | None
) -> Iterator[str]:
    """What bold and the tie mark mean in a table.

    Args:
        rows: All rows of the table, emphasised.
        methods: Its columns.
        tests: Name of a row → the test between its methods in words; None if ties are methods that print the same.
    """
    cells = [cell for row in rows for cell in row.cells]
    tied = any(cell.tied for cell in cells)
    if not any(cell.best for cell in cells):
        return
    trivial = facts.floors(methods)
    aside = f" but the trivial baselines ({', '.join(trivial)})" if trivial else ""
    yield f"Bold: best method of the row{aside}."
    if not tests:
        yield f"{'† Prints the same as the best. ' if tied else ''}Methods are not tested against each other here."
        return
    words: dict[str, list[str]] = {}
    for row, test in tests.items():
        words.setdefault(test, []).append(row)
    shown = "; ".join(f"{listed(names)}: {test}" for test, names in words.items())
    yield f"{'† Not significantly different from the best' if tied else 'No method is tied with the best'} ({shown})."
    if len(tests) < len(rows):
        yield "In the other rows methods are not tested against each other."


def _has_value(cell: Cell) -> bool:
    return not math.isnan(cell.value)


def _is_tied(
    cell: Cell, method: str, top: float, winners: Sequence[str], groups: Mapping[str, Collection[str]] | None
) -> bool:
    if groups is None:
        return cell.shown == replace(cell, value=top).shown
    return any(set(groups.get(method, ())) & set(groups.get(winner, ())) for winner in winners)
