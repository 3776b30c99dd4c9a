"""The board in files: JSON, and a flat table for CSV."""

from __future__ import annotations

import importlib.metadata
from typing import Any, Final

import pandas as pd

from leaderboard.board.bottlenecks import BottleneckGroup
from leaderboard.board.build import RANKED, Board, Row, Standings, measures
from leaderboard.board.groups import AnyGroup, Source
from leaderboard.board.validity import as_json as validity_json
from leaderboard.view.bottleneck_findings import findings

BOARD_VERSION: Final = 1
"""Schema of ``board.json`` and ``board.csv``; raised whenever a key changes its meaning or goes."""


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
    """The board as a flat table: one row per group, suite and method.

    Returns:
        ``schema_version``, ``task``, ``version``, ``profile``, ``slug``, ``suite``, ``method``, ``validation``,
        ``floor``, ``complete``, ``missing``, the counts, for each ranked measure its rank and letters, and for each
        measure its mean and the ends of its interval. Texts are not escaped.
    """
    rows = []
    for standings in board.standings:
        group = standings.group
        for row in standings.rows:
            place = {"task": group.task, "version": group.version, "profile": group.profile, "slug": group.slug}
            flat: dict[str, Any] = {"schema_version": BOARD_VERSION, **place, "suite": row.suite, "method": row.method}
            flat |= {"validation": group.about_run.method(row.method).validation}
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
        "rows": [
            _row_json(row) | {"validation": group.about_run.method(row.method).validation} for row in standings.rows
        ],
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
