"""One run from the command line's options to the tables: plan, sweep, score, summarise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from baselines.concepts import load_concepts
from benchmark.plan.count import count_run
from benchmark.plan.outcome import record_outcome
from benchmark.plan.studies import with_studies
from benchmark.plan.tally import CountedRoles
from benchmark.run.budget import TimeBudget, with_budget
from benchmark.run.dependence import dependence_rows
from benchmark.run.display import Display
from benchmark.run.facts import about_methods, about_perturbations, about_profile, about_task, record_images
from benchmark.run.faithfulness import measure_run
from benchmark.run.identity import run_identity
from benchmark.run.interrupt import can_limit_time
from benchmark.run.label_concepts import embed_concepts
from benchmark.run.language_check import build_summariser, check_key, say_usage
from benchmark.run.options import RunOptions
from benchmark.run.preflight import check
from benchmark.run.prepare import apply_overrides, load_methods, needed_parts, needs_masks, pick_device, prepare
from benchmark.run.scoring import score_run
from benchmark.run.sweep import Sweep, is_seen
from benchmark.run.tables_cache import is_finished, note_finished, tables_key
from benchmark.run.work import Work, pass_groups
from benchmark.studies.base import StudyInput, do_study, load_study
from benchmark.studies.bottleneck.run import BottleneckResult, has_bottlenecks, run_bottlenecks
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
from leaderboard.view.faithfulness import faithfulness_tables
from leaderboard.view.studies import VIEWS
from leaderboard.view.ties import ties_from
from report.latex import latex_tables
from report.markdown import markdown_tables
from report.tables import write_tables
from tasks.cache import open_cache
from tasks.common.errors import UserError
from tasks.common.offline import opens_no_socket
from tasks.observe import CLEAN, Probe, probe_of
from tasks.probing.base import ProbingSet
from tasks.profiles.build import Roles
from tasks.profiles.resolve import require
from tasks.schema import Task


@dataclass(frozen=True)
class RunResult:
    """Result of a run.

    Attributes:
        failed: Failed cells, each with its reason.
        scores: Columns of ``leaderboard.store.schema.SCORES``.
        summary: Columns of ``leaderboard.store.schema.SUMMARY``.
        comparisons: Columns of ``leaderboard.store.schema.COMPARISONS``.
        facts: Further facts of the run that tables need.
        faithfulness: Faithfulness tables; empty if not requested.
        studies: Study → its tables: the requested ones, and ``dependence`` if a method states what units depend on.
            With ``bottleneck`` everything else is empty.
    """

    folder: Path
    failed: list[str]
    scores: pd.DataFrame
    summary: pd.DataFrame
    comparisons: pd.DataFrame
    facts: RunFacts
    faithfulness: list[Table]
    studies: dict[str, list[Table]]


def run(options: RunOptions, display: Display, tasks: Sequence[Task] | None = None) -> RunResult:
    """Execute a run, or what is left of it.

    Args:
        display: Shows progress.
        tasks: From ``benchmark.run.preflight.check``, if the options were already checked.

    Raises:
        UserError: Anything that the user can correct.
        StoreError: The run folder cannot be used.
    """
    place = options.folder()
    budget = TimeBudget(options.budget_seconds)
    profile, tasks = apply_overrides(options, check(options) if tasks is None else tasks)
    methods = {} if has_bottlenecks(tasks) else load_methods(options, profile)
    studies = [load_study(name) for name in options.analyses]
    masked = needs_masks(options, tasks) or any(study.masked for study in studies)
    if opens_no_socket():
        require(needed_parts(options, profile, tasks, methods, masked))
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
    check_key(methods, profile)
    prepared = prepare(options, profile, tasks, methods, roles, display)
    works, methods = prepared.works, prepared.methods
    groups = pass_groups(works)
    for study in studies:
        study.check(groups, roles)
    concepts = {work.task.name: load_concepts(profile.concept_set(work.task.concept_set)) for work in works}
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
        done = all(map(folder.is_done, cells)) and all(is_seen(folder, key, options.thumbnails) for key in seen)
        if done and is_finished(folder, tables_key(folder, options.faithfulness, options.analyses)):
            display.message("everything was already done; nothing is computed again")
            return _stored(folder, options)
        build_summariser(folder, works, methods, roles)
        probes = {work.task.name: _probe(work, roles, masks) for work in works}
        record_images(folder, {name: probing for name, (_, probing) in probes.items()}, display)
        _say_left_out(folder, works, roles, probes, display)
        count = count_run(groups, methods, profile, options.faithfulness, folder.is_done)
        count = with_studies(count, studies, groups, methods, roles, folder)
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
        left = [key for key in cells if not folder.is_done(key)]
        embed_concepts(concepts, left, methods, roles, display)
        failed = _sweep(sweeps, folder, cells, display)
        budget.check("faithfulness and tables")
        measure_run(folder, works, roles, options.seed, options.faithfulness, display)
        _finish(folder, works, roles, display)
        given = StudyInput(
            groups, methods, concepts, roles, probes, options.seed, options.perturbing(), display
        )  # fmt: skip
        for study in studies:
            do_study(study, folder, given)
        result = _stored(folder, options, failed)
        _write_text(folder, "comparisons.md", markdown_tables(comparison_tables(result.comparisons, result.facts)))
        _write_text(folder, "faithfulness.md", markdown_tables(result.faithfulness))
        for name, tables in result.studies.items():
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


def _stored(folder: RunFolder, options: RunOptions, failed: Sequence[str] = ()) -> RunResult:
    """The result, read from the tables in the run folder."""
    measured = empty_frame(FAITHFULNESS) if options.faithfulness == "none" else folder.read_table("faithfulness")
    info = folder.info()
    facts, shown = run_facts(info), {"dependence", *options.analyses}
    return RunResult(
        folder.path,
        list(failed),
        folder.read_table("scores"),
        folder.read_table("summary"),
        folder.read_table("comparisons"),
        facts,
        faithfulness_tables(measured, facts, info["facts"].get("faithfulness")),
        {view.name: view.contents(_Tables(folder), facts) for view in VIEWS if view.name in shown},
    )


class _Tables(dict[str, pd.DataFrame]):
    """The tables of a run folder, each read on first access."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self._folder = folder

    def __missing__(self, name: str) -> pd.DataFrame:
        self[name] = self._folder.read_table(name)
        return self[name]


