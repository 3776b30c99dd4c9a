"""Runs of the same thing, put together: methods that were run apart stand side by side, and paired tests still hold.

Two runs belong together if they label the same units of the same layer with the same images, seed and settings, under
the same version of the task and the same profile. Their methods and conditions may differ: that is what is merged.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

import pandas as pd

from leaderboard.board.bottlenecks import BottleneckGroup, bottlenecks_of, newest_of
from leaderboard.board.facts import RunFacts, merged, run_facts
from leaderboard.board.groups import SHARED, AnyGroup, Condition, LeftOut, Source, source_of
from leaderboard.board.summary import summarise
from leaderboard.store.analysis_schema import STUDIES
from leaderboard.store.errors import StoreError
from leaderboard.store.frames import empty_frame
from leaderboard.store.identity import canonical_json, identity_hash, safe_name
from leaderboard.store.run_folder import RunFolder, is_bottleneck
from leaderboard.store.schema import (
    DEPENDENCE,
    EVIDENCE,
    FAITHFULNESS,
    LABELS,
    SCORES,
    SUMMARY,
    THUMBNAILS,
    TableSchema,
)

AGroup = TypeVar("AGroup", bound=AnyGroup)

_DEPTH: Final = 3
"""How many folders down a run folder is looked for."""

_TABLES: Final = (SCORES, SUMMARY, LABELS, EVIDENCE, THUMBNAILS, FAITHFULNESS, DEPENDENCE)
_OF_STUDIES: Final = tuple(schema for schemas in STUDIES.values() for schema in schemas)


@dataclass(frozen=True)
class Group(AnyGroup):
    """Everything that is known of the labels of one task, version, profile and settings.

    ``tables`` holds the rows of all runs for the names ``scores``, ``summary``, ``labels``, ``evidence``,
    ``thumbnails``, ``faithfulness`` and ``dependence``, and those of the newest run with any for the tables of studies.
    ``settings`` has the units too.
    """

    @property
    def scores(self) -> pd.DataFrame:
        """Rows of ``leaderboard.store.schema.SCORES``."""
        return self.tables["scores"]

    @property
    def summary(self) -> pd.DataFrame:
        """Rows of ``leaderboard.store.schema.SUMMARY`` over everything that ran, for curves and single conditions."""
        return self.tables["summary"]

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """The methods, floors last."""
        return self.about_run.ordered({str(name) for name in self.scores["method"].unique()})

    @cached_property
    def units(self) -> tuple[int, ...]:
        """The units that were labelled."""
        return tuple(self.settings["units"])

    @cached_property
    def suites(self) -> dict[str, tuple[Condition, ...]]:
        """Suite → the conditions that a complete result covers; empty where the run is too old to say."""
        stated = self.about.get("suites", {})
        return {str(name): tuple((str(c), int(s)) for c, s in pairs) for name, pairs in stated.items()}

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """All conditions of the suites; of what ran, where the run is too old to say."""
        stated = dict.fromkeys(condition for conditions in self.suites.values() for condition in conditions)
        return tuple(stated) or tuple(condition for condition in conditions_of(self.scores) if condition[1])


@dataclass(frozen=True)
class Runs:
    """What lies under a folder of runs.

    Attributes:
        groups: By task, profile and settings.
        left_out: What is in no group, and why.
        bottlenecks: Concept bottlenecks, which label no units.
    """

    groups: tuple[Group, ...]
    left_out: tuple[LeftOut, ...]
    bottlenecks: tuple[BottleneckGroup, ...] = ()

    @property
    def every(self) -> tuple[AnyGroup, ...]:
        """Groups and bottlenecks."""
        return (*self.groups, *self.bottlenecks)

    @property
    def rows(self) -> int:
        """How many rows of scores there are."""
        return sum(len(group.scores) for group in self.groups)

    @property
    def newest(self) -> str:
        """When the newest session of any run began, UTC, ISO 8601; empty without runs."""
        return max((source.finished for group in self.every for source in group.sources), default="")


@dataclass(frozen=True)
class _Part:
    """One task of one run."""

    source: Source
    task: str
    version: int
    profile: str
    settings: dict[str, Any]
    about: Mapping[str, Any]
    about_profile: Mapping[str, Any]
    about_run: RunFacts
    methods: dict[str, str]
    perturbations: Mapping[str, Any]
    tables: dict[str, pd.DataFrame]


class _Tables(dict[str, pd.DataFrame]):
    """Tables of a group; a summary of its own takes seconds, so it is made when it is first read."""

    def __init__(self, tables: Mapping[str, pd.DataFrame], seed: int) -> None:
        super().__init__(tables)
        self._seed = seed

    def __missing__(self, name: str) -> pd.DataFrame:
        if name != SUMMARY.name:
            raise KeyError(name)
        self[name] = summarise(self["scores"], self._seed)
        return self[name]


def merge_runs(root: str | os.PathLike[str]) -> Runs:
    """Read every run folder under a folder, and put together what belongs together.

    Of two runs that hold the same cell the newer one counts. A run that is damaged, unfinished, made with an older
    version of a method or with another form of a perturbation is left out, with its reason.

    Args:
        root: A folder of run folders, or one run folder.

    Raises:
        StoreError: There is no such folder.
    """
    parts: list[_Part] = []
    bottlenecks: list[BottleneckGroup] = []
    left_out: list[LeftOut] = []
    for name, path in find_runs(root):
        try:
            folder = RunFolder(path)
            info = folder.info()
            if is_bottleneck(info):
                bottlenecks += bottlenecks_of(folder, info, name)
            else:
                parts += [*_parts(folder, info, name)]
        except StoreError as error:
            left_out.append(LeftOut(name, str(error).replace(str(path), name)))
        # What else is wrong in a run.json that somebody edited must not end the others' board.
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            left_out.append(LeftOut(name, f"its run.json is damaged ({type(error).__name__}: {error})"))
    groups: dict[str, list[_Part]] = {}
    # The newest first, so that it is the one that counts; the name decides between equals.
    for part in sorted(parts, key=lambda part: (part.source.finished, part.source.run), reverse=True):
        key = canonical_json([part.task, part.version, part.profile, part.settings])
        reason = _misfit(part, groups.get(key, []))
        if reason:
            left_out.append(LeftOut(part.source.run, reason))
        else:
            groups.setdefault(key, []).append(part)
    found = sorted((_group(same) for same in groups.values()), key=_order)
    taken: set[str] = set()
    own = tuple(_with_slug(group, taken) for group in found)
    beside = tuple(_with_slug(group, taken) for group in newest_of(bottlenecks, left_out))
    return Runs(own, tuple(left_out), beside)


def find_runs(root: str | os.PathLike[str]) -> list[tuple[str, Path]]:
    """The run folders under a folder, or the folder itself, each with a name that says nothing of the machine.

    Raises:
        StoreError: There is no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise StoreError(f"There is no folder {root}: name one that holds run folders with --runs.")
    patterns = ["*/" * depth + "run.json" for depth in range(_DEPTH + 1)]
    folders = sorted(path.parent for pattern in patterns for path in root.glob(pattern))
    return [(path.relative_to(root).as_posix() if path != root else path.resolve().name, path) for path in folders]


