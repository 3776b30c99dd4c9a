"""Small run folders for tests: the store is real, what was measured is made up from a seed."""

from __future__ import annotations

import gc
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from leaderboard.board import intervals
from leaderboard.board.comparison import compare
from leaderboard.board.facts import RunFacts
from leaderboard.board.summary import summarise
from leaderboard.store import atomic
from leaderboard.store.columns import TableSchema
from leaderboard.store.run_folder import RunFolder
from leaderboard.store.schema import EVIDENCE, FAITHFULNESS, LABELS, SCORES, THUMBNAILS

Condition = tuple[str, int]

METHODS: Mapping[str, float] = {"clip_dissect": 0.15, "dnd": 0.6, "random_label": 1.0, "constant_label": 0.0}
"""Method → chance that a label changes under a perturbation."""

SUITES: Mapping[str, tuple[Condition, ...]] = {
    "gaussian_blur": (("gaussian_blur", 1), ("gaussian_blur", 3), ("gaussian_blur", 5)),
    "weather": (("fog", 1), ("fog", 3), ("fog", 5)),
}
WORDS = ("red fish", "boat", "blue water", "striped house", "cup", "night sky", "wheel", "leaf", "star", "tree", "sail")
STARTED = "2026-01-02T03:04:05+00:00"
NOTE = "Measured on a made-up world: it measures nothing."


