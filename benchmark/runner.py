"""One run from the command line's options to the tables: plan, sweep, score, summarise."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from baselines import registry
from baselines.base import Method
from baselines.concepts import load_concepts
from baselines.evidence import EVIDENCE_SIZE
from benchmark.about import about_profile, about_task
from benchmark.display import Display
from benchmark.faithfulness import measure_run
from benchmark.finished import is_finished, note_finished, tables_key
from benchmark.language import build_summariser, check_key, say_usage
from benchmark.options import RunOptions
from benchmark.own import check_layer, chosen, counted, fitted, labelled, needs_masks, weights_sha256
from benchmark.scoring import score_run
from benchmark.sweep import TRUTH_BAR, Sweep
from benchmark.work import Work, plan_work
from leaderboard import atomic
from leaderboard.comparison import compare
from leaderboard.frames import empty_frame
from leaderboard.identity import identity_hash
from leaderboard.schema import FAITHFULNESS
from leaderboard.store import CellKey, RunFolder
from leaderboard.summary import summarise
from report.comparisons import markdown_comparisons
from report.faithfulness import FaithfulnessTable, faithfulness_tables, markdown_faithfulness
from report.tables import write_tables
from report.ties import ties_from
from tasks.errors import UserError
from tasks.observe import CLEAN, Probe
from tasks.perturbations.engine import VERSION as ENGINE_VERSION
from tasks.perturbations.registry import PERTURBATIONS
from tasks.probing.base import ProbingSet
from tasks.profiles.build import Roles
from tasks.profiles.schema import Profile
from tasks.schema import Task


@dataclass(frozen=True)
class RunResult:
    """What a run leaves.

    Attributes:
        folder: The run folder.
        failed: Cells that failed, each with its reason.
        scores: In the columns of ``leaderboard.schema.SCORES``.
        summary: In the columns of ``leaderboard.schema.SUMMARY``.
        comparisons: In the columns of ``leaderboard.schema.COMPARISONS``.
        faithfulness: Tables of how faithful the labels are; none if they were not asked for.
    """

    folder: Path
    failed: list[str]
    scores: pd.DataFrame
    summary: pd.DataFrame
    comparisons: pd.DataFrame
    faithfulness: list[FaithfulnessTable]


def run(options: RunOptions, display: Display) -> RunResult:
    """Do a run, or what is left of it.

    Args:
        options: Validated options.
        display: For progress.

    Raises:
        UserError: For anything that the user can put right.
        StoreError: If the run folder cannot be used.
    """
    place = options.folder()
    profile, tasks = chosen(options)
    device = pick_device(options.device)
    _check_roles(options, profile)
    roles = Roles(profile, device, options.batch_size or 64, replies=place / "replies.sqlite")
    display.message(f"profile {profile.name} on {device}: {profile.note}")
    methods = _load_methods(options, profile)
    units = {task.name: _count_units(task, options, roles) for task in tasks}
    tasks = [counted(labelled(task, options, units[task.name]), options, roles) for task in tasks]
    options = fitted(options, tasks, roles, display)
    methods = {name: methods[name] for name in options.method_names()}
    works = [plan_work(task, profile, options, units[task.name]) for task in tasks]
    concepts = {task.name: load_concepts(profile.concept_set(task.concept_set)) for task in tasks}
    with display.stage("images and masks", None, "images") as stage:
        masks = options.masks if needs_masks(options, tasks) else None
        probes = {work.task.name: _probe(work, roles, masks) for work in works}
        stage.advance(sum(work.images for work in works))
    identity = _identity(options, profile, works, methods, concepts, roles)
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
        folder.record("tasks", {work.task.name: about_task(work.task) for work in works})
        cells = [key for work in works for condition in work.conditions for key in work.cells(condition)]
        seen = [work.observation_key(condition) for work in works for condition in work.conditions]
        done = all(map(folder.is_done, cells)) and all(folder.is_done(key, "evidence") for key in seen)
        if done and is_finished(folder, tables_key(folder, options.faithfulness)):
            display.message("everything was done before; nothing is done again")
            return _stored(folder, options)
        build_summariser(folder, works, roles)
        failed: list[str] = []
        for group in _groups(works):
            probe, probing = probes[group[0].task.name]
            sweep = Sweep(
                tuple(group),
                methods,
                concepts,
                roles,
                probe,
                probing,
                options.seed,
                options.perturbing(),
                options.thumbnails,
            )
            failed += sweep.run(folder, display)
        _say_what_is_open(folder, cells, failed, display)
        measure_run(folder, works, roles, options.seed, options.faithfulness, display)
        _finish(folder, works, roles, options.seed, display)
        result = _stored(folder, options, failed)
        _write_markdown(folder, "comparisons", markdown_comparisons(result.comparisons))
        _write_markdown(folder, "faithfulness", markdown_faithfulness(result.faithfulness))
        if roles.unknown_texts():
            folder.record("generator", {"texts_without_a_known_word": roles.unknown_texts()})
        say_usage(folder, roles, display)
        note_finished(folder, tables_key(folder, options.faithfulness))
    return result


def _stored(folder: RunFolder, options: RunOptions, failed: Sequence[str] = ()) -> RunResult:
    """The result as its tables in the run folder say it."""
    measured = empty_frame(FAITHFULNESS) if options.faithfulness == "none" else folder.read_table("faithfulness")
    return RunResult(
        folder.path,
        list(failed),
        folder.read_table("scores"),
        folder.read_table("summary"),
        folder.read_table("comparisons"),
        faithfulness_tables(measured, folder.info()["facts"].get("faithfulness"), options.seed),
    )


def _finish(folder: RunFolder, works: Sequence[Work], roles: Roles, seed: int, display: Display) -> None:
    with display.stage("scores and tables", None, "tables") as stage:
        scores = score_run(folder, works, roles)
        summary = summarise(scores)
        comparisons = compare(scores, seed)
        folder.write_table("labels", folder.read_labels())
        folder.write_table("evidence", folder.read_evidence())
        folder.write_table("thumbnails", folder.read_thumbnails())
        folder.write_table("scores", scores)
        folder.write_table("summary", summary)
        folder.write_table("comparisons", comparisons)
        write_tables(folder.path, summary, scores, ties_from(comparisons))
        stage.advance(5)


def _write_markdown(folder: RunFolder, name: str, text: str) -> None:
    if text:
        atomic.write_bytes(folder.path / "tables" / f"{name}.md", text.encode())


def _say_what_is_open(folder: RunFolder, cells: Sequence[CellKey], failed: Sequence[str], display: Display) -> None:
    """Cells that another process is doing are not waited for."""
    left = sum(not folder.is_done(key) for key in cells) - len(failed)
    if left > 0:
        display.warning(
            f"{left} of {len(cells)} cells are being done by another process; the tables hold what is done so far. "
            "Run the same command again when it has ended."
        )


def pick_device(name: str) -> torch.device:
    """The device of that name; ``auto`` takes CUDA where there is one.

    Raises:
        UserError: If the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda"):
        count = torch.cuda.device_count()
        number = int(name.partition(":")[2] or 0)
        if number >= count:
            raise UserError(f"--device {name}: this machine shows {count} CUDA devices; choose cpu or auto.")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps is not there on this machine; choose cpu or auto.")
    return torch.device(name)