def conditions_of(frame: pd.DataFrame) -> tuple[Condition, ...]:
    """The conditions of a table with columns ``perturbation`` and ``severity``, in the order of the rows."""
    pairs = frame[["perturbation", "severity"]].drop_duplicates()
    return tuple((str(name), int(severity)) for name, severity in zip(*(pairs[c] for c in pairs), strict=True))


def _parts(folder: RunFolder, info: Mapping[str, Any], name: str) -> Iterator[_Part]:
    folder.check_tables()
    tables = {schema.name: folder.read_table(schema.name) for schema in (*_TABLES, *_OF_STUDIES)}
    identity, facts, source = info["identity"], info["facts"], source_of(info, name)
    content = identity["content"]
    for task, about in sorted(content["tasks"].items()):
        own = {key: table.loc[table["task"].to_numpy() == task] for key, table in tables.items()}
        if not len(own["scores"]):
            continue
        options = identity["method_options"]
        names = {method: _with_options(method, options.get(method, {})) for method in content["methods"]}
        yield _Part(
            source,
            task,
            int(about["version"]),
            str(own["scores"]["profile"].iloc[0]),
            _settings(identity, task, own["scores"], facts.get("left_out", {}).get(task, ())),
            facts["tasks"].get(task, {}),
            facts["profile"],
            run_facts(info, names.__getitem__),
            {names[method]: str(version) for method, version in content["methods"].items()},
            content["perturbations"],
            {key: _renamed(table, names) for key, table in own.items()},
        )


