"""Small runs of a concept bottleneck and tables of analyses for tests: the store is real, what is in it is made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bottleneck_tables
import pandas as pd
import sensitive_tables
import tuning_table

from leaderboard.store import atomic
from leaderboard.store.frames import empty_frame
from leaderboard.store.run_folder import RunFolder
from leaderboard.store.schema import COMPARISONS, EVIDENCE, LABELS, SCORES, SUMMARY, TABLES

STARTED = "2026-01-02T03:04:05+00:00"


def write_analyses(path: Path, task: str = "toy_task", profile: str = "toy") -> None:
    """Add sensitive units, detectors and tuning to a run folder of ``small_runs.write_run``."""
    frames = {
        "sensitivity": sensitive_tables.units(),
        "detectors": sensitive_tables.detectors(),
        "tuning": tuning_table.tuning(),
    }
    for name, frame in frames.items():
        order = [column.name for column in TABLES[name].columns]
        RunFolder(path).write_table(name, frame.assign(task=task, profile=profile)[order])


def write_bottleneck(
    path: Path, *, done: bool = True, started: str = STARTED, seed: int = 0, renamed: dict[str, str] | None = None
) -> Path:
    """Write a run folder as ``benchmark.studies.bottleneck.run`` does.

    Args:
        path: The folder.
        done: Whether it is finished.
        started: When its session began.
        seed: Of the run.
        renamed: Words in texts and facts that are exchanged for others, for hostile ones.
    """
    frames = {
        "bottleneck": bottleneck_tables.heads(),
        "concept_drift": bottleneck_tables.drift(),
        "context_anomaly": bottleneck_tables.separation(),
        "decisions": bottleneck_tables.decisions(),
        "thumbnails": bottleneck_tables.thumbnails(),
    }
    words = renamed or {}
    task = {
        "name": "toy",
        "version": 1,
        "description": "A bottleneck that is made up.",
        "model": "toy_net",
        "library": "torchvision",
        "weights": "NONE",
        "layer": "layer4",
        "pooling": "mean",
        "probing_set": "toy_set",
        "images": 50,
        "concept_set": "words",
        "suites": {"weather": [["fog", 3]]},
        "bottleneck": {"training_set": "toy_train", "held_out": ["fish"]},
        "licences": {"model code": "MIT"},
        "citation": "Nobody. Nothing. 2026.",
    }
    facts = bottleneck_tables.facts()["toy"] | {
        "validation_images": 14,
        "test_images": 50,
        "held_out_contexts": ["night"],
    }
    identity = {
        "seed": seed,
        "images": None,
        "corruptions": "published",
        "lengths": "scaled",
        "masks": "probing_set",
        "feather": 0.0,
    }
    identity["content"] = {
        "bottleneck": 1,
        "masks": "probing_set",
        "tasks": {"toy": task},
        "profile": "0" * 64,
        "images": {"toy": {"training": "1" * 64, "test": "2" * 64}},
        "concepts": {"toy": "3" * 64},
        "conditions": {"toy": [["fog", 3], ["gaussian_blur", 3]]},
        "perturbations": {"engine": 1},
    }
    with RunFolder(path) as folder:
        folder.create_or_continue(identity, {"device": "cpu"})
        licences = [["targets toy", "torchvision toy", "MIT"]]
        note = {"name": "miniature", "note": "Made up.", "description": "Made up.", "licences": licences}
        folder.record("profile", note)
        folder.record("tasks", {"toy": _exchanged(task, words)})
        for name, frame in frames.items():
            order = [column.name for column in TABLES[name].columns]
            folder.write_table(name, _exchanged_frame(frame, words)[order])
        for schema in (LABELS, EVIDENCE, SCORES, SUMMARY, COMPARISONS):
            folder.write_table(schema.name, empty_frame(schema))
        folder.record("bottleneck", {"done": done, "tasks": {"toy": _exchanged(facts, words)}})
    run = json.loads((path / "run.json").read_text())
    run["created"] = run["sessions"][0]["started"] = started
    atomic.write_json(path / "run.json", run)
    return path


def _exchanged(value: Any, words: dict[str, str]) -> Any:
    text = json.dumps(value)
    for word, other in words.items():
        text = text.replace(json.dumps(word), json.dumps(other))
    return json.loads(text)


def _exchanged_frame(frame: pd.DataFrame, words: dict[str, str]) -> pd.DataFrame:
    texts = [name for name in frame.columns if pd.api.types.is_string_dtype(frame[name]) and name != "webp"]
    return frame.assign(**{name: frame[name].replace(words) for name in texts})