def _check_roles(options: RunOptions, profile: Profile) -> None:
    """Refuse, before anything is loaded, methods whose roles the profile cannot fill."""
    strangers = set(options.method_options) - set(options.method_names())
    if strangers:
        raise UserError(
            f"--set names {sorted(strangers)[0]}, which is not among --methods {','.join(options.method_names())}."
        )
    for name in options.method_names():
        for role in registry.entry(name).needs:
            if role in ("captioner", "summariser", "generator") and getattr(profile, role) is None:
                raise UserError(
                    f"The method {name} needs a {role}, which the profile {profile.name} does not have; "
                    "leave the method out, or choose another profile."
                )
    check_key(options.method_names(), profile)


def _load_methods(options: RunOptions, profile: Profile) -> dict[str, Method]:
    return {
        name: registry.load(name, **{**profile.method_options.get(name, {}), **options.method_options.get(name, {})})
        for name in options.method_names()
    }


def _count_units(task: Task, options: RunOptions, roles: Roles) -> int:
    if options.model is not None or options.layer is not None or options.pooling is not None:
        check_layer(roles.target(task.model), task.layer, task.pooling)
    return roles.unit_count(task.model, task.layer)


def _probe(work: Work, roles: Roles, masks: str | None) -> tuple[Probe, ProbingSet]:
    probing = roles.probing_set(work.task.probing_set, work.images)
    foreground = probing.foreground if masks else None
    if masks == "segmenter":
        foreground = roles.segmenter.foreground(probing.images)
    return Probe(probing.ids, probing.images, foreground, probing.segmentation), probing


def _groups(works: Sequence[Work]) -> list[list[Work]]:
    """Tasks that share network and images run in one pass; one layer pooled in two ways needs two."""
    groups: list[list[Work]] = []
    for work in works:
        source = (work.task.model, work.task.probing_set, work.images)
        for group in groups:
            first = group[0]
            layers = {other.task.layer: other.task.pooling for other in group}
            alike = source == (first.task.model, first.task.probing_set, first.images)
            if alike and layers.get(work.task.layer, work.task.pooling) == work.task.pooling:
                group.append(work)
                break
        else:
            groups.append([work])
    return groups


def _identity(
    options: RunOptions,
    profile: Profile,
    works: Sequence[Work],
    methods: Mapping[str, Method],
    concepts: Mapping[str, tuple[str, ...]],
    roles: Roles,
) -> dict[str, Any]:
    """The options, and the content that their names stand for today."""
    made = [work.task.model for work in works if profile.target(work.task.model).loader == "factory"]
    return {
        **options.identity(),
        "content": {
            "tasks": {work.task.name: _task_facts(work.task, profile) for work in works},
            "profile": identity_hash(profile.identity((), ())),
            "images": {w.task.name: roles.probing_set(w.task.probing_set, w.images).digest for w in works},
            "concepts": {
                name: hashlib.sha256("\n".join(words).encode()).hexdigest() for name, words in concepts.items()
            },
            "conditions": {
                work.task.name: [[c.name, c.severity] for c in work.conditions if c != CLEAN] for work in works
            },
            "perturbations": {"engine": ENGINE_VERSION, **_perturbation_facts(works)},
            "methods": {name: method.version for name, method in methods.items()},
            "evidence_images": EVIDENCE_SIZE,
            "truth_bar": TRUTH_BAR,
            **({"networks": {name: weights_sha256(roles.target(name).network) for name in made}} if made else {}),
        },
    }


def _perturbation_facts(works: Sequence[Work]) -> dict[str, Any]:
    names = {condition.name for work in works for condition in work.conditions if condition != CLEAN}
    entries = [PERTURBATIONS[name] for name in sorted(names)]
    return {entry.name: {"version": entry.version, "parameters": entry.parameters} for entry in entries}


def _task_facts(task: Task, profile: Profile) -> dict[str, Any]:
    """The task, and what its network and images come from: of the profile, only what it uses changes its results."""
    facts = task.model_dump(mode="json", exclude={"description", "citation", "licences", "suites", "severities"})
    return {**facts, "profile": identity_hash(profile.identity((task.model,), (task.probing_set,)))}
