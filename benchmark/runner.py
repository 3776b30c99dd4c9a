"""One run from the command line's options to the tables: plan, sweep, score, summarise."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from benchmark.core.budget import TimeBudget
from benchmark.core.dependence import dependence_rows
from benchmark.core.display import Display
from benchmark.core.facts import (
    about_methods,
    about_perturbations,
    about_profile,
    about_task,
    record_images,
    record_latents,
)
from benchmark.core.faithfulness import measure_run
from benchmark.core.interrupt import can_limit_time
from benchmark.core.label_concepts import embed_concepts
from benchmark.core.language_check import build_summariser, say_usage
from benchmark.core.options import RunOptions
from benchmark.core.preflight import check
from benchmark.core.scoring import score_run
from benchmark.core.sweep import is_seen
from benchmark.core.tables_cache import is_finished, note_finished, tables_key
from benchmark.core.track import track
from benchmark.core.work import Work
from benchmark.execution.local import do_all
from benchmark.execution.prepare import Job, load_parts, prepare
from benchmark.execution.ray import do_all as by_ray
from benchmark.execution.ray import require_ray
from benchmark.execution.session import Session
from benchmark.execution.shared import StoredDrawings
from benchmark.plan.count import count_run
from benchmark.plan.outcome import record_outcome
from benchmark.plan.studies import with_studies
from benchmark.plan.tally import CountedRoles
from benchmark.studies.base import StudyInput, do_study
from benchmark.studies.bottleneck.run import BottleneckResult, has_bottlenecks, run_bottlenecks
from leaderboard.board.comparison import compare
from leaderboard.board.facts import RunFacts, run_facts
from leaderboard.board.summary import summarise
from leaderboard.store import atomic
from leaderboard.store.frames import empty_frame
from leaderboard.store.run_folder import RunFolder
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
from tasks.common.errors import UserError
from tasks.observe import CLEAN
from tasks.profiles.build import Roles
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
        studies: Study → its tables: the requested ones, ``dependence`` if a method states what units depend on, and
            ``background_gap`` if its perturbations ran.
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
        tasks: From ``benchmark.core.preflight.check``, if the options were already checked.

    Raises:
        UserError: Anything that the user can correct.
        StoreError: The run folder cannot be used.
    """
    try:
        return _run(options, display, tasks)
    finally:
        # Models, toolboxes and sweeps refer to each other, and Python does not see how large their tensors are: a
        # process with several runs would hold gigabytes until it happens to look.
        gc.collect()


def _run(options: RunOptions, display: Display, tasks: Sequence[Task] | None) -> RunResult:
    budget, executor = TimeBudget(options.budget_seconds), _executor(options)
    parts = load_parts(options, check(options) if tasks is None else tasks, CountedRoles)
    profile, roles = parts.profile, parts.roles
    display.message(f"profile {profile.name} on {roles.device}: {profile.note}")
    if has_bottlenecks(parts.tasks):
        if options.executor != "local":
            raise UserError("Bottlenecks are trained in one process: omit --executor ray.")
        return _bottlenecks(run_bottlenecks(options, profile, parts.tasks, roles, display))
    if options.cell_timeout is not None and not can_limit_time():
        display.warning("--cell-timeout has no effect, because the run is not in the main thread of its process.")
    job = prepare(parts, display)
    with RunFolder(options.folder()) as folder:
        _begin(folder, job, display)
        if _is_finished(folder, job):
            display.message("everything was already done; nothing is computed again")
            result = _stored(folder, options)
            track(options.track, folder, result.summary, display)
            return result
        build_summariser(folder, job.prepared.works, job.prepared.methods, roles)
        session = Session(job, folder)
        record_images(folder, {name: probing for name, (_, probing) in session.probes.items()}, display)
        _say_left_out(folder, session, display)
        count = count_run(job.groups, job.prepared.methods, profile, options.faithfulness, folder.is_done)
        count = with_studies(count, job.studies, job.groups, job.prepared.methods, roles, folder)
        roles.tally.clear()  # layers were looked up by a pass over one image
        left = [key for key in job.cells if not folder.is_done(key)]
        embed_concepts(job.concepts, left, job.prepared.methods, roles, display)
        failed = executor(session, display, budget)
        for name in folder.differing():
            display.warning(
                f"{name}: two processes found different results for this cell; the first counts, parts/ holds both."
            )
        budget.check("faithfulness and tables")
        result = _finish(session, failed, display)
        record_outcome(folder, count, roles, display)
        note_finished(folder, tables_key(folder, options))
        track(options.track, folder, result.summary, display)
    return result


