"""Sets of labels from resampled probing sets: what the tables say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import by_task
from leaderboard.view.content import Cell, Row, Section, Table, count_cell, number_cell
from leaderboard.view.words import condition_name, percent

SHOWN_LEVEL: Final = 0.9
"""Level of the tables and panels that vary something else."""

_KINDS: Final = {"all": "all units", "single": "single", "and": "AND", "or": "OR", "unknown": "truth not known"}
_INTERVALS: Final = "95 % intervals over units: Wilson where each unit has one verdict, else bootstrap. No test."


@dataclass(frozen=True)
class Sets:
    """The sets of one task's units.

    Attributes:
        methods: In order, trivial baselines last.
        conditions: ``clean`` first.
        levels: Ascending.
        draws: Ascending.
        rows: (method, condition, kind, draws, level) → row of ``leaderboard.store.analysis_schema.LABEL_SETS``.
    """

    task: str
    profile: str
    methods: tuple[str, ...]
    conditions: tuple[tuple[str, int], ...]
    levels: tuple[float, ...]
    draws: tuple[int, ...]
    rows: Mapping[tuple[str, tuple[str, int], str, int, float], Mapping[str, Any]]

    def cell(
        self,
        measure: str,
        method: str,
        condition: tuple[str, int] = ("clean", 0),
        kind: str = "all",
        draws: int | None = None,
        level: float = SHOWN_LEVEL,
    ) -> Cell:
        """A mean over units with its interval; empty where it was not measured.

        Args:
            draws: None for the most.
        """
        row = self.rows.get((method, condition, kind, self.draws[-1] if draws is None else draws, level))
        if row is None:
            return Cell()
        return number_cell(row[measure], row.get(f"{measure}_low"), row.get(f"{measure}_high"))

    def kinds(self) -> tuple[str, ...]:
        """The kinds of truth on clean images, ``all`` first."""
        found = {kind for _, condition, kind, *_ in self.rows if condition == ("clean", 0)}
        return tuple(kind for kind in _KINDS if kind in found)

    def units(self, kind: str = "all") -> int:
        """Number of units of a kind."""
        return max(int(row["units"]) for key, row in self.rows.items() if key[2] == kind)


def sets_of_tasks(table: pd.DataFrame, facts: RunFacts) -> Iterator[Sets]:
    """The sets of each task and profile.

    Args:
        table: Rows of ``leaderboard.store.analysis_schema.LABEL_SETS``.
    """
    for task, profile, rows in by_task(table):
        conditions = {(str(row["perturbation"]), int(row["severity"])) for row in rows.to_dict("records")}
        order = facts.in_order({name for name, _ in conditions})
        ordered = sorted(conditions, key=lambda one: (one[0] != "clean", order.index(one[0]), one[1]))
        named = {
            (r["method"], (r["perturbation"], int(r["severity"])), r["kind"], int(r["draws"]), float(r["level"])): r
            for r in rows.to_dict("records")
        }
        levels, draws = sorted({key[4] for key in named}), sorted({key[3] for key in named})
        methods = facts.ordered(set(rows["method"]))
        yield Sets(task, profile, methods, tuple(ordered), tuple(levels), tuple(draws), named)


def label_set_contents(table: pd.DataFrame, facts: RunFacts) -> list[Table]:
    """All tables: for each task found against nominal, the conditions, and the number of draws.

    Args:
        table: Rows of ``leaderboard.store.analysis_schema.LABEL_SETS``.
    """
    return [made(found, facts) for found in sets_of_tasks(table, facts) for made in (_levels, _conditions, _draws)]


def _levels(found: Sets, facts: RunFacts) -> Table:
    measures = ("coverage", "randomised", "truth", "first_right", "size", "one_label")
    sections = []
    for method in found.methods:
        for kind in ("all",) if facts.is_floor(method) else found.kinds():
            rows = [
                Row(percent(level), tuple(found.cell(name, method, kind=kind, level=level) for name in measures))
                for level in found.levels
            ]
            title = method if kind == "all" else f"{method}, {_KINDS[kind]} (n = {found.units(kind)})"
            sections.append(Section(tuple(rows), title))
    return Table(
        "label_sets",
        found.task,
        found.profile,
        "Sets of labels",
        f"from {found.draws[-1]} resampled probing sets, clean",
        None,
        "Nominal",
        ("redraws", "randomised", "truth", "first right", "size", "one label"),
        tuple(sections),
        (
            f"{found.units()} units. Redraws: share of further resampled probing sets whose label is in the set, which "
            "is what a nominal level promises. Randomised: the same if the last label counts only as far as the level "
            "needs it; whole labels overshoot. Truth: share of units whose set holds a right label, which no level "
            "promises. First right: the most frequent label alone. Size: labels per set; one label: share of sets with "
            "a single one.",
            _INTERVALS,
            *facts.notes,
        ),
    )


def _conditions(found: Sets, facts: RunFacts) -> Table:
    measures = ("coverage", "randomised", "truth", "first_right", "size")

    def row(method: str, condition: tuple[str, int]) -> Row:
        return Row(condition_name(*condition), tuple(found.cell(name, method, condition) for name in measures))

    return Table(
        "label_sets_conditions",
        found.task,
        found.profile,
        f"Sets of labels at nominal {percent(SHOWN_LEVEL)}",
        "under each condition",
        None,
        "Condition",
        ("redraws", "randomised", "truth", "first right", "size"),
        tuple(Section(tuple(row(method, one) for one in found.conditions), method) for method in found.methods),
        (
            "Sets are made and tested with the same resampled images under each condition. Columns as in the table of "
            "nominal levels.",
            _INTERVALS,
            *facts.notes,
        ),
    )


def _draws(found: Sets, facts: RunFacts) -> Table:
    def row(method: str, draws: int) -> Row:
        measures = ("coverage", "randomised", "truth", "size")
        return Row(method, (count_cell(draws), *(found.cell(name, method, draws=draws) for name in measures)))

    return Table(
        "label_sets_draws",
        found.task,
        found.profile,
        f"Sets of labels at nominal {percent(SHOWN_LEVEL)}",
        "by the number of draws, clean",
        None,
        "Method",
        ("draws", "redraws", "randomised", "truth", "size"),
        tuple(Section(tuple(row(method, count) for count in found.draws)) for method in found.methods),
        (
            "A set costs as many labellings as draws. Columns as in the table of nominal levels.",
            _INTERVALS,
            *facts.notes,
        ),
    )
