"""What every group of runs has in common, whatever was measured: where it comes from and what it is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import pandas as pd

from leaderboard.board.facts import RunFacts

SHARED: Final = ("seed", "images", "masks", "corruptions", "lengths", "feather")
"""Options that two runs must share to belong together."""

Condition = tuple[str, int]
"""A perturbation and its severity."""


@dataclass(frozen=True)
class LeftOut:
    """A run, or a part of one, that is on no board.

    Attributes:
        run: Name of the run folder.
        reason: Why, in one sentence.
    """

    run: str
    reason: str


@dataclass(frozen=True)
class Source:
    """A run that a group was made of.

    Attributes:
        run: Name of the run folder.
        created: When it was created, UTC, ISO 8601.
        finished: When its last session began.
        identity_hash: SHA-256 of its settings.
        device: Where it ran last.
        packages: Package → version of its last session.
        licences: Package → licence.
    """

    run: str
    created: str
    finished: str
    identity_hash: str
    device: str
    packages: Mapping[str, str]
    licences: Mapping[str, str]


@dataclass(frozen=True)
class AnyGroup:
    """One task, version, profile and settings.

    Attributes:
        slug: A file name for it, another one for every other group.
        settings: What two runs must share to belong to it, e.g. seed and number of images.
        about: The task's own words (``benchmark.core.facts``); empty where the run is too old to hold them.
        about_profile: The same of the profile.
        about_run: What readers must know of the runs besides.
        sources: The runs, newest first.
        tables: Table name → rows.
    """

    slug: str
    task: str
    version: int
    profile: str
    settings: Mapping[str, Any]
    about: Mapping[str, Any]
    about_profile: Mapping[str, Any]
    about_run: RunFacts
    sources: tuple[Source, ...]
    tables: Mapping[str, pd.DataFrame]


def by_task(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Task, profile and rows of each task and profile in a table of several."""
    for place, rows in table.groupby(["task", "profile"]):
        yield *cast(tuple[str, str], place), rows


def of_task(table: pd.DataFrame, task: str, profile: str) -> pd.DataFrame:
    """The rows of one task and profile."""
    return table.loc[(table["task"].eq(task) & table["profile"].eq(profile)).to_numpy()]


def source_of(info: Mapping[str, Any], name: str) -> Source:
    """Where a run comes from.

    Args:
        info: Its ``run.json``.
        name: Name of its folder.
    """
    last = info["sessions"][-1]
    device = str(last["facts"].get("device", "not stated"))
    return Source(
        name, info["created"], last["started"], info["identity_hash"], device, last["packages"], last["licences"]
    )
