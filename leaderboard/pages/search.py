"""All labels of all boards on one page: a list that needs no script, which a script narrows down."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from leaderboard.board.build import Board
from leaderboard.board.merge import Condition, Group
from leaderboard.pages.board_page import distinctions
from leaderboard.pages.frame import Page
from leaderboard.store import escape

TRUTH: Final = "truth"
"""Stands in place of a method where an entry is a true concept."""

LINKS: Final = 20_000
"""With more links than this from perturbed labels to units, the page counts those units and links the clean ones."""


@dataclass(frozen=True)
class Entry:
    """One label of one method in one group, or a true concept.

    Attributes:
        label: As a reader sees it (``leaderboard.store.escape.plain``).
        group: Where.
        method: Who said so; ``truth`` for a true concept.
        clean: Units that are called so on clean images.
        perturbed: Other unit → under how many conditions it is called so.
        conditions: Under how many perturbed conditions any unit is called so.
    """

    label: str
    group: Group
    method: str
    clean: tuple[int, ...]
    perturbed: tuple[tuple[int, int], ...]
    conditions: int


def search_page(board: Board) -> Page:
    """``search.html``."""
    found = entries(board)
    context = {
        "entries": found,
        "which": distinctions(board.runs.groups),
        # Where tasks alone do not tell the groups apart.
        "many": len({group.task for group in board.runs.groups}) < len(board.runs.groups),
        "linked": sum(len(entry.perturbed) for entry in found) <= LINKS,
        "truth": TRUTH,
    }
    return Page("search.html", "search.html.jinja", context)


def entries(board: Board) -> list[Entry]:
    """All labels, clean and perturbed, sorted as in a dictionary.

    Random and constant labels are left out: they say nothing of a unit, and would be most of the list.
    """
    found = [entry for group in board.runs.groups for entry in _of_group(group)]
    return sorted(found, key=lambda e: (folded(e.label), e.label, e.method != TRUTH, e.group.slug, e.method))


def folded(text: str) -> str:
    """Without case and accents, as ``assets/search.js`` folds it."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.category(c).startswith("M")).lower()


def _of_group(group: Group) -> Iterator[Entry]:
    scores = group.scores
    truths: dict[str, set[int]] = {}
    for truth, unit in _pairs(scores, "truth", "unit"):
        truths.setdefault(escape.plain(truth), set()).add(unit)
    for truth, units in truths.items():
        if truth.strip():
            yield Entry(truth, group, TRUTH, tuple(sorted(units)), (), 0)
    first = scores.loc[
        scores["repeat"].eq(0).to_numpy() & scores["method"].isin(group.about_run.rivals(group.methods)).to_numpy()
    ]
    given: dict[tuple[str, str], list[tuple[int, Condition]]] = {}
    readable = {label: escape.plain(label) for label in first["label"].dropna().unique()}
    for label, method, unit, name, severity in _pairs(first, "label", "method", "unit", "perturbation", "severity"):
        if readable[label].strip():
            given.setdefault((method, readable[label]), []).append((unit, (name, severity)))
    for (method, label), places in given.items():
        clean = {unit for unit, (_, severity) in places if not severity}
        perturbed = Counter(unit for unit, (_, severity) in places if severity and unit not in clean)
        conditions = {condition for _, condition in places if condition[1]}
        yield Entry(label, group, method, tuple(sorted(clean)), tuple(sorted(perturbed.items())), len(conditions))


def _pairs(rows: pd.DataFrame, first: str, *others: str) -> Iterator[tuple[Any, ...]]:
    """Values of these columns, where there is a first one."""
    known = rows.loc[rows[first].notna().to_numpy(), [first, *others]]
    return zip(*(known[name].tolist() for name in known), strict=True)
