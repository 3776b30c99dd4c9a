"""A run of tasks that train concept bottlenecks: through the same options, profiles and run folders as any other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pandas as pd
import torch

from benchmark.about import about_profile, about_task
from benchmark.analyses.bottleneck import BottleneckTables, images_to_read, measured
from benchmark.analyses.bottleneck_images import Split, split_of
from benchmark.display import Display
from benchmark.label_concepts import read_concepts
from benchmark.options import RunOptions
from benchmark.own import needs_masks
from benchmark.work import Work, plan_work
from leaderboard import atomic
from leaderboard.errors import StoreError
from leaderboard.frames import empty_frame
from leaderboard.identity import identity_hash
from leaderboard.schema import COMPARISONS, EVIDENCE, LABELS, SCORES, SUMMARY, TABLES
from leaderboard.store import RunFolder
from report.bottleneck import bottleneck_contents
from report.latex import latex_tables
from report.markdown import markdown_tables
from tasks.errors import UserError
from tasks.observe import CLEAN
from tasks.perturbations.engine import VERSION as ENGINE_VERSION
from tasks.perturbations.registry import PERTURBATIONS
from tasks.profiles.build import Roles
from tasks.profiles.schema import Profile
from tasks.schema import Bottleneck, Task

_VERSION: Final = 1
_NAMES: Final = ("bottleneck", "concept_drift", "context_anomaly", "decisions", "thumbnails")
_UNUSED: Final = (LABELS, EVIDENCE, SCORES, SUMMARY, COMPARISONS)


class BottleneckResult(NamedTuple):
    """What such a run leaves.

    Attributes:
        folder: The run folder.
        tables: Its tables.
        facts: Task → what ``run.json`` says of its bottleneck.
    """

    folder: Path
    tables: BottleneckTables
    facts: Mapping[str, Any]


class _Planned(NamedTuple):
    work: Work
    section: Bottleneck
    split: Split
    concepts: tuple[str, ...]


def has_bottlenecks(tasks: Sequence[Task]) -> bool:
    """Whether the run trains bottlenecks.

    Raises:
        UserError: Some tasks do and others do not.
    """
    with_one = [task.name for task in tasks if task.bottleneck is not None]
    if with_one and len(with_one) < len(tasks):
        raise UserError(f"{with_one[0]} trains a concept bottleneck and labels no units: run it by itself.")
    return bool(with_one)


def run_bottlenecks(
    options: RunOptions, profile: Profile, tasks: Sequence[Task], roles: Roles, display: Display
) -> BottleneckResult:
    """Train and test the tasks' bottlenecks; what is stored for the same run is read.

    Args:
        options: Validated options.
        profile: The profile.
        tasks: Each with a bottleneck.
        roles: Its models and data.
        display: For progress.

    Raises:
        UserError: For anything that the user can put right.
        StoreError: If the run folder cannot be used.
    """
    _check(options)
    with display.stage("images", None, "images") as stage:
        planned = [_plan(task, profile, options, roles) for task in tasks]
        stage.advance(sum(len(one.split.test.ids) for one in planned))
    masks = options.masks if needs_masks(options, tasks) else "none needed"
    if masks == "probing_set" and any(one.split.test.load([0])[1] is None for one in planned):
        display.message("The test images have no foreground masks: the segmenter makes them.")
        masks = "segmenter"
    identity = _identity(options, profile, planned, masks)
    session = {"device": str(roles.device), "batch_size": roles.batch_size, "threads": torch.get_num_threads()}
    with RunFolder(options.folder()) as folder:
        continued = folder.create_or_continue(identity, session)
        display.log_to(folder.path / "progress.jsonl")
        display.message(f"{'continuing' if continued else 'writing'} {folder.path}")
        folder.record("profile", {**about_profile(profile), "masks": masks})
        folder.record("tasks", {one.work.task.name: about_task(one.work.task) for one in planned})
        with folder.claim("bottleneck", wait=True):
            stored = _stored(folder)
            if stored is not None:
                display.message("everything was done before; nothing is done again")
                return stored
            _write(folder, planned, roles, options, masks, display)
            return _finished(folder)


def _check(options: RunOptions) -> None:
    given = {"methods": options.methods, "units": options.units, "unit-ids": options.unit_ids}
    for name, value in {**given, "analysis": options.analyses or None}.items():
        if value is not None:
            raise UserError(f"A task with a concept bottleneck labels no units: leave --{name} out.")


def _plan(task: Task, profile: Profile, options: RunOptions, roles: Roles) -> _Planned:
    if task.bottleneck is None:
        raise UserError(f"The task {task.name} has no bottleneck section.")
    work = plan_work(task, profile, options, roles.unit_count(task.model, task.layer))
    split = split_of(roles, task.bottleneck, task.probing_set, work.images, options.seed)
    return _Planned(work, task.bottleneck, split, read_concepts(profile.concept_set(task.concept_set)))


def _write(
    folder: RunFolder, planned: Sequence[_Planned], roles: Roles, options: RunOptions, masks: str, display: Display
) -> None:
    folder.record("bottleneck", {"done": False})
    parts: list[BottleneckTables] = []
    facts = {}
    for work, section, split, concepts in planned:
        total = images_to_read(split, work.conditions)
        with display.stage(f"bottleneck {work.task.name}", total, "images") as stage:
            tables, facts[work.task.name] = measured(
                roles,
                work.task,
                section,
                split,
                concepts,
                work.conditions,
                masks,
                options.seed,
                options.perturbing(),
                stage,
            )
        place = {"task": work.task.name, "profile": work.profile}
        parts.append(BottleneckTables(*(table.assign(**place) for table in tables)))
    for number, name in enumerate(_NAMES):
        filled = [tables[number] for tables in parts if len(tables[number])]
        folder.write_table(name, pd.concat(filled, ignore_index=True) if filled else empty_frame(TABLES[name]))
    # Boards and reports look for these in any run.
    for schema in _UNUSED:
        folder.write_table(schema.name, empty_frame(schema))
    folder.record("bottleneck", {"tasks": facts})
    found = _finished(folder)
    shown = bottleneck_contents(*found.tables[:3], found.facts)
    atomic.write_bytes(folder.path / "tables" / "bottleneck.md", markdown_tables(shown).encode())
    atomic.write_bytes(folder.path / "tables" / "bottleneck.tex", latex_tables(shown).encode())
    folder.record("bottleneck", {"done": True})


def _finished(folder: RunFolder) -> BottleneckResult:
    tables = BottleneckTables(*(folder.read_table(name) for name in _NAMES))
    return BottleneckResult(folder.path, tables, folder.info()["facts"]["bottleneck"]["tasks"])


def _stored(folder: RunFolder) -> BottleneckResult | None:
    if not folder.info()["facts"].get("bottleneck", {}).get("done"):
        return None
    try:
        return _finished(folder)
    except StoreError:
        # Lost or damaged: it is made again.
        return None


def _identity(options: RunOptions, profile: Profile, planned: Sequence[_Planned], masks: str) -> dict[str, Any]:
    """The options, and the content that their names stand for today."""
    names = {condition.name for one in planned for condition in one.work.conditions if condition != CLEAN}
    entries = [PERTURBATIONS[name] for name in sorted(names)]
    return {
        **options.identity(),
        "content": {
            "bottleneck": _VERSION,
            "masks": masks,
            "tasks": {one.work.task.name: _task_facts(one.work.task, one.section, profile) for one in planned},
            "profile": identity_hash(profile.identity((), ())),
            "images": {one.work.task.name: one.split.identity() for one in planned},
            "concepts": {
                one.work.task.name: hashlib.sha256("\n".join(one.concepts).encode()).hexdigest() for one in planned
            },
            "conditions": {
                one.work.task.name: [[c.name, c.severity] for c in one.work.conditions if c != CLEAN] for one in planned
            },
            "perturbations": {
                "engine": ENGINE_VERSION,
                **{entry.name: {"version": entry.version, "parameters": entry.parameters} for entry in entries},
            },
        },
    }


def _task_facts(task: Task, section: Bottleneck, profile: Profile) -> dict[str, Any]:
    facts = task.model_dump(mode="json", exclude={"description", "citation", "licences", "suites", "severities"})
    sets = (task.probing_set, section.training_set)
    return {**facts, "profile": identity_hash(profile.identity((task.model,), sets))}
