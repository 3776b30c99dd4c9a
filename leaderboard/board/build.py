"""The board: what each method reaches on each task, who can be told from whom, and what is missing from whom.

A row is a method on one task (version, profile and settings alike) and one suite, or all of the task's suites. Its
means rest on the task's own conditions alone, whatever else was run. A row that does not cover them, or not all the
units and images that the task asks for, has no means and no rank: it says what is missing.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from jaxtyping import Float

from leaderboard.board.bottleneck_findings import findings
from leaderboard.board.bottlenecks import BottleneckGroup
from leaderboard.board.comparison import compare
from leaderboard.board.groups import AnyGroup, Condition, Source
from leaderboard.board.merge import Group, Runs
from leaderboard.board.names import REFERENCE
from leaderboard.board.parallel import for_each
from leaderboard.board.summary import FAITHFULNESS_MEANS, MEANS, faithfulness_mean, means_over
from leaderboard.board.validity import Validity
from leaderboard.board.validity import as_json as validity_json
from leaderboard.board.validity_pairs import against_miniature
from leaderboard.store.columns import Column
from leaderboard.store.schema import FAITHFULNESS, SUMMARY
from metrics.stability import mlce
from metrics.statistics import Interval

BOARD_VERSION: Final = 1
"""Schema of ``board.json`` and ``board.csv``; raised whenever a key changes its meaning or goes."""

EVERY_SUITE: Final = "all"
"""Stands for all suites of a task."""

RANKED: Final = ("stability", "accuracy", "accuracy_clean")
"""Measures by which methods are tested against each other; see ``leaderboard.board.comparison``."""

_COUNTS: Final = {"units": "units", "dead": "dead", "unnamed": "missing", "distinct": "distinct", "known": "known"}
"""Count of a row → column of the summary."""

_NAMED: Final = 4
"""So many missing conditions are named one by one."""


@dataclass(frozen=True)
class Value:
    """A mean over units with its 95 % interval; absent ends are None."""

    mean: float
    low: float | None = None
    high: float | None = None


def value_of(found: Interval) -> Value:
    """An interval as the board has it."""
    return Value(float(found.estimate), *(None if math.isnan(end) else float(end) for end in (found.low, found.high)))


@dataclass(frozen=True)
class Standing:
    """A method among the others.

    Attributes:
        rank: 1 + the number of methods that are better and told apart from it, so that ties share a rank.
        letters: Two methods have a letter in common if and only if they cannot be told apart.
    """

    rank: int
    letters: str


@dataclass(frozen=True)
class Row:
    """One method on one suite, or on all.

    Attributes:
        method: Its name, with its options where they are not the default ones.
        floor: Every other method must beat it.
        suite: Name of the suite, or ``all``.
        missing: What keeps the row from being complete, each in a few words; nothing if it is complete.
        counts: ``units`` with a label, ``dead``, ``unnamed`` (no label), ``distinct`` (different clean labels),
            ``known`` (truth known).
        values: Measure → value, for the measures that have one; empty for an incomplete row.
        standings: Measure of ``RANKED`` → standing, where methods could be compared.
    """

    method: str
    floor: bool
    suite: str
    missing: tuple[str, ...]
    counts: Mapping[str, int]
    values: Mapping[str, Value]
    standings: Mapping[str, Standing]

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing


@dataclass(frozen=True)
class Standings:
    """The board of one group.

    Attributes:
        group: What it was made of.
        rows: Suite by suite, all suites first, best stability first, incomplete rows and floors last.
        comparisons: Rows of ``COMPARISONS`` (store.schema) over the complete methods and the task's own conditions.
    """

    group: Group
    rows: tuple[Row, ...]
    comparisons: pd.DataFrame

    @property
    def summary(self) -> pd.DataFrame:
        """The group's summary; see ``leaderboard.board.merge.Group``."""
        return self.group.summary

    def of_suite(self, suite: str = EVERY_SUITE) -> tuple[Row, ...]:
        """The rows of one suite, in their order."""
        return tuple(row for row in self.rows if row.suite == suite)