def _bottlenecks(found: BottleneckResult) -> RunResult:
    scores, summary, comparisons = (empty_frame(schema) for schema in (SCORES, SUMMARY, COMPARISONS))
    tables = bottleneck_contents(*found.tables[:3], found.about_run, found.facts)
    return RunResult(found.folder, [], scores, summary, comparisons, found.about_run, [], {"bottleneck": tables})


def _say_left_out(
    folder: RunFolder,
    works: Sequence[Work],
    roles: Roles,
    probes: Mapping[str, tuple[Probe, ProbingSet]],
    display: Display,
) -> None:
    """Report the excluded images, task by task.

    Raises:
        UserError: The run was begun when each condition took the images that it could be made of.
    """
    left_out = {}
    for work in works:
        task = work.task
        whole = roles.probing_set(task.probing_set, work.images, roles.view(task.model)).ids
        missing = sorted({*whole} - {*probes[task.name][0].ids})
        if missing:
            left_out[task.name] = missing
            display.warning(
                f"{task.name}: {len(missing)} of {len(whole)} images have no usable foreground mask and are excluded "
                "from all conditions, so that labels are compared on the same images; run.json lists them."
            )
    if left_out and "left_out" not in folder.info()["facts"] and folder.done_cells("evidence"):
        raise UserError(
            f"{folder.path} was begun by a version that made clean labels with more images than perturbed ones: run it "
            "anew with another --out."
        )
    folder.record("left_out", left_out)


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
    """Compute all cells, and wait for those of other processes; what such a process leaves undone is computed here.

    Returns:
        The failed cells, each with its reason.
    """
    while True:
        for sweep in sweeps:
            sweep.run(folder, display)
        failed = {key: reason for sweep in sweeps for key, reason in sweep.failed.items()}
        left = [key for key in cells if key not in failed and not folder.is_done(key)]
        if not left:
            # What failed here may have succeeded elsewhere meanwhile.
            return [f"{key.name}: {reason}" for key, reason in failed.items() if not folder.is_done(key)]
        folder.wait_for_others(left, display.message)


def _probe(work: Work, roles: Roles, masks: str | None) -> tuple[Probe, ProbingSet]:
    """The images of a task: if masks are needed, those that have a foreground and a background.

    All conditions use the same images, because clean labels found with other images would differ for that reason alone.
    """
    probing = roles.probing_set(work.task.probing_set, work.images, roles.view(work.task.model))
    segmenter = roles.segmenter if masks == "segmenter" else None
    probe = probe_of(probing, masked=masks is not None, segmenter=segmenter)
    if probe.divided is None or probe.divided.all():
        return probe, probing
    kept = np.flatnonzero(probe.divided).tolist()
    if len(kept) < 2:
        raise UserError(
            f"Of the {len(probe.ids)} images of {work.task.name}, {len(kept)} have a foreground and a background, "
            "which conditions of this run perturb separately: try --masks segmenter, or leave out these perturbations."
        )
    return probe.only(kept), probing.only(kept)
