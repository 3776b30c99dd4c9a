"""Older run folders, converted to the current schema on reading: one step per schema version, numbers never change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from leaderboard.store.schema import SCHEMA_VERSION

Run = dict[str, Any]


def _with_places_for_facts(run: Run) -> Run:
    """Schema 1 did not describe tasks and profiles: what a complete result covers stays unknown."""
    facts = {"tasks": {}, "profile": {}, **run["facts"]}
    sessions = [{"licences": {}, **session} for session in run["sessions"]]
    return {**run, "facts": facts, "sessions": sessions, "schema_version": 2}


MIGRATIONS: Final[dict[int, Callable[[Run], Run]]] = {1: _with_places_for_facts}
"""Schema version → the step to the next one."""


def migrated(run: Run, version: int) -> Run:
    """The content of ``run.json`` in the current schema.

    Args:
        run: The content as written.
        version: Schema version of ``run``, not newer than the current one.
    """
    while version < SCHEMA_VERSION:
        run = MIGRATIONS[version](run)
        version += 1
    return run
