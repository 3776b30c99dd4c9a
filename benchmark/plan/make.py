"""The plan of a run, for ``python -m benchmark plan``."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from baselines.concepts import load_concepts
from baselines.costs import NOTHING
from benchmark.core.budget import with_budget
from benchmark.core.display import Display
from benchmark.core.language_check import check_key
from benchmark.core.options import RunOptions
from benchmark.core.preflight import check
from benchmark.core.prepare import (
    Prepared,
    apply_overrides,
    load_methods,
    needed_parts,
    needs_masks,
    pick_device,
    prepare,
)
from benchmark.core.tiers import local_tier, open_cache
from benchmark.core.work import Work, pass_groups, plan_work
from benchmark.plan.bottleneck import STEPS, plan_bottlenecks_of
from benchmark.plan.clock import ProbeClock
from benchmark.plan.count import Counts, RunCount, TaskCount, amount_facts, count_run
from benchmark.plan.estimate import basis, disk_bytes, stage_seconds, total
from benchmark.plan.language import money
from benchmark.plan.measure import measure
from benchmark.plan.rates import Rates
from benchmark.plan.studies import with_studies
from benchmark.plan.tally import CountedRoles
from benchmark.plan.workers import drawing_seconds, plan_workers
from benchmark.studies.base import load_studies
from benchmark.studies.bottleneck.run import has_bottlenecks
from leaderboard.store.errors import StoreError
from leaderboard.store.identity import as_json, canonical_json, differences
from leaderboard.store.run_folder import RunFolder
from tasks.common.errors import UserError
from tasks.language.chat import LanguageModelError
from tasks.language.replies import ReplyStore
from tasks.profiles.resolve import absent
from tasks.profiles.schema import Profile
from tasks.schema import Task

SECONDS: Final = 18.0
"""Time from the start of the command after which nothing more is measured."""


def make_plan(
    options: RunOptions,
    display: Display,
    tasks: Sequence[Task] | None = None,
    started: float | None = None,
) -> dict[str, Any]:
    """Estimate the cost of a run.

    Args:
        display: For the messages of a run while it prepares.
        tasks: From ``benchmark.core.preflight.check``, if the options were already checked.
        started: ``time.monotonic()`` at the start of the command; the time until the models load is the run's start.

    Returns:
        ``folder``, ``profile``, ``device``, ``tasks`` and ``total`` (see ``_task_facts`` and ``benchmark.plan.count``),
        ``shared`` by all tasks, ``faithfulness``, ``cells`` (``all`` and ``done``), ``seconds`` (``total``, ``stages``,
        the ``basis`` of each, ``busy`` if other processes used the machine, and the duration of the ``probe``),
        ``bytes`` (``folder``, ``cache``), ``money`` (see ``benchmark.plan.language.money``; ``spent`` so far),
        ``budget`` and ``notes``; ``workers`` (see ``benchmark.plan.workers``), if asked for. Null means unknown.

    Raises:
        UserError: The run would be refused for the same reason.
    """
    started = time.monotonic() if started is None else started
    profile, tasks = apply_overrides(options, check(options) if tasks is None else tasks)
    if has_bottlenecks(tasks):
        return as_json(_bottlenecks(options, profile, tasks, display, started))
    profile = with_budget(profile, options.budget_usd)
    notes: list[str] = []
    methods = load_methods(options, profile)
    try:
        check_key(methods, profile)
    except LanguageModelError as error:  # a plan sends no requests, so it needs no key
        notes.append(f"The run will be refused: {error}")
    studies = load_studies(options)
    masked = any(study.masked for study in studies) or needs_masks(options, tasks)
    missing = [part.role for part in absent(needed_parts(options, profile, tasks, methods, masked))]
    roles = _roles(options, profile)
    clock = ProbeClock(roles.device, started + SECONDS)
    if missing:
        notes.append(_not_here(missing, options))
        works = tuple(plan_work(task, profile, options, _stated_units(task)) for task in tasks)
        prepared = Prepared(works, methods, options.masks)
    else:
        # Annotation is the same throughout a set, so two images suffice.
        prepared = prepare(options, profile, tasks, methods, roles, display, images=2)
    groups = pass_groups(prepared.works)
    for study in () if missing else studies:
        study.check(groups, roles)
    folder = RunFolder(options.folder())
    notes += _held(folder, prepared.identity(options))
    count = count_run(groups, prepared.methods, profile, options.faithfulness, folder.is_done)
    count = with_studies(count, studies, groups, prepared.methods, roles, folder)
    notes += _unstated(count)
    start = time.process_time() if clock.busy else time.monotonic() - started
    rates = {}
    if not missing and (count.cells[1] or count.studies):
        rates = _measured(prepared, groups, roles, options, clock)
    facts = _counted(count, profile, options, roles, folder)
    if rates:
        start += sum(rate.seconds["loading"] for rate in rates.values())
        stages = stage_seconds(count, rates, start, options.thumbnails)
        for rate in rates.values():
            notes += [f"{what} was not measured: {why.removesuffix('.')}." for what, why in rate.unmeasured.items()]
        facts["seconds"] = {"total": total(stages), "stages": stages, "basis": basis(rates), "busy": clock.busy}
        if options.workers is not None:
            drawing = {name: drawing_seconds(rate) for name, rate in rates.items()}
            given = count, groups, prepared.methods, stages, drawing, folder.is_done
            facts["workers"] = plan_workers(*given, options.workers)
        facts["bytes"]["folder"] = disk_bytes(count, rates, options.thumbnails)
    facts["seconds"]["probe"] = time.monotonic() - started
    return as_json(facts | {"notes": list(dict.fromkeys(notes))})


def _bottlenecks(
    options: RunOptions, profile: Profile, tasks: Sequence[Task], display: Display, started: float
) -> dict[str, Any]:
    roles, folder = _roles(options, profile), RunFolder(options.folder())
    found = plan_bottlenecks_of(options, profile, tasks, display, roles, started)
    notes = _held(folder, options.identity())
    count = RunCount(tuple(pieces.count for pieces in found.tasks), (), Counts(), Counts(), NOTHING)
    facts = _counted(count, profile, options, roles, folder)
    for task, pieces in zip(facts["tasks"], found.tasks, strict=True):
        task |= pieces.facts()
        task["methods"]["training"]["training_steps"] = amount_facts(pieces.steps)
    if found.missing:
        notes.append(_not_here(found.missing, options))
    if found.stages:
        facts["seconds"] = {"total": total(found.stages), "stages": found.stages}
        notes.append(
            f"The time assumes {STEPS.expected:,.0f} steps of the projection and as many evaluations of the final "
            f"layers as the miniature needs; at most {STEPS.most:,.0f} steps are taken."
        )
    if count.cells[1]:
        facts["bytes"]["folder"] = found.bytes
    facts["seconds"]["probe"] = time.monotonic() - started
    facts["money"] = {"usd": amount_facts(NOTHING), "model": None, "price": None, "cap": None, "spent": 0.0}
    return facts | {"notes": notes}


def _roles(options: RunOptions, profile: Profile) -> CountedRoles:
    cache = open_cache(options.cache)
    return CountedRoles(profile, pick_device(options.device), options.batch_size or 64, cache=cache)


def _not_here(missing: Sequence[str], options: RunOptions) -> str:
    return (
        f"{len(missing)} parts of the profile are not on this machine ({', '.join(missing)}), so nothing was "
        f"measured: python -m benchmark doctor --profile {options.profile}"
    )


def _counted(
    count: RunCount, profile: Profile, options: RunOptions, roles: CountedRoles, folder: RunFolder
) -> dict[str, Any]:
    """The part of the plan that needs no measurement."""
    everything, opened = count.cells
    left = opened or count.studies
    read, written = count.total.prompt_tokens, count.total.completion_tokens
    spending = money(profile, read, written)
    return {
        "folder": str(folder.path),
        "profile": profile.name,
        "device": str(roles.device),
        "tasks": [_task_facts(task) for task in count.tasks],
        "shared": count.shared.facts(),
        "faithfulness": count.faithfulness.facts() | {"labels": amount_facts(count.texts)},
        "analyses": [{"name": one.name, "task": one.work.task.name} | one.counts.facts() for one in count.studies],
        "total": count.total.facts(),
        "cells": {"all": everything, "done": everything - opened},
        "seconds": {"total": 0.0 if not left else None, "stages": {}},
        "bytes": {"folder": 0.0 if not left else None, "cache": None},
        "money": spending | {"usd": amount_facts(spending["usd"], 4), "spent": _spent(folder.path)},
        "budget": {"usd": options.budget_usd, "seconds": options.budget_seconds},
    }


def _task_facts(task: TaskCount) -> dict[str, Any]:
    """``name``, ``images``, ``units``, ``conditions``, the remaining ``passes``, ``methods`` and ``counts``.

    A method has ``cells``, ``done`` and the needs of its open cells besides the passes over the images.
    """
    methods = {
        name: {"cells": method.cells, "done": method.cells - method.open, "stated": method.stated}
        | {key: value for key, value in method.counts.facts().items() if key != "cells"}
        for name, method in task.methods.items()
    }
    return {
        "name": task.work.task.name,
        "images": task.work.images,
        "units": len(task.work.units),
        "conditions": len(task.work.conditions),
        "passes": len(task.passes),
        "methods": methods,
        "counts": task.counts.facts(),
    }


def _stated_units(task: Task) -> int:
    if task.units.total is None:
        raise UserError(
            f"The number of units of {task.layer} of {task.model} is unknown without the network, which is not on this "
            "machine: install it, or state units.total in the task's file."
        )
    return task.units.total


def _held(folder: RunFolder, identity: Mapping[str, Any]) -> list[str]:
    """Reasons for which the folder refuses a run with that identity."""
    if not (folder.path / "run.json").exists():
        return []
    try:
        before = folder.info()["identity"]
    except StoreError as error:
        return [f"The run will be refused: {error}"]
    asked = json.loads(canonical_json(as_json(identity)))
    changed = differences({key: value for key, value in before.items() if key != "content"}, asked)
    return [f"The run will be refused: {folder.path} holds a different one ({'; '.join(changed)})."] if changed else []


def _unstated(count: RunCount) -> list[str]:
    own = [(name, method) for task in count.tasks for name, method in task.methods.items() if method.open]
    whys = dict.fromkeys(f"{name} {method.unstated}" for name, method in own if method.unstated)
    return [f"{why}, so the totals that it contributes to are unknown." for why in whys]


def _measured(
    prepared: Prepared,
    groups: Sequence[Sequence[Work]],
    roles: CountedRoles,
    options: RunOptions,
    clock: ProbeClock,
) -> dict[str, Rates]:
    """Task → rates; tasks that share network and images are measured once, with the first of them."""
    rates: dict[str, Rates] = {}
    for group in groups:
        first = group[0]
        conditions = tuple(dict.fromkeys(condition for work in group for condition in work.conditions))
        masks = prepared.masks if needs_masks(options, [work.task for work in group]) else None
        concepts = load_concepts(roles.profile.concept_set(first.task.concept_set))
        work = replace(first, conditions=conditions)
        found = measure(work, prepared.methods, concepts, roles, options.perturbing(), options.seed, masks, clock)
        rates |= {work.task.name: found for work in group}
    return rates


def _spent(folder: Path) -> float | None:
    """USD booked by earlier sessions; None if unknown."""
    path = folder / "replies.sqlite"
    tier = local_tier(folder)
    if not (path if tier is None else folder).exists():
        return 0.0
    store = ReplyStore(path, tier)
    try:
        return store.usage().usd
    finally:
        store.close()
