"""Older run folders, read as if this version had written them: one step a schema version, never a changed number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from leaderboard.store.schema import SCHEMA_VERSION

Run = dict[str, Any]


def _with_places_for_facts(run: Run) -> Run:
    """Schema 1 did not say what a task and a profile are: what a complete result covers stays unknown."""
    facts = {"tasks": {}, "profile": {}, **run["facts"]}
    sessions = [{"licences": {}, **session} for session in run["sessions"]]
    return {**run, "facts": facts, "sessions": sessions, "schema_version": 2}


MIGRATIONS: Final[dict[int, Callable[[Run], Run]]] = {1: _with_places_for_facts}
"""Schema version → the step to the next one."""


def migrated(run: Run, version: int) -> Run:
    """The content of ``run.json`` in today's schema.

    Args:
        run: As it was written.
        version: The schema it was written in, not newer than today's.
    """
    while version < SCHEMA_VERSION:
        run = MIGRATIONS[version](run)
        version += 1
    return run