@dataclass(frozen=True)
class Board:
    """All groups.

    Attributes:
        runs: Where they come from.
        standings: One a group.
    """

    runs: Runs
    standings: tuple[Standings, ...]

    @cached_property
    def validity(self) -> tuple[Validity, ...]:
        """The miniature compared with each other profile; nothing where one of them is not there."""
        return against_miniature(self.runs)


def build_board(runs: Runs) -> Board:
    """Rank the methods of every group."""
    return Board(runs, tuple(for_each(_standings, runs.groups, runs.rows)))


def measures() -> dict[str, Column]:
    """Measure → its column, whose title, range and direction every table and page shows."""
    own = {name: SUMMARY.column(name) for name in MEANS}
    own |= {name: FAITHFULNESS.column(name) for name in FAITHFULNESS_MEANS}
    own["mlce"] = Column(
        "mlce",
        "number",
        f"Mean label-change error: the mean over perturbations of the sum over severities of 1 - stability, divided by "
        f"that of {REFERENCE}; below 1 labels move less than its labels do.",
        optional=True,
        low=0.0,
        higher_is_better=False,
        title="mLCE",
    )
    return own


def as_json(board: Board) -> dict[str, Any]:
    """The machine-readable board.

    Returns:
        ``schema_version``, ``clear_version``, ``as_of`` (when the newest session began), ``measures`` (name → title,
        meaning, ``higher_is_better``), ``groups``, ``bottlenecks``, ``validity`` (see ``board.validity.as_json``)
        and ``left_out``. A group has ``task``, ``version``, ``profile``, ``note``, ``slug``, ``settings``, ``sources``,
        ``conditions``, ``suites`` and ``rows``; a row has the attributes of ``Row`` and ``complete``. A bottleneck has
        the first seven of these, ``findings`` (sentences), and the rows of two of its tables: ``accuracy`` and
        ``context_anomaly``.
    """
    return {
        "schema_version": BOARD_VERSION,
        "clear_version": importlib.metadata.version("clear-benchmark"),
        "as_of": board.runs.newest,
        "measures": {
            name: {"title": c.title, "meaning": c.meaning, "higher_is_better": c.higher_is_better}
            for name, c in measures().items()
        },
        "groups": [_group_json(standings) for standings in board.standings],
        "bottlenecks": [_bottleneck_json(group) for group in board.runs.bottlenecks],
        "validity": [validity_json(validity) for validity in board.validity],
        "left_out": [{"run": left.run, "reason": left.reason} for left in board.runs.left_out],
    }


def as_frame(board: Board) -> pd.DataFrame:
    """The board as a flat table: one row a group, suite and method.

    Returns:
        ``schema_version``, ``task``, ``version``, ``profile``, ``slug``, ``suite``, ``method``, ``floor``,
        ``complete``, ``missing``, the counts, for each ranked measure its rank and letters, and for each measure its
        mean and the ends of its interval. Texts are not escaped.
    """
    rows = []
    for standings in board.standings:
        group = standings.group
        for row in standings.rows:
            place = {"task": group.task, "version": group.version, "profile": group.profile, "slug": group.slug}
            flat: dict[str, Any] = {"schema_version": BOARD_VERSION, **place, "suite": row.suite, "method": row.method}
            flat |= {"floor": row.floor, "complete": row.complete, "missing": "; ".join(row.missing), **row.counts}
            for name in RANKED:
                standing = row.standings.get(name)
                flat |= {f"{name}_rank": standing and standing.rank, f"{name}_letters": standing and standing.letters}
            for name in measures():
                value = row.values.get(name)
                ends = {"": value and value.mean, "_low": value and value.low, "_high": value and value.high}
                flat |= {f"{name}{end}": number for end, number in ends.items()}
            rows.append(flat)
    return pd.DataFrame(rows).astype({f"{name}_rank": "Int64" for name in RANKED}) if rows else pd.DataFrame()


