"""A page for each unit, and for each group the list of its units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from leaderboard.board.build import FAITHFULNESS_MEANS, Board, measures
from leaderboard.board.facts import RunFacts
from leaderboard.board.merge import Group
from leaderboard.pages.charts import shade
from leaderboard.pages.frame import Page, number
from leaderboard.pages.units import Naming, Picture, Unit, Verdict, View, units_of

TRUTHS: Final = {
    "best_concept": "the annotated concept whose presence the clean activation predicts best",
    "class_names": "the class of this output",
    "planted": "the unit was planted to detect it",
}
"""What the truth of a task is, in words."""

OPERATIONS: Final = {"single": "one concept", "and": "both at once", "or": "either of two"}

LONG: Final = 120
"""A longer label is folded: its first part, and all of it on demand."""


@dataclass(frozen=True)
class Square:
    """One label in the overview of a unit.

    Attributes:
        x: Place in the row of its severities.
        shade: Step of the heat map; None where there is no stability.
        mark: ``right``, ``wrong`` or nothing.
    """

    x: int
    shade: int | None
    mark: str


@dataclass(frozen=True)
class Squares:
    """One method under one perturbation.

    Attributes:
        words: All that the squares show.
        squares: One per severity that ran.
    """

    words: str
    squares: tuple[Square, ...]


@dataclass(frozen=True)
class Line:
    """One perturbation in the overview of a unit.

    Attributes:
        name: Of the perturbation, or what the line is.
        target: Where the page tells more; empty if nowhere.
        begins: Whether another family of perturbations begins here.
    """

    name: str
    target: str
    begins: bool
    cells: tuple[Squares, ...]


@dataclass(frozen=True)
class Listed:
    """One unit in the list of a group's units.

    Attributes:
        truth: Empty where it is not known.
        truth_op: How the truth's concepts belong together.
        dead: Dead or constant on clean images.
        picture: Its strongest clean image, if there is one.
        verdicts: One per method that is no trivial baseline.
        stability: Mean over these methods; None without any.
    """

    unit: int
    truth: str
    truth_op: str
    dead: bool
    picture: Picture | None
    verdicts: tuple[Verdict, ...]
    stability: float | None


def unit_pages(board: Board) -> Iterator[Page]:
    """``units/SLUG/UNIT.html`` for every unit of every group, and ``units/SLUG/index.html``."""
    for group in board.runs.groups:
        listed = []
        for unit in units_of(group):
            yield _unit_page(group, unit)
            listed.append(_listed(unit))
        yield _list_page(group, listed)


def overview(unit: Unit, methods: Sequence[str], facts: RunFacts) -> tuple[Line, ...]:
    """Stability and right or wrong, one line per perturbation; first what other seeds do on clean images."""
    severities = sorted({view.severity for views in unit.views.values() for view in views})
    lines = []
    if unit.again:
        cells = tuple(_squares(method, list(enumerate(unit.again))) for method in methods)
        lines.append(Line("clean, other seed", "", False, cells))
    family = ""
    for name, views in unit.views.items():
        placed = [(severities.index(view.severity), view) for view in views]
        cells = tuple(_squares(method, placed) for method in methods)
        now = facts.kind(name)
        lines.append(Line(name, name, bool(lines) and now != family, cells))
        family = now
    return tuple(lines)


def _squares(method: str, placed: Sequence[tuple[int, View]]) -> Squares:
    words, squares = [], []
    for place, view in placed:
        naming = next((naming for naming in view.namings if naming.method == method), None)
        value = naming.stability if naming else None
        mark = {True: "right", False: "wrong", None: ""}[naming.right if naming else None]
        squares.append(Square(place, None if value is None else shade(value), mark))
        where = f"severity {view.severity}: " if view.severity else ""
        words.append(where + " ".join(filter(None, (_in_words(naming), mark))))
    return Squares("; ".join(words), tuple(squares))


def _in_words(naming: Naming | None) -> str:
    if naming is None:
        return "not run"
    return number(naming.stability) if naming.stability is not None else "no label" if not naming.label else "no value"


def _unit_page(group: Group, unit: Unit) -> Page:
    columns = [name for name in FAITHFULNESS_MEANS if any(name in v.faithfulness for v in unit.verdicts)]
    severities = sorted({view.severity for views in unit.views.values() for view in views})
    context = {
        "group": group,
        "unit": unit,
        "methods": group.methods,
        "lines": () if unit.dead else overview(unit, group.methods, group.about_run),
        "severities": severities,
        "wide": 17 * max(len(severities), len(unit.again), 1),
        "columns": [(name, measures()[name]) for name in columns],
        "measures": measures(),
        "known": any(verdict.judged or verdict.right_clean is not None for verdict in unit.verdicts),
        "long": LONG,
        "truth_words": TRUTHS.get(str(group.about.get("truth")), ""),
        "operations": OPERATIONS,
        "compared": int(group.settings["content"]["evidence_images"]),
    }
    return Page(f"units/{group.slug}/{unit.number}.html", "unit.html.jinja", context)


def _list_page(group: Group, listed: Sequence[Listed]) -> Page:
    methods = tuple(verdict.method for verdict in listed[0].verdicts) if listed else ()
    context = {"group": group, "listed": listed, "methods": methods, "operations": OPERATIONS, "long": LONG}
    return Page(f"units/{group.slug}/index.html", "units.html.jinja", context)


def _listed(unit: Unit) -> Listed:
    real = tuple(verdict for verdict in unit.verdicts if not verdict.floor)
    stable = [verdict.stability for verdict in real if verdict.stability is not None]
    picture = next((picture for picture in unit.clean.pictures if picture.uri), None)
    mean = float(np.mean(stable)) if stable else None
    return Listed(unit.number, unit.truth, unit.truth_op, unit.dead, picture, real, mean)
