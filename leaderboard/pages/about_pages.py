"""Pages about the numbers: how to read them, and under which licences what is behind them stands."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass

from leaderboard.board.build import FAITHFULNESS_MEANS, REFERENCE, Board, measures
from leaderboard.board.groups import AnyGroup
from leaderboard.pages.frame import Page


@dataclass(frozen=True)
class ProfileLicences:
    """What stands behind a profile.

    Attributes:
        name: Of the profile.
        parts: Part, source and licence of each model and data set.
    """

    name: str
    description: str
    note: str
    parts: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class PackageLicence:
    """A package that runs used.

    Attributes:
        versions: All that were used.
    """

    name: str
    versions: tuple[str, ...]
    licence: str


def reading_page() -> Page:
    """``reading.html``."""
    # The page says once that all are means.
    words = {name: (column, column.meaning.removeprefix("Mean over units. ")) for name, column in measures().items()}
    faithful = [words.pop(name) for name in FAITHFULNESS_MEANS]
    context = {"measures": list(words.values()), "faithful": faithful, "reference": REFERENCE}
    return Page("reading.html", "reading.html.jinja", context)


def licences_page(board: Board) -> Page:
    """``licences.html``."""
    groups = board.runs.every
    own = importlib.metadata.metadata("clear-benchmark")
    tasks = {group.task: dict(group.about["licences"]) for group in groups if group.about.get("licences")}
    context = {
        "own": own["License-Expression"] or "MIT",
        "version": own["Version"],
        "profiles": _profiles(groups),
        "tasks": [(task, sorted(parts.items())) for task, parts in sorted(tasks.items())],
        "packages": _packages(groups),
    }
    return Page("licences.html", "licences.html.jinja", context)


def _profiles(groups: Sequence[AnyGroup]) -> tuple[ProfileLicences, ...]:
    """Each profile as its newest run states it."""
    found: dict[str, ProfileLicences] = {}
    for group in sorted(groups, key=lambda group: max(source.finished for source in group.sources), reverse=True):
        about = group.about_profile
        if not about or group.profile in found:
            continue
        parts = tuple((str(part), str(source), str(licence)) for part, source, licence in about.get("licences", ()))
        description, note = (str(about.get(key, "")) for key in ("description", "note"))
        found[group.profile] = ProfileLicences(group.profile, description, note, parts)
    return tuple(found[name] for name in sorted(found))


def _packages(groups: Sequence[AnyGroup]) -> tuple[PackageLicence, ...]:
    versions: dict[str, set[str]] = {}
    licences: dict[str, str] = {}
    sources = {source.run: source for group in groups for source in group.sources}
    for source in sorted(sources.values(), key=lambda source: (source.finished, source.run)):
        for name, version in source.packages.items():
            versions.setdefault(name, set()).add(version)
            licences[name] = source.licences.get(name, "not stated")
    return tuple(PackageLicence(name, tuple(sorted(versions[name])), licences[name]) for name in sorted(versions))