# ---- one group ----


def _standings(group: Group) -> Standings:
    own = _of_conditions(group.scores, group.conditions)
    suites = {EVERY_SUITE: group.conditions, **group.suites}
    rows: list[Row] = []
    comparisons = pd.DataFrame()
    for suite, conditions in suites.items():
        if suite != EVERY_SUITE and (len(suites) == 2 or not conditions):
            continue
        part = _of_conditions(own, conditions)
        missing = {method: tuple(_missing(group, method, conditions)) for method in group.methods}
        ranked = [method for method, gaps in missing.items() if not gaps]
        chosen = part.loc[part["method"].isin(ranked)]
        compared = compare(chosen, group.about_run, perturbed_only=suite != EVERY_SUITE)
        if suite == EVERY_SUITE:
            comparisons = compared
        rows += _rows(group, suite, conditions, part, missing, compared)
    return Standings(group, tuple(rows), comparisons)


def _of_conditions(scores: pd.DataFrame, conditions: Sequence[Condition]) -> pd.DataFrame:
    """The rows of those conditions, and the clean ones."""
    wanted = {*conditions, ("clean", 0)}
    kept = [pair in wanted for pair in zip(scores["perturbation"], scores["severity"], strict=True)]
    return scores.loc[np.array(kept, dtype=bool)]


def _missing(group: Group, method: str, conditions: Sequence[Condition]) -> Iterator[str]:
    """What keeps a method from a mean over those conditions."""
    if not group.suites:
        yield "not recorded what a complete result covers (old run)"
        return
    asked = _units_asked(group.about["units"])
    if len(group.units) < asked:
        yield f"only {len(group.units)} of {asked} units"
    if group.settings["images"] < group.about["images"]:
        yield f"only {group.settings['images']} of {group.about['images']} images"
    yield from _lacking(group, method, conditions)


def _units_asked(units: Mapping[str, Any]) -> int:
    if units["label"] != "all":
        return units["label"]
    return (units["total"] or 0) - units["first"]


def _lacking(group: Group, method: str, conditions: Sequence[Condition]) -> list[str]:
    """The conditions in which the method has not labelled every unit of the group."""
    scores = group.scores
    own = scores.loc[(scores["method"].to_numpy() == method) & (scores["repeat"].to_numpy() == 0)]
    counts = Counter(zip(own["perturbation"], own["severity"], strict=True))
    gaps = [place for place in (("clean", 0), *conditions) if counts[place] < len(group.units)]
    named = [f"no {name} {severity}" if severity else f"no {name}" for name, severity in gaps]
    return named if len(named) <= _NAMED else [*named[: _NAMED - 1], f"and {len(named) - _NAMED + 1} more conditions"]


def _rows(
    group: Group,
    suite: str,
    conditions: Sequence[Condition],
    scores: pd.DataFrame,
    missing: Mapping[str, tuple[str, ...]],
    compared: pd.DataFrame,
) -> list[Row]:
    standings = _ranks(compared)
    reference = _by_condition(scores, REFERENCE, conditions)
    rows = []
    for method in group.methods:
        found = means_over(scores.loc[scores["method"].to_numpy() == method], group.about_run.seed)
        counts = {name: int(found[column]) for name, column in _COUNTS.items()}
        values: dict[str, Value] = {}
        if not missing[method]:
            values = {name: value for name in MEANS if (value := _value(found, name))}
            values |= _mlce(_by_condition(scores, method, conditions), reference)
            values |= _faithfulness(group, method) if suite == EVERY_SUITE else {}
        standing = standings.get(method, {})
        rows.append(Row(method, group.about_run.is_floor(method), suite, missing[method], counts, values, standing))
    return sorted(rows, key=_place)


def _place(row: Row) -> tuple[bool, bool, float, str]:
    stability = row.values.get("stability")
    return not row.complete, row.floor, -stability.mean if stability else math.inf, row.method


