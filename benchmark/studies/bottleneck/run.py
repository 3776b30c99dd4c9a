"""A run of tasks that train concept bottlenecks: with the same options, profiles and run folders as any other run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pandas as pd
import torch

from benchmark.core.budget import TimeBudget
from benchmark.core.display import Display
from benchmark.core.facts import about_perturbations, about_profile, about_task
from benchmark.core.label_concepts import read_concepts
from benchmark.core.options import RunOptions
from benchmark.core.prepare import needs_masks
from benchmark.core.work import Work, plan_work
from benchmark.studies.bottleneck.images import Split, split_of
from benchmark.studies.bottleneck.measure import BottleneckTables, images_of_pieces, measured
from benchmark.studies.bottleneck.store import Pieces
from leaderboard.board.facts import RunFacts, run_facts
from leaderboard.store import atomic
from leaderboard.store.errors import StoreError
from leaderboard.store.frames import empty_frame
from leaderboard.store.identity import identity_hash
from leaderboard.store.run_folder import RunFolder
from leaderboard.store.schema import TABLES
from leaderboard.view.bottleneck import bottleneck_contents
from report.latex import latex_tables
from report.markdown import markdown_tables
from tasks.common.errors import UserError
from tasks.observe import CLEAN
from tasks.perturbations.engine import VERSION as ENGINE_VERSION
from tasks.perturbations.registry import PERTURBATIONS
from tasks.perturbations.settings import needs_background
from tasks.perturbations.suites import load_suite, perturbations_of
from tasks.profiles.build import Roles
from tasks.profiles.schema import Profile
from tasks.schema import Bottleneck, Task

_VERSION: Final = 1
_NAMES: Final = ("bottleneck", "concept_drift", "context_anomaly", "decisions", "thumbnails")


class BottleneckResult(NamedTuple):
    """Result of such a run.

    Attributes:
        about_run: Further facts of the run for the tables.
        facts: Task → facts about its bottleneck in ``run.json``.
    """

    folder: Path
    tables: BottleneckTables
    about_run: RunFacts
    facts: Mapping[str, Any]


class Planned(NamedTuple):
    """A task of the run, prepared.

    Attributes:
        concepts: Its concept set, unfiltered.
    """

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
    """Train and test the tasks' bottlenecks; results stored for the same run are read.

    Args:
        tasks: Each with a bottleneck.

    Raises:
        UserError: Anything that the user can correct.
        StoreError: The run folder cannot be used.
    """
    check_options(options)
    budget = TimeBudget(options.budget_seconds)
    with display.stage("images", None, "images") as stage:
        planned = plan_bottlenecks(options, profile, tasks, roles)
        stage.advance(sum(len(one.split.test.ids) for one in planned))
    masks = masks_of(options, tasks, planned)
    if masks == "segmenter" and options.masks != masks:
        display.message("The test images have no foreground masks: the segmenter provides them.")
    identity = _identity(options, profile, planned, masks)
    session = {"device": str(roles.device), "batch_size": roles.batch_size, "threads": torch.get_num_threads()}
    with RunFolder(options.folder()) as folder:
        continued = folder.create_or_continue(identity, session)
        display.log_to(folder.path / "progress.jsonl")
        display.message(f"{'continuing' if continued else 'writing'} {folder.path}")
        folder.record("profile", {**about_profile(profile), "masks": masks})
        folder.record(
            "tasks", {one.work.task.name: about_task(one.work.task, roles.view(one.work.task.model)) for one in planned}
        )
        conditions = {condition for one in planned for condition in one.work.conditions if condition.severity}
        folder.record("perturbations", about_perturbations({one.name for one in conditions}, options.corruptions))
        with folder.claim("bottleneck", wait=True):
            stored = _stored(folder)
            if stored is not None:
                display.message("everything was already done; nothing is computed again")
                return stored
            pieces = {one.work.task.name: Pieces(folder.path, one.work.task.name, budget.check) for one in planned}
            _write(folder, planned, roles, options, masks, display, pieces)
            for own in pieces.values():
                own.forget_images()
            return _finished(folder)


def check_options(options: RunOptions) -> None:
    """Refuse options without meaning for a task that labels no units.

    Raises:
        UserError: One sentence for the first such option.
    """
    given = {"methods": options.methods, "units": options.units, "unit-ids": options.unit_ids}
    for name, value in {**given, "analysis": options.analyses, "set": options.method_options}.items():
        if value:
            raise UserError(f"A task with a concept bottleneck labels no units: omit --{name}.")
    swapped = next(filter(needs_background, perturbations_of(map(load_suite, options.suites or ()))), None)
    if swapped is not None:
        raise UserError(f"Test images of a bottleneck do not exchange backgrounds: omit {swapped} from --suites.")


def plan_bottlenecks(options: RunOptions, profile: Profile, tasks: Sequence[Task], roles: Roles) -> list[Planned]:
    """The work of a run for each task.

    Raises:
        UserError: As ``split_of``, or a concept set that cannot be read.
    """
    planned = []
    for task in tasks:
        section = bottleneck_of(task)
        work = plan_work(task, profile, options, roles.unit_count(task.model, task.layer))
        split = split_of(roles, roles.view(task.model), section, task.probing_set, work.images, options.seed)
        planned.append(Planned(work, section, split, read_concepts(profile.concept_set(task.concept_set))))
    return planned


def bottleneck_of(task: Task) -> Bottleneck:
    """The task's bottleneck section.

    Raises:
        UserError: The task has none.
    """
    if task.bottleneck is None:
        raise UserError(f"The task {task.name} has no bottleneck section.")
    return task.bottleneck


def masks_of(options: RunOptions, tasks: Sequence[Task], planned: Sequence[Planned]) -> str:
    """Source of foreground masks: ``none needed``, ``probing_set`` or ``segmenter``."""
    if not needs_masks(options, tasks):
        return "none needed"
    if options.masks == "probing_set" and any(one.split.test.load([0])[1] is None for one in planned):
        return "segmenter"
    return options.masks


def _write(
    folder: RunFolder,
    planned: Sequence[Planned],
    roles: Roles,
    options: RunOptions,
    masks: str,
    display: Display,
    pieces: Mapping[str, Pieces],
) -> None:
    folder.record("bottleneck", {"done": False})
    parts: list[BottleneckTables] = []
    facts = {}
    for work, section, split, concepts in planned:
        total = sum(images_of_pieces(split, work.conditions).values())
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
                pieces[work.task.name],
            )
        place = {"task": work.task.name, "profile": work.profile}
        parts.append(BottleneckTables(*(table.assign(**place) for table in tables)))
    for number, name in enumerate(_NAMES):
        filled = [tables[number] for tables in parts if len(tables[number])]
        folder.write_table(name, pd.concat(filled, ignore_index=True) if filled else empty_frame(TABLES[name]))
    folder.record("bottleneck", {"tasks": facts})
    found = _finished(folder)
    shown = bottleneck_contents(*found.tables[:3], found.about_run, found.facts)
    atomic.write_bytes(folder.path / "tables" / "bottleneck.md", markdown_tables(shown).encode())
    atomic.write_bytes(folder.path / "tables" / "bottleneck.tex", latex_tables(shown).encode())
    folder.record("bottleneck", {"done": True})


def _finished(folder: RunFolder) -> BottleneckResult:
    tables = BottleneckTables(*(folder.read_table(name) for name in _NAMES))
    info = folder.info()
    return BottleneckResult(folder.path, tables, run_facts(info), info["facts"]["bottleneck"]["tasks"])


def is_finished(folder: RunFolder) -> bool:
    """Whether a run of bottlenecks is complete."""
    return bool(folder.info()["facts"].get("bottleneck", {}).get("done"))


def _stored(folder: RunFolder) -> BottleneckResult | None:
    if not is_finished(folder):
        return None
    try:
        return _finished(folder)
    except StoreError:
        # Lost or damaged: it is computed again.
        return None


def _identity(options: RunOptions, profile: Profile, planned: Sequence[Planned], masks: str) -> dict[str, Any]:
    """The options, and the present content that their names refer to."""
    names = {condition.name for one in planned for condition in one.work.conditions if condition != CLEAN}
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
                **{name: PERTURBATIONS[name].form(options.corruptions).facts() for name in sorted(names)},
            },
        },
    }


def _task_facts(task: Task, section: Bottleneck, profile: Profile) -> dict[str, Any]:
    facts = task.model_dump(mode="json", exclude={"description", "citation", "licences", "suites", "severities"})
    sets = (task.probing_set, section.training_set)
    return {**facts, "profile": identity_hash(profile.identity((task.model,), sets))}