@pytest.fixture(scope="module")
def few_resamples() -> Iterator[None]:
    """For tests of what does not depend on how often intervals and tests resample."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "RESAMPLES", 199)
        # statsmodels collects garbage at each correction, which takes half a second once torch is loaded.
        patch.setattr(gc, "collect", lambda *_: 0)
        yield


def write_run(
    path: Path,
    methods: Mapping[str, float] = METHODS,
    truth: bool = True,
    *,
    task: str = "toy_task",
    profile: str = "toy",
    units: int = 12,
    dead: int = 1,
    suites: Mapping[str, Sequence[Condition]] = SUITES,
    lacking: Mapping[str, Sequence[Condition]] | None = None,
    words: Sequence[str] = WORDS,
    thumbnails: bool = True,
    started: str = STARTED,
    note: str = NOTE,
    about: Mapping[str, Any] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    comparisons: bool = True,
) -> Path:
    """Write a whole run folder: tables, identity, content and facts as ``benchmark.runner`` writes them.

    Args:
        path: The folder; made anew.
        methods: Method → chance that a label changes under a perturbation.
        truth: Whether the units' true concepts are known.
        task: Name of the task.
        profile: Name of the profile.
        units: How many units; the last ``dead`` of them are dead.
        dead: How many are dead.
        suites: The task's suites; all of their conditions run.
        lacking: Method → conditions that it did not do.
        words: What labels are drawn from; hostile ones are welcome.
        thumbnails: Whether the run kept pictures.
        started: When it was created and its session began.
        note: The profile's note.
        about: Fields of the task's own words that differ from the usual.
        options: Method → its options.
        facts: What ``run.json`` says besides: ``methods``, ``perturbations``. Nothing, as in older runs.
        seed: Of everything that is made up.
        comparisons: Whether to write the table of comparisons, which boards do not read and which takes longest.

    Returns:
        The folder.
    """
    conditions = tuple(dict.fromkeys(condition for part in suites.values() for condition in part))
    head = {"task": task, "profile": profile}
    scores = _scores(head, methods, conditions, lacking or {}, words, units, dead, truth, seed)
    evidence = _evidence(head, conditions, units - dead, seed)
    with RunFolder(path) as folder:
        folder.create_or_continue(
            _identity(task, profile, methods, conditions, units, seed) | {"method_options": dict(options or {})},
            {"device": "cpu", "batch_size": 64, "threads": 1},
        )
        licences = [["targets toy", "torchvision toy", "MIT"], ["clip", "open_clip", "Apache-2.0"]]
        words_of_profile = {"name": profile, "note": note, "description": "Made up.", "licences": licences}
        folder.record("profile", {**words_of_profile, "masks": "none needed"})
        folder.record("tasks", {task: {**_about(task, suites, units, truth), **(about or {})}})
        for name, stated in (facts or {}).items():
            folder.record(name, stated)
        folder.write_table("labels", _labels(scores))
        folder.write_table("evidence", evidence)
        folder.write_table("thumbnails", _thumbnails(evidence) if thumbnails else _frame(THUMBNAILS, []))
        folder.write_table("scores", scores)
        made = repr(
            (head, methods, conditions, lacking, words, units, dead, truth, seed, intervals.RESAMPLES, summarise)
        )
        folder.write_table("summary", _once(f"summary {made}", lambda: summarise(scores, seed)))
        if comparisons:
            folder.write_table("comparisons", _once(f"comparisons {made}", lambda: compare(scores, RunFacts(seed))))
        folder.write_table("faithfulness", _faithfulness(scores, seed))
    run = json.loads((path / "run.json").read_text())
    run["created"] = run["sessions"][0]["started"] = started
    atomic.write_json(path / "run.json", run)
    return path


_made: dict[str, pd.DataFrame] = {}


def _once(key: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """A table that takes long, made once for all equal runs of the tests of a process."""
    if key not in _made:
        _made[key] = make()
    return _made[key]


def _scores(
    head: Mapping[str, str],
    methods: Mapping[str, float],
    conditions: Sequence[Condition],
    lacking: Mapping[str, Sequence[Condition]],
    words: Sequence[str],
    units: int,
    dead: int,
    truth: bool,
    seed: int,
) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    rows = []
    for method, moving in methods.items():
        # Every other clean label is another word than the unit's truth.
        clean = [words[(unit if unit % 2 else 3 * unit + 1) % len(words)] for unit in range(units)]
        if method == "constant_label":
            clean = [words[0]] * units
        for repeat, (name, severity) in [(0, ("clean", 0)), (1, ("clean", 0)), *((0, c) for c in conditions)]:
            draws = generator.random((units, 3))
            if (name, severity) in lacking.get(method, ()):
                continue
            for unit in range(units):
                alive = unit < units - dead
                moved = severity > 0 and bool(draws[unit, 0] < moving * (0.4 + 0.12 * severity))
                label = words[(unit + 1 + severity) % len(words)] if moved else clean[unit]
                same = label == clean[unit]
                similarity = 1.0 if same else 0.3 + 0.4 * draws[unit, 1]
                chance = 1.0 if method == "constant_label" else 0.4
                row = {**head, "method": method, "perturbation": name, "severity": severity, "repeat": repeat}
                row |= {"unit": unit, "dead": not alive, "missing": False}
                row |= {"clean_label": clean[unit] if alive else None, "label": label if alive else None}
                if alive:
                    stability = 0.0 if chance == 1.0 else (similarity - chance) / (1 - chance)
                    overlap = 1.0 if not severity else round(float(draws[unit, 2]), 3)
                    row |= {"clip_similarity": similarity, "sentence_similarity": similarity, "exact": same}
                    row |= {"noise_floor": 1.0, "chance": chance, "stability": stability, "evidence_overlap": overlap}
                    row |= {"rank_biased_overlap": overlap, "activation_correlation": overlap}
                if truth:
                    true = words[unit % len(words)]
                    row |= {"truth": true, "truth_op": "single"}
                    row |= {"right_clean": clean[unit] == true, "right": label == true} if alive else {}
                rows.append(row)
    return _frame(SCORES, rows)


def _labels(scores: pd.DataFrame) -> pd.DataFrame:
    place = ["task", "profile", "method", "perturbation", "severity", "repeat", "unit"]
    named = scores.loc[scores["label"].notna().to_numpy()]
    rows = []
    for row in named[[*place, "label"]].to_dict("records"):
        rows.append({**row, "rank": 1, "score": 0.75})
        rows.append({**row, "rank": 2, "label": f"{row['label']} or so", "score": 0.5})
    return _frame(LABELS, rows)


def _evidence(head: Mapping[str, str], conditions: Sequence[Condition], units: int, seed: int) -> pd.DataFrame:
    generator = np.random.default_rng(seed + 1)
    rows = []
    for name, severity in (("clean", 0), *conditions):
        for unit in range(units):
            for rank, image in enumerate(generator.permutation(6)[:4], start=1):
                place = {**head, "perturbation": name, "severity": severity, "repeat": 0, "unit": unit, "rank": rank}
                rows.append({**place, "image": f"probe-{image:06d}", "activation": 2.0 - 0.2 * rank})
    return _frame(EVIDENCE, rows)


def _thumbnails(evidence: pd.DataFrame) -> pd.DataFrame:
    place = ["task", "profile", "perturbation", "severity", "repeat", "image"]
    rows = []
    for row in pd.DataFrame(evidence[place].drop_duplicates()).to_dict("records"):
        buffer = io.BytesIO()
        shade = 40 * int(str(row["image"])[-1])
        Image.new("RGB", (16, 16), (shade, 120, 255 - 40 * int(row["severity"]))).save(buffer, "WEBP", quality=60)
        rows.append({**row, "webp": buffer.getvalue()})
    return _frame(THUMBNAILS, rows)


def _faithfulness(scores: pd.DataFrame, seed: int) -> pd.DataFrame:
    generator = np.random.default_rng(seed + 2)
    place = ["task", "profile", "method", "perturbation", "severity", "repeat", "unit", "label"]
    clean = scores.loc[scores["perturbation"].eq("clean") & scores["repeat"].eq(0) & scores["label"].notna(), place]
    measures = ("cosy_auc", "f1", "iou", "correlation", "auprc", "cosine")
    rows = [
        {**row, **{name: float(generator.random()) for name in measures}, "cosy_mad": 1.0, "presence": "annotation"}
        for row in clean.to_dict("records")
    ]
    return _frame(FAITHFULNESS, rows)


def _frame(schema: TableSchema, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    names = [column.name for column in schema.columns]
    return pd.DataFrame([{name: row.get(name) for name in names} for row in rows], columns=names, dtype=object)


def _about(task: str, suites: Mapping[str, Sequence[Condition]], units: int, truth: bool) -> dict[str, Any]:
    severities = sorted({severity for part in suites.values() for _, severity in part})
    return {
        "name": task, "version": 1, "description": "A made-up task.", "model": "toy", "library": "torchvision",
        "weights": "NONE", "layer": "layer1", "pooling": "mean", "probing_set": "scenes", "images": 40,
        "concept_set": "scenes", "severities": severities, "truth": "class_names" if truth else "none",
        "units": {"total": units, "label": "all", "first": 0}, "citation": "A. Author. A Made-up Network. 2026.",
        "licences": {"model code": "MIT"},
        "suites": {name: [list(condition) for condition in part] for name, part in suites.items()},
    }  # fmt: skip


def _identity(
    task: str, profile: str, methods: Mapping[str, float], conditions: Sequence[Condition], units: int, seed: int
) -> dict[str, Any]:
    facts = {"name": task, "version": 1, "images": 40, "units": {"total": units, "label": "all", "first": 0}}
    return {
        "corruptions": "published", "feather": 0.0, "images": None, "lengths": "scaled", "masks": "probing_set",
        "method_options": {}, "methods": sorted(methods), "profile": profile, "repeats": 2, "seed": seed,
        "severities": None, "suites": None, "tasks": [task], "unit_ids": None, "units": None,
        "content": {
            "tasks": {task: facts}, "profile": "ab" * 32, "images": {task: "cd" * 32}, "concepts": {task: "ef" * 32},
            "conditions": {task: [list(condition) for condition in conditions]},
            "perturbations": {"engine": "1", **dict(_forms(conditions))},
            "methods": dict.fromkeys(sorted(methods), "1"), "evidence_images": 4, "truth_bar": 0.9,
        },
    }  # fmt: skip


def _forms(conditions: Sequence[Condition]) -> Iterator[tuple[str, Any]]:
    for name in sorted({name for name, _ in conditions}):
        yield name, {"version": "1", "parameters": [1.0, 2.0, 3.0, 4.0, 5.0]}