def _executor(options: RunOptions) -> Callable[[Session, Display, TimeBudget], list[str]]:
    """What computes the cells."""
    if options.executor == "ray":
        require_ray()
        return by_ray
    names = ("ray_address", "workers", "gpus_per_worker", "cpus_per_worker", "mixed_devices", "lost_after")
    for name in names:
        if getattr(options, name) != RunOptions.model_fields[name].default:
            flag = name.replace("_", "-")
            raise UserError(
                f"--{flag} needs --executor ray. Without it, several processes are used by starting the same command "
                "several times."
            )
    return do_all


def _begin(folder: RunFolder, job: Job[CountedRoles], display: Display) -> None:
    """Create or continue the run folder, and record what the run is about."""
    roles, works = job.roles, job.prepared.works
    facts = {
        "device": str(roles.device),
        "batch_size": roles.batch_size,
        "threads": torch.get_num_threads(),
    }
    continued = folder.create_or_continue(job.identity, facts)
    display.log_to(folder.path / "progress.jsonl")
    display.message(f"{'continuing' if continued else 'writing'} {folder.path}")
    folder.record("profile", {**about_profile(job.profile), "masks": job.masks or "none needed"})
    folder.record("tasks", {w.task.name: about_task(w.task, roles.view(w.task.model)) for w in works})
    folder.record("methods", about_methods(job.prepared.methods))
    conditions = {condition for work in works for condition in work.conditions if condition != CLEAN}
    folder.record("perturbations", about_perturbations({one.name for one in conditions}, job.options.corruptions))


def _is_finished(folder: RunFolder, job: Job[CountedRoles]) -> bool:
    options = job.options
    seen = [work.observation_key(condition) for work in job.prepared.works for condition in work.conditions]
    done = all(map(folder.is_done, job.cells)) and all(is_seen(folder, key, options.thumbnails) for key in seen)
    return done and is_finished(folder, tables_key(folder, options))


def _finish(session: Session, failed: Sequence[str], display: Display) -> RunResult:
    """Everything after the cells: faithfulness, tables, studies, and what the run used."""
    folder, job = session.folder, session.job
    options, works, roles = job.options, job.prepared.works, job.roles
    drawn = StoredDrawings(folder).blobs
    measure_run(folder, works, roles, options.seed, options.faithfulness, display, drawn=drawn)
    record_latents(folder, works, display)
    _write_tables(folder, works, roles, display)
    given = StudyInput(
        job.groups,
        job.prepared.methods,
        job.concepts,
        roles,
        session.probes,
        options.seed,
        options.perturbing(),
        display,
    )
    for study in job.studies:
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
    return result


def _stored(folder: RunFolder, options: RunOptions, failed: Sequence[str] = ()) -> RunResult:
    """The result, read from the tables in the run folder."""
    measured = empty_frame(FAITHFULNESS) if options.faithfulness == "none" else folder.read_table("faithfulness")
    info = folder.info()
    facts, shown = run_facts(info), {"background_gap", "dependence", *options.analyses}
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


def _say_left_out(folder: RunFolder, session: Session, display: Display) -> None:
    """Report the excluded images, task by task.

    Raises:
        UserError: The run was begun when each condition took the images that it could be made of.
    """
    roles = session.job.roles
    left_out = {}
    for work in session.job.prepared.works:
        task = work.task
        whole = roles.probing_set(task.probing_set, work.images, roles.view(task.model)).ids
        missing = sorted({*whole} - {*session.probes[task.name][0].ids})
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


def _write_tables(folder: RunFolder, works: Sequence[Work], roles: Roles, display: Display) -> None:
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
