"""From labels to scores: one row a unit, method and condition, in the columns of ``leaderboard.schema.SCORES``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmark.work import Work
from leaderboard.store import CellKey, RunFolder
from metrics.stability import chance, clip_similarity, evidence_overlap, noise_floor, stability
from metrics.text import concept_match, exact_match
from tasks.observe import CLEAN, Condition
from tasks.profiles.build import Roles


class LabelEmbeddings:
    """Text embeddings of labels, each computed once."""

    def __init__(self, roles: Roles, texts: Sequence[str]) -> None:
        self._row = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        unique = list(self._row)
        self._clip = roles.clip.encode_text(unique).numpy() if unique else np.zeros((0, 1))
        encoder = roles.sentence_encoder
        self._sentence = encoder.encode(unique) if encoder and unique else None

    @property
    def has_sentences(self) -> bool:
        """Whether there is a sentence encoder."""
        return self._sentence is not None

    def clip(self, labels: Sequence[str | None]) -> np.ndarray:
        """[labels, d]; a row of NaN for a missing label."""
        return self._rows(self._clip, labels)

    def sentence(self, labels: Sequence[str | None]) -> np.ndarray:
        """[labels, d]; a row of NaN for a missing label."""
        return self._rows(self._sentence if self._sentence is not None else np.zeros((0, 1)), labels)

    def _rows(self, table: np.ndarray, labels: Sequence[str | None]) -> np.ndarray:
        rows = np.full((len(labels), table.shape[1]), np.nan)
        for place, label in enumerate(labels):
            if label is not None and len(table):
                rows[place] = table[self._row[label]]
        return rows


def score_run(folder: RunFolder, works: Sequence[Work], roles: Roles) -> pd.DataFrame:
    """Score all finished cells of a run.

    Args:
        folder: The run folder.
        works: The tasks of the run.
        roles: For the text encoders, class names and synonyms.
    """
    labels = folder.read_labels()
    best = labels.loc[labels["rank"].to_numpy() == 1]
    embeddings = LabelEmbeddings(roles, best["label"].tolist())
    frames = [
        _score_method(folder, work, method, best, embeddings, roles)
        for work in works
        for method in work.methods
        if folder.is_done(CellKey(work.task.name, work.profile, method, CLEAN.name, 0, 0))
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _score_method(
    folder: RunFolder, work: Work, method: str, best: pd.DataFrame, embeddings: LabelEmbeddings, roles: Roles
) -> pd.DataFrame:
    mine = (best["task"] == work.task.name) & (best["profile"] == work.profile) & (best["method"] == method)
    own = best.loc[mine.to_numpy()]
    units = np.array(work.units)
    clean_marker = folder.marker(work.observation_key(CLEAN), "evidence")
    facts: Mapping[str, Any] = clean_marker.extra if clean_marker else {}
    dead = np.isin(units, facts.get("dead", []))
    truth = [facts.get("truth", {}).get(str(unit), {}).get("concept") for unit in units]
    clean = _labels_of(own, CLEAN.name, 0, 0, work.units, dead)
    clean_vectors = embeddings.clip(clean)
    repeats = [
        embeddings.clip(_labels_of(own, CLEAN.name, 0, repeat, work.units, dead))
        for repeat in range(1, work.repeats)
        if folder.is_done(CellKey(work.task.name, work.profile, method, CLEAN.name, 0, repeat))
    ]
    floor = noise_floor(np.stack(repeats), clean_vectors) if repeats else np.full(len(units), np.nan)
    luck = chance(clean_vectors)
    right_clean = _right(clean, truth, roles)
    top_clean = _evidence(folder, work, CLEAN.name, 0)
    frames = []
    for condition in work.conditions:
        for key in work.cells(condition):
            if key.method != method or not folder.is_done(key):
                continue
            now = _labels_of(own, condition.name, condition.severity, key.repeat, work.units, dead)
            similarity = clip_similarity(embeddings.clip(now), clean_vectors)
            sentences = (
                clip_similarity(embeddings.sentence(now), embeddings.sentence(clean))
                if embeddings.has_sentences
                else np.full(len(units), np.nan)
            )
            top_now = _evidence(folder, work, condition.name, condition.severity)
            both = [a is not None and b is not None for a, b in zip(now, clean, strict=True)]
            frames.append(
                pd.DataFrame(
                    {
                        "task": work.task.name,
                        "profile": work.profile,
                        "method": method,
                        "perturbation": condition.name,
                        "severity": condition.severity,
                        "repeat": key.repeat,
                        "unit": units,
                        "clean_label": clean,
                        "label": now,
                        "clip_similarity": similarity,
                        "sentence_similarity": sentences,
                        "exact": [
                            None if a is None or b is None else exact_match(a, b)
                            for a, b in zip(now, clean, strict=True)
                        ],
                        "noise_floor": floor,
                        "chance": luck,
                        "stability": stability(similarity, luck),
                        "evidence_overlap": _overlaps(top_now, top_clean, units, dead),
                        "dead": dead,
                        "missing": ~dead & ~np.array(both),
                        "truth": truth,
                        "right_clean": right_clean,
                        "right": _right(now, truth, roles),
                        "detector": _detectors(folder, key, units),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def _exact(now: Sequence[str | None], clean: Sequence[str | None]) -> list[bool | None]:
    return [None if a is None or b is None else exact_match(a, b) for a, b in zip(now, clean, strict=True)]


def _labels_of(
    own: pd.DataFrame, name: str, severity: int, repeat: int, units: Sequence[int], dead: np.ndarray
) -> list[str | None]:
    """Rank-1 labels in the order of the units; None where missing, and for units that are dead on clean images."""
    here = (own["perturbation"] == name) & (own["severity"] == severity) & (own["repeat"] == repeat)
    rows = own.loc[here.to_numpy()]
    found = dict(zip(rows["unit"].tolist(), rows["label"].tolist(), strict=True))
    return [None if lost else found.get(unit) for unit, lost in zip(units, dead, strict=True)]


def _right(labels: Sequence[str | None], truth: Sequence[str | None], roles: Roles) -> list[bool | None]:
    synonyms = roles.synonyms()
    return [
        None
        if concept is None or label is None
        else concept_match(label, concept, synonyms, rivals=roles.rivals(concept))
        for label, concept in zip(labels, truth, strict=True)
    ]


def _evidence(folder: RunFolder, work: Work, name: str, severity: int) -> dict[int, set[str]]:
    rows = folder.read_cell(work.observation_key(Condition(name, severity)), "evidence")
    return {int(str(unit)): set(group["image"]) for unit, group in rows.groupby("unit")}


def _overlaps(
    now: Mapping[int, set[str]], clean: Mapping[int, set[str]], units: np.ndarray, dead: np.ndarray
) -> np.ndarray:
    return np.array(
        [
            np.nan if lost else evidence_overlap(now.get(unit, set()), clean.get(unit, set()))
            for unit, lost in zip(units.tolist(), dead, strict=True)
        ]
    )


def _detectors(folder: RunFolder, key: CellKey, units: np.ndarray) -> list[bool | None]:
    marker = folder.marker(key)
    said: Mapping[str, Any] = marker.extra.get("units", {}) if marker else {}
    return [said.get(str(unit), {}).get("detector") for unit in units]