def _with_options(method: str, options: Mapping[str, Any]) -> str:
    """Other options, other results: the name says them, so that both stand on the board."""
    stated = ", ".join(f"{name}={value}" for name, value in sorted(options.items()))
    return f"{method} ({stated})" if stated else method


def _renamed(table: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    return table.assign(method=[names[name] for name in table["method"]]) if "method" in table else table


def _settings(identity: Mapping[str, Any], task: str, scores: pd.DataFrame, left_out: Sequence[str]) -> dict[str, Any]:
    """What changes a cell's result, less what is merged: methods, conditions and repeats."""
    content = identity["content"]
    options = {name: identity[name] for name in SHARED}
    # Without these images the clean labels are other ones.
    own = {"left_out": identity_hash(left_out)} if left_out else {}
    shared = {name: content[name] for name in ("profile", "evidence_images", "truth_bar")}
    return {
        **options,
        **own,
        "images": options["images"] or content["tasks"][task]["images"],
        "units": sorted(int(unit) for unit in scores["unit"].unique()),
        "content": {
            **shared,
            "task": content["tasks"][task],
            "images": content["images"][task],
            "concepts": content["concepts"][task],
            "engine": content["perturbations"]["engine"],
        },
    }


def _misfit(part: _Part, newer: Sequence[_Part]) -> str:
    for other in newer:
        for method, version in part.methods.items():
            if other.methods.get(method, version) != version:
                return (
                    f"{part.task}: made with version {version} of {method}, while {other.source.run} has version "
                    f"{other.methods[method]}; run it again."
                )
        for name, form in part.perturbations.items():
            if other.perturbations.get(name, form) != form:
                return f"{part.task}: made with another form of {name} than {other.source.run}; run it again."
    return ""


def _group(parts: Sequence[_Part]) -> Group:
    first = parts[0]
    tables = {schema.name: _stacked(schema, [part.tables[schema.name] for part in parts]) for schema in _TABLES}
    for schema in _OF_STUDIES:
        tables[schema.name] = next((own for part in parts if len(own := part.tables[schema.name])), empty_frame(schema))
    owners = Counter(method for part in parts for method in part.tables["scores"]["method"].unique())
    if max(owners.values()) > 1:
        # A method's conditions come from several runs, so none of their summaries covers all of them.
        del tables["summary"]
    return Group(
        safe_name(f"{first.task}-v{first.version}-{first.profile}", 60),
        first.task,
        first.version,
        first.profile,
        first.settings,
        first.about,
        first.about_profile,
        merged([part.about_run for part in parts]),
        tuple(part.source for part in parts),
        _Tables(tables, first.about_run.seed),
    )


def _stacked(schema: TableSchema, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    if not filled:
        return empty_frame(schema)
    # The newest run comes first, and the first of two rows with one key is kept.
    stacked = pd.concat(filled, ignore_index=True).drop_duplicates(list(schema.key), keep="first")
    return stacked.sort_values(list(schema.key), kind="stable", ignore_index=True)


def _order(group: Group) -> tuple[str, int, str, int, str]:
    return group.task, -group.version, group.profile, -len(group.units), canonical_json(group.settings)


def _with_slug(group: AGroup, taken: set[str]) -> AGroup:
    """The first group of a task, version and profile has a plain name, others a hash of their settings behind it."""
    if group.slug in taken:
        group = replace(group, slug=f"{group.slug}-{identity_hash(group.settings)[:8]}")
    taken.add(group.slug)
    return group