def _value(found: Mapping[str, Any], name: str) -> Value | None:
    numbers = [float(found[column]) for column in (name, f"{name}_low", f"{name}_high")]
    if math.isnan(numbers[0]):
        return None
    return Value(numbers[0], *(None if math.isnan(end) else end for end in numbers[1:]))


def _by_condition(
    scores: pd.DataFrame, method: str, conditions: Sequence[Condition]
) -> Float[np.ndarray, "perturbations severities"]:
    """Mean stability of a method; NaN where a perturbation has no such severity."""
    own = scores.loc[(scores["method"].to_numpy() == method) & ~scores["dead"].to_numpy(bool)]
    means = cast(pd.Series, own.groupby(["perturbation", "severity"])["stability"].mean()).to_dict()
    names = list(dict.fromkeys(name for name, _ in conditions))
    severities = sorted({severity for _, severity in conditions})
    return np.array([[means.get((name, severity), math.nan) for severity in severities] for name in names])


def _mlce(
    own: Float[np.ndarray, "perturbations severities"], reference: Float[np.ndarray, "perturbations severities"]
) -> dict[str, Value]:
    if not own.size or np.isnan(reference).all():
        return {}
    error = mlce(own, reference).value
    return {} if math.isnan(error) else {"mlce": Value(float(error))}


def _faithfulness(group: Group, method: str) -> dict[str, Value]:
    rows = group.tables["faithfulness"]
    clean = (rows["perturbation"].to_numpy() == "clean") & (rows["repeat"].to_numpy() == 0)
    own = rows.loc[clean & (rows["method"].to_numpy() == method)]
    means = {name: faithfulness_mean(own, name, group.about_run.seed) for name in FAITHFULNESS_MEANS}
    return {name: value_of(mean) for name, mean in means.items() if not math.isnan(mean.estimate)}


def _ranks(compared: pd.DataFrame) -> dict[str, dict[str, Standing]]:
    found: dict[str, dict[str, Standing]] = {}
    rows = compared.loc[(compared["kind"] == "method").to_numpy() & compared["rank"].notna().to_numpy()]
    for row in rows.to_dict("records"):
        standing = Standing(int(row["rank"]), str(row["letters"] or ""))
        found.setdefault(str(row["first"]), {})[str(row["measure"])] = standing
    return found


# ---- JSON ----


def _bottleneck_json(group: BottleneckGroup) -> dict[str, Any]:
    tables = {"accuracy": _records(group.heads), "context_anomaly": _records(group.tables["context_anomaly"])}
    return {**_place_json(group), "findings": list(findings(group)), **tables}


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows without task and profile, in the order of the schema's key; null where a value is absent."""
    plain = table.drop(columns=["task", "profile"]).astype(object)
    return plain.where(plain.notna(), None).to_dict("records")


def _place_json(group: AnyGroup) -> dict[str, Any]:
    return {
        "task": group.task,
        "version": group.version,
        "profile": group.profile,
        "note": group.about_profile.get("note", ""),
        "slug": group.slug,
        "settings": dict(group.settings),
        "sources": [_source_json(source) for source in group.sources],
    }


def _group_json(standings: Standings) -> dict[str, Any]:
    group = standings.group
    return {
        **_place_json(group),
        "conditions": [list(condition) for condition in group.conditions],
        "suites": {name: [list(condition) for condition in pairs] for name, pairs in group.suites.items()},
        "rows": [_row_json(row) for row in standings.rows],
    }


def _source_json(source: Source) -> dict[str, Any]:
    return {**vars(source), "packages": dict(source.packages), "licences": dict(source.licences)}


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "method": row.method,
        "suite": row.suite,
        "floor": row.floor,
        "complete": row.complete,
        "missing": list(row.missing),
        "counts": dict(row.counts),
        "values": {name: vars(value) for name, value in row.values.items()},
        "standings": {name: vars(standing) for name, standing in row.standings.items()},
    }
