"""One run from the command line's options to the tables: plan, sweep, score, summarise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd
import torch

from baselines.base import Method
from baselines.concepts import load_concepts
from benchmark.plan.analyses import with_analyses
from benchmark.plan.count import count_run
from benchmark.plan.outcome import record_outcome
from benchmark.plan.tally import CountedRoles
from benchmark.run.budget import TimeBudget, with_budget
from benchmark.run.dependence import dependence_rows
from benchmark.run.display import Display
from benchmark.run.facts import about_methods, about_perturbations, about_profile, about_task
from benchmark.run.faithfulness import measure_run
from benchmark.run.identity import run_identity
from benchmark.run.interrupt import can_limit_time
from benchmark.run.language_check import build_summariser, check_key, say_usage
from benchmark.run.options import RunOptions
from benchmark.run.preflight import check
from benchmark.run.prepare import apply_overrides, load_methods, needed_parts, needs_masks, pick_device, prepare
from benchmark.run.scoring import score_run
from benchmark.run.sweep import Sweep
from benchmark.run.tables_cache import is_finished, note_finished, tables_key
from benchmark.run.work import Work, pass_groups
from benchmark.studies.bottleneck.run import BottleneckResult, has_bottlenecks, run_bottlenecks
from benchmark.studies.robustness.measure import choices_of, measure_robustness
from benchmark.studies.sensitivity.measure import measure_sensitivity
from benchmark.studies.tuning.measure import check_held_out, measure_tuning
from leaderboard.board.comparison import compare
from leaderboard.board.facts import RunFacts, run_facts
from leaderboard.board.summary import summarise
from leaderboard.store import atomic
from leaderboard.store.frames import empty_frame
from leaderboard.store.run_folder import CellKey, RunFolder
from leaderboard.store.schema import COMPARISONS, FAITHFULNESS, SCORES, SUMMARY
from leaderboard.view.bottleneck import bottleneck_contents
from leaderboard.view.comparisons import comparison_tables
from leaderboard.view.content import Table
from leaderboard.view.dependence import dependence_contents
from leaderboard.view.faithfulness import faithfulness_tables
from leaderboard.view.robustness import robustness_contents
from leaderboard.view.sensitivity import sensitivity_contents
from leaderboard.view.ties import ties_from
from leaderboard.view.tuning import tuning_contents
from report.latex import latex_tables
from report.markdown import markdown_tables
from report.tables import write_tables
from tasks.cache import open_cache
from tasks.common.offline import opens_no_socket
from tasks.observe import CLEAN, Probe, probe_of
from tasks.probing.base import ProbingSet
from tasks.profiles.build import Roles
from tasks.profiles.resolve import require
from tasks.schema import Task

_BESIDE: Final = ("dependence", "sensitivity", "robustness", "tuning")
"""Attributes of a result whose tables are written under their own name."""


@dataclass(frozen=True)
class RunResult:
    """What a run leaves.

    Attributes:
        folder: The run folder.
        failed: Cells that failed, each with its reason.
        scores: In the columns of ``leaderboard.store.schema.SCORES``.
        summary: In the columns of ``leaderboard.store.schema.SUMMARY``.
        comparisons: In the columns of ``leaderboard.store.schema.COMPARISONS``.
        facts: What tables must know of the run besides.
        faithfulness: Tables of how faithful the labels are; none if they were not asked for.
        sensitivity: Tables of units that feel a perturbation; none if they were not asked for.
        tuning: Tables of tuning by image sets; none if they were not asked for.
        bottleneck: Tables of concept bottlenecks; all others are empty then.
        dependence: Tables of what units depend on; none if no method says it.
        robustness: Tables of the accuracy that networks keep; none if they were not asked for.
    """

    folder: Path
    failed: list[str]
    scores: pd.DataFrame
    summary: pd.DataFrame
    comparisons: pd.DataFrame
    facts: RunFacts
    faithfulness: list[Table]
    sensitivity: list[Table]
    tuning: list[Table]
    bottleneck: list[Table] = field(default_factory=list)
    dependence: list[Table] = field(default_factory=list)
    robustness: list[Table] = field(default_factory=list)


def run(options: RunOptions, display: Display, tasks: Sequence[Task] | None = None) -> RunResult:
    """Do a run, or what is left of it.

    Args:
        options: Validated options.
        display: For progress.
        tasks: From ``benchmark.run.preflight.check``, where the options were checked before.

    Raises:
        UserError: For anything that the user can put right.
        StoreError: If the run folder cannot be used.
    """
    place = options.folder()
    budget = TimeBudget(options.budget_seconds)
    profile, tasks = apply_overrides(options, check(options) if tasks is None else tasks)
    if opens_no_socket():
        require(needed_parts(options, profile, tasks))
    profile = with_budget(profile, options.budget_usd)
    device = pick_device(options.device)
    roles = CountedRoles(
        profile, device, options.batch_size or 64, replies=place / "replies.sqlite", cache=open_cache(options.cache)
    )
    display.message(f"profile {profile.name} on {device}: {profile.note}")
    if has_bottlenecks(tasks):
        return _bottlenecks(run_bottlenecks(options, profile, tasks, roles, display))
    if options.cell_timeout is not None and not can_limit_time():
        display.warning("--cell-timeout has no effect, because the run is not in the main thread of its process.")
    methods = load_methods(options, profile)
    check_key(options.method_names(), profile)
    prepared = prepare(options, profile, tasks, methods, roles, display)
    works, methods = prepared.works, prepared.methods
    _check_analyses(options, works, roles)
    concepts = {work.task.name: load_concepts(profile.concept_set(work.task.concept_set)) for work in works}
    masked = needs_masks(options, tasks) or "tuning" in options.analyses
    masks = prepared.masks if masked else None
    identity = run_identity(options, profile, prepared, concepts, roles)
    facts = {
        "device": str(device),
        "batch_size": roles.batch_size,
        "threads": torch.get_num_threads(),
    }
    with RunFolder(place) as folder:
        continued = folder.create_or_continue(identity, facts)
        display.log_to(folder.path / "progress.jsonl")
        display.message(f"{'continuing' if continued else 'writing'} {folder.path}")
        folder.record("profile", {**about_profile(profile), "masks": masks or "none needed"})
        folder.record("tasks", {w.task.name: about_task(w.task, roles.view(w.task.model)) for w in works})
        folder.record("methods", about_methods(methods))
        conditions = {condition for work in works for condition in work.conditions if condition != CLEAN}
        folder.record("perturbations", about_perturbations({one.name for one in conditions}, options.corruptions))
        cells = [key for work in works for condition in work.conditions for key in work.cells(condition)]
        seen = [work.observation_key(condition) for work in works for condition in work.conditions]
        done = all(map(folder.is_done, cells)) and all(folder.is_done(key, "evidence") for key in seen)
        if done and is_finished(folder, tables_key(folder, options.faithfulness, options.analyses)):
            display.message("everything was done before; nothing is done again")
            return _stored(folder, options)
        build_summariser(folder, works, roles)
        probes = {work.task.name: _probe(work, roles, masks) for work in works}
        groups = pass_groups(works)
        count = count_run(groups, methods, profile, options.faithfulness, folder.is_done)
        count = with_analyses(count, options.analyses, groups, methods, roles, folder)
        roles.tally.clear()  # layers were looked up by a pass over one image
        sweeps = [
            Sweep(
                tuple(group),
                methods,
                concepts,
                roles,
                *probes[group[0].task.name],
                options.seed,
                options.perturbing(),
                options.thumbnails,
                budget,
                options.cell_timeout,
            )
            for group in groups
        ]
        failed = _sweep(sweeps, folder, cells, display)
        budget.check("faithfulness and tables")
        measure_run(folder, works, roles, options.seed, options.faithfulness, display)
        _finish(folder, works, roles, display)
        _analyse(options, folder, groups, methods, concepts, roles, probes, display)
        result = _stored(folder, options, failed)
        _write_text(folder, "comparisons.md", markdown_tables(comparison_tables(result.comparisons, result.facts)))
        _write_text(folder, "faithfulness.md", markdown_tables(result.faithfulness))
        for name in _BESIDE:
            tables = getattr(result, name)
            _write_text(folder, f"{name}.md", markdown_tables(tables))
            _write_text(folder, f"{name}.tex", latex_tables(tables) if tables else "")
        if roles.unknown_texts():
            folder.record("generator", {"texts_without_a_known_word": roles.unknown_texts()})
        if roles.halved():
            folder.record("batch_size_now", roles.halved())
        say_usage(folder, roles, display)
        record_outcome(folder, count, roles, display)
        note_finished(folder, tables_key(folder, options.faithfulness, options.analyses))
    return result


def _check_analyses(options: RunOptions, works: Sequence[Work], roles: Roles) -> None:
    """Refuse, before anything is measured, analyses that the tasks do not allow."""
    if "tuning" in options.analyses:
        check_held_out(works)
    if "robustness" in options.analyses:
        for work in works:
            choices_of(work, roles.probing_set(work.task.probing_set, work.images, roles.view(work.task.model)), roles)


def _analyse(
    options: RunOptions,
    folder: RunFolder,
    groups: Sequence[Sequence[Work]],
    methods: Mapping[str, Method],
    concepts: Mapping[str, tuple[str, ...]],
    roles: Roles,
    probes: Mapping[str, tuple[Probe, ProbingSet]],
    display: Display,
) -> None:
    seed, settings = options.seed, options.perturbing()
    if "sensitivity" in options.analyses:
        own = {name: probe for name, (probe, _) in probes.items()}
        measure_sensitivity(folder, groups, roles, own, seed, settings, display)
    if "robustness" in options.analyses:
        measure_robustness(folder, groups, roles, probes, seed, settings, display)
    if "tuning" in options.analyses:
        works = [work for group in groups for work in group]
        measure_tuning(folder, works, methods, concepts, roles, probes, seed, settings, display)


def _stored(folder: RunFolder, options: RunOptions, failed: Sequence[str] = ()) -> RunResult:
    """The result as its tables in the run folder say it."""
    measured = empty_frame(FAITHFULNESS) if options.faithfulness == "none" else folder.read_table("faithfulness")
    info = folder.info()
    facts = run_facts(info)
    return RunResult(
        folder.path,
        list(failed),
        folder.read_table("scores"),
        folder.read_table("summary"),
        folder.read_table("comparisons"),
        facts,
        faithfulness_tables(measured, facts, info["facts"].get("faithfulness")),
        _sensitivity_tables(folder, facts) if "sensitivity" in options.analyses else [],
        tuning_contents(folder.read_table("tuning"), facts) if "tuning" in options.analyses else [],
        robustness=robustness_contents(folder.read_table("robustness"), facts)
        if "robustness" in options.analyses
        else [],
        dependence=dependence_contents(
            *(folder.read_table(name) for name in ("dependence", "labels", "scores")), facts=facts
        ),
    )


def _bottlenecks(found: BottleneckResult) -> RunResult:
    empty = (empty_frame(schema) for schema in (SCORES, SUMMARY, COMPARISONS))
    tables = bottleneck_contents(*found.tables[:3], found.about_run, found.facts)
    return RunResult(
        found.folder, [], *empty, facts=found.about_run, faithfulness=[], sensitivity=[], tuning=[], bottleneck=tables
    )


def _sensitivity_tables(folder: RunFolder, facts: RunFacts) -> list[Table]:
    units, detectors, labels = (folder.read_table(name) for name in ("sensitivity", "detectors", "labels"))
    return sensitivity_contents(units, detectors, labels, facts, folder.info()["facts"]["sensitivity"])


def _finish(folder: RunFolder, works: Sequence[Work], roles: Roles, display: Display) -> None:
    with display.stage("scores and tables", None, "tables") as stage:
        scores, facts = score_run(folder, works, roles), run_facts(folder.info())
        summary = summarise(scores, facts.seed)
        comparisons = compare(scores, facts)
        tables: dict[str, Callable[[], pd.DataFrame]] = {
            "labels": folder.read_labels,
            "evidence": folder.read_evidence,
            "dependence": lambda: dependence_rows(folder, works),
            "thumbnails": folder.read_thumbnails,
            "scores": lambda: scores,
            "summary": lambda: summary,
            "comparisons": lambda: comparisons,
        }
        for name, made in tables.items():
            folder.write_table(name, made())
            stage.advance()
        write_tables(folder.path, summary, facts, scores, ties_from(comparisons))


def _write_text(folder: RunFolder, name: str, text: str) -> None:
    if text:
        atomic.write_bytes(folder.path / "tables" / name, text.encode())


def _sweep(sweeps: Sequence[Sweep], folder: RunFolder, cells: Sequence[CellKey], display: Display) -> list[str]:
    """Do all cells, and wait for those that other processes do; what such a process leaves undone is done here.

    Returns:
        The cells that failed, each with its reason.
    """
    while True:
        for sweep in sweeps:
            sweep.run(folder, display)
        failed = {key: reason for sweep in sweeps for key, reason in sweep.failed.items()}
        left = [key for key in cells if key not in failed and not folder.is_done(key)]
        if not left:
            # What failed here may have been done elsewhere meanwhile.
            return [f"{key.name}: {reason}" for key, reason in failed.items() if not folder.is_done(key)]
        folder.wait_for_others(left, display.message)


def _probe(work: Work, roles: Roles, masks: str | None) -> tuple[Probe, ProbingSet]:
    probing = roles.probing_set(work.task.probing_set, work.images, roles.view(work.task.model))
    segmenter = roles.segmenter if masks == "segmenter" else None
    return probe_of(probing, masked=masks is not None, segmenter=segmenter), probing
