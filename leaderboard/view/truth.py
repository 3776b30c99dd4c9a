"""Tables about the truth, from the scores: right against stable, and accuracy by kind of truth and perturbation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, cast

import numpy as np
import pandas as pd

from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import by_task
from leaderboard.board.intervals import share_interval
from leaderboard.board.names import GROUP_NAMES
from leaderboard.view.best import emphasis_notes, emphasised
from leaderboard.view.content import Cell, Row, Section, Table, cell_of, count_cell
from leaderboard.view.words import count_range, severities_in_words
from metrics.stability import four_way

OUTCOMES: Final = ("right and stable", "right to wrong", "wrong to right", "wrong and stable")
"""In the order of ``metrics.stability.four_way``."""

_KINDS: Final = {"single": "single", "and": "AND", "or": "OR"}
_INTERVAL: Final = (
    "Brackets: 95 % interval, Wilson where each unit has one verdict or all agree, else bootstrap over units. No test."
)
_JOINED: Final = " AND, OR: units of two concepts; the label must name both, or one of them."

_BOTH: Final = " Both named: by all labels that the method gives; most methods give one."


class _Group(NamedTuple):
    name: str
    rows: pd.DataFrame


def right_and_stable(scores: pd.DataFrame, facts: RunFacts) -> list[Table]:
    """How often each method's label is right before and after a perturbation: one table per task with truth.

    Shares of pairs of unit and perturbed condition, over the units that live and whose truth is known; a missing label
    is wrong.

    Args:
        scores: Rows of ``leaderboard.store.schema.SCORES``.
    """
    return [
        _right_and_stable(task, profile, rows.loc[~_clean(rows)], facts)
        for task, profile, rows in _with_truth(scores)
        if not _clean(rows).all()
    ]


def accuracy_by_truth(scores: pd.DataFrame, facts: RunFacts) -> list[Table]:
    """Accuracy on clean images and per group of perturbations, split by kind of truth: one concept, AND, OR of two.

    Args:
        scores: Rows of ``leaderboard.store.schema.SCORES``; without the column ``truth_op``, or where it is absent, all
            truths are of one kind.
    """
    return [_accuracy_by_truth(task, profile, rows, facts) for task, profile, rows in _with_truth(scores)]


def _with_truth(scores: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    if not len(scores):
        return
    known = scores.loc[scores["truth"].notna().to_numpy() & ~scores["dead"].to_numpy(bool)]
    # A method could raise its accuracy by leaving hard units unnamed.
    verdicts = {
        name: known[name].astype("boolean").fillna(False).astype(bool)
        for name in ("right_clean", "right", "named_both")
        if name in known
    }
    known = known.assign(**verdicts).sort_values(["perturbation", "severity", "repeat", "unit"], kind="stable")
    yield from by_task(known)


def _right_and_stable(task: str, profile: str, rows: pd.DataFrame, facts: RunFacts) -> Table:
    methods = facts.ordered(set(rows["method"]))
    columns = [_outcomes(rows.loc[rows["method"].to_numpy() == method], facts.seed) for method in methods]
    outcomes = [Row(name, tuple(column[number] for column in columns)) for number, name in enumerate(OUTCOMES)]
    outcomes[0] = Row(OUTCOMES[0], emphasised(outcomes[0].cells, methods, facts))
    counts = [_counts(rows.loc[rows["method"].to_numpy() == method]) for method in methods]
    names = ("units with truth", "conditions", "labels missing")
    counted = [Row(name, tuple(count_cell(count[number]) for count in counts)) for number, name in enumerate(names)]
    units = count_range([count[0] for count in counts], "units")
    return Table(
        "right_and_stable",
        task,
        profile,
        "Right against stable",
        "",
        None,
        "Label",
        methods,
        (Section(tuple(outcomes)), Section(tuple(counted))),
        (
            f"Shares of pairs of unit and perturbed condition, over {units} whose truth is known: "
            "right = the label names the truth, stable = the verdict is that of the clean label, so that a wrong "
            f"label which turns into another wrong one is wrong and stable; a missing label is wrong. {_INTERVAL}",
            *emphasis_notes(outcomes[:1], methods, facts, None),
            *facts.notes,
        ),
    )


def _outcomes(rows: pd.DataFrame, seed: int) -> tuple[Cell, ...]:
    clean, now, units = (rows[name].to_numpy() for name in ("right_clean", "right", "unit"))
    order = np.argsort(units, kind="stable")
    starts = np.flatnonzero(np.diff(units[order])) + 1
    per_unit = np.array([four_way(clean[part], now[part]).shares for part in np.split(order, starts)])
    return tuple(cell_of(share_interval(per_unit[:, number], seed)) for number in range(len(OUTCOMES)))


def _counts(rows: pd.DataFrame) -> tuple[int, int, int]:
    return len(set(rows["unit"])), _conditions(rows), int(rows["missing"].to_numpy(bool).sum())


def _accuracy_by_truth(task: str, profile: str, rows: pd.DataFrame, facts: RunFacts) -> Table:
    methods = facts.ordered(set(rows["method"]))
    sections = tuple(Section(tuple(_group_rows(part, methods, facts)), title) for title, part in _by_kind(rows))
    both = rows.loc[rows["named_both"].to_numpy(bool)] if "named_both" in rows else rows.iloc[:0]
    if len(both):
        pairs = rows.loc[rows["truth_op"].eq("or").to_numpy(bool)]
        named = tuple(_group_rows(pairs, methods, facts, "named_both"))
        sections = (*sections, Section(named, _kind_title("OR, both concepts named", pairs)))
    severities = sorted(set(rows["severity"].to_numpy()[~_clean(rows)].tolist()))
    at = f"{severities_in_words(severities).capitalize()}. " if severities else ""
    return Table(
        "accuracy_by_truth",
        task,
        profile,
        "Accuracy",
        "by kind of truth",
        True,
        "Images",
        methods,
        sections,
        (
            f"{at}Share of the n units of a kind whose label names the truth: on clean "
            "images, then on perturbed ones by group, with the number of conditions; a missing label is wrong."
            f"{_JOINED if _has_pairs(rows) else ''}{_BOTH if len(both) else ''} {_INTERVAL}",
            *emphasis_notes([row for section in sections for row in section.rows], methods, facts, None),
            *facts.notes,
        ),
    )


def _by_kind(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """All truths together, then each kind if there are several."""
    kinds = rows["truth_op"].astype(object) if "truth_op" in rows else pd.Series(None, index=rows.index, dtype=object)
    kinds = kinds.where(kinds.notna(), "").to_numpy()
    names = {**_KINDS, **{kind: kind for kind in sorted(set(kinds) - set(_KINDS))}, "": "not known"}
    present = [kind for kind in names if (kinds == kind).any()]
    if len(present) > 1 or present == [""]:
        yield _kind_title("all", rows), rows
    for kind in present if present != [""] else []:
        part = rows.loc[kinds == kind]
        yield _kind_title(names[kind], part), part


def _has_pairs(rows: pd.DataFrame) -> bool:
    return "truth_op" in rows and bool(rows["truth_op"].isin(["and", "or"]).any())


def _kind_title(name: str, rows: pd.DataFrame) -> str:
    return f"{name} (n = {rows['unit'].nunique()})"


def _group_rows(rows: pd.DataFrame, methods: Sequence[str], facts: RunFacts, verdict: str = "right") -> Iterator[Row]:
    for group in _groups(rows, facts):
        cells = []
        for method in methods:
            own = group.rows.loc[group.rows["method"].to_numpy() == method]
            per_unit = cast(pd.Series, own.groupby("unit")[verdict].mean()).to_numpy(np.float64)
            cells.append(cell_of(share_interval(per_unit, facts.seed)))
        yield Row(group.name, emphasised(cells, methods, facts))


def _groups(rows: pd.DataFrame, facts: RunFacts) -> Iterator[_Group]:
    clean = _clean(rows)
    yield _Group("clean", rows.loc[clean & (rows["repeat"].to_numpy() == 0)])
    perturbed = rows.loc[~clean]
    groups = perturbed["perturbation"].map(facts.kind).to_numpy()
    present = [name for name in dict.fromkeys((*GROUP_NAMES, *sorted(set(groups)))) if (groups == name).any()]
    for name in present:
        part = perturbed.loc[groups == name]
        yield _Group(f"{name} ({_conditions(part)})", part)
    if len(present) > 1:
        yield _Group(f"all perturbed ({_conditions(perturbed)})", perturbed)


def _conditions(rows: pd.DataFrame) -> int:
    return len(rows[["perturbation", "severity"]].drop_duplicates())


def _clean(rows: pd.DataFrame) -> np.ndarray:
    return rows["perturbation"].to_numpy() == "clean"
