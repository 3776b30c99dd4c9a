"""From labels to scores: one row per unit, method, condition, as ``leaderboard.store.schema.SCORES``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmark.run.truth import right_labels
from benchmark.run.work import Work
from leaderboard.store.run_folder import CellKey, RunFolder
from leaderboard.store.schema import SCORES
from metrics.evidence import evidence_overlap, rank_biased_overlap
from metrics.stability import chance, clip_similarity, noise_floor, stability
from metrics.text import exact_match
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
        self._cut = {"clip": int(roles.clip.over_limit(unique).sum())}
        if encoder:
            self._cut["sentence_encoder"] = int(encoder.over_limit(unique).sum())

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

    def cut(self) -> dict[str, int]:
        """Encoder → number of distinct labels longer than its limit; only their beginning is embedded."""
        return self._cut

    def _rows(self, table: np.ndarray, labels: Sequence[str | None]) -> np.ndarray:
        rows = np.full((len(labels), table.shape[1]), np.nan)
        for place, label in enumerate(labels):
            if label is not None and len(table):
                rows[place] = table[self._row[label]]
        return rows


@dataclass(frozen=True)
class CleanLabels:
    """A method's labels on clean images: the reference for its labels under each condition.

    Attributes:
        labels: Those of repeat 0, one per unit; None where missing.
        vectors: CLIP embeddings, [units, d].
        noise_floor: See ``metrics.stability``; NaN without repeats.
        chance: See ``metrics.stability``.
    """

    labels: Sequence[str | None]
    vectors: np.ndarray
    noise_floor: np.ndarray
    chance: np.ndarray

    @classmethod
    def of(
        cls, labels: Sequence[str | None], repeats: Sequence[Sequence[str | None]], embeddings: LabelEmbeddings
    ) -> CleanLabels:
        """From the labels of clean repeat 0 and of the other repeats."""
        vectors = embeddings.clip(labels)
        again = [embeddings.clip(repeat) for repeat in repeats]
        floor = noise_floor(np.stack(again), vectors) if again else np.full(len(labels), np.nan)
        return cls(labels, vectors, floor, chance(vectors))


def compare_with_clean(
    now: Sequence[str | None], clean: CleanLabels, embeddings: LabelEmbeddings
) -> dict[str, Sequence[Any] | np.ndarray]:
    """The columns of ``leaderboard.store.schema.SCORES`` that follow from the labels alone.

    Args:
        now: Labels under a condition, for the units of ``clean``; None where missing.
        embeddings: Embeddings of all the texts.
    """
    similarity = clip_similarity(embeddings.clip(now), clean.vectors)
    sentences = (
        clip_similarity(embeddings.sentence(now), embeddings.sentence(clean.labels))
        if embeddings.has_sentences
        else np.full(len(now), np.nan)
    )
    return {
        "clean_label": clean.labels,
        "label": now,
        "clip_similarity": similarity,
        "sentence_similarity": sentences,
        "exact": [
            None if a is None or b is None else exact_match(a, b) for a, b in zip(now, clean.labels, strict=True)
        ],
        "noise_floor": clean.noise_floor,
        "chance": clean.chance,
        "stability": stability(similarity, clean.chance),
    }


def score_run(folder: RunFolder, works: Sequence[Work], roles: Roles) -> pd.DataFrame:
    """Score all finished cells of a run.

    Args:
        roles: Provide the text encoders, class names and synonyms.
    """
    labels = folder.read_labels()
    best = labels.loc[labels["rank"].to_numpy() == 1]
    embeddings = LabelEmbeddings(roles, best["label"].tolist())
    folder.record("labels_cut_by", embeddings.cut())
    frames = [
        _score_method(folder, work, method, best, embeddings, roles)
        for work in works
        for method in work.methods
        if folder.is_done(CellKey(work.task.name, work.profile, method, CLEAN.name, 0, 0))
    ]
    if not frames:
        return pd.DataFrame(columns=[column.name for column in SCORES.columns])
    return pd.concat(frames, ignore_index=True)


def _score_method(
    folder: RunFolder, work: Work, method: str, best: pd.DataFrame, embeddings: LabelEmbeddings, roles: Roles
) -> pd.DataFrame:
    mine = (best["task"] == work.task.name) & (best["profile"] == work.profile) & (best["method"] == method)
    own = best.loc[mine.to_numpy()]
    units = np.array(work.units)
    clean_marker = folder.marker(work.observation_key(CLEAN), "evidence")
    facts: Mapping[str, Any] = clean_marker.extra if clean_marker else {}
    dead = np.isin(units, facts.get("dead", []))
    known = [facts.get("truth", {}).get(str(unit)) for unit in units]
    truth = [entry and entry["concept"] for entry in known]
    operation = [entry and entry.get("op", "single") for entry in known]
    clean = _labels_of(own, CLEAN.name, 0, 0, work.units, dead)
    repeats = [
        _labels_of(own, CLEAN.name, 0, repeat, work.units, dead)
        for repeat in range(1, work.repeats)
        if folder.is_done(CellKey(work.task.name, work.profile, method, CLEAN.name, 0, repeat))
    ]
    reference = CleanLabels.of(clean, repeats, embeddings)
    right_clean = right_labels(clean, known, roles)
    top_clean = _evidence(folder, work, CLEAN.name, 0)
    frames = []
    for condition in work.conditions:
        for key in work.cells(condition):
            if key.method != method or not folder.is_done(key):
                continue
            now = _labels_of(own, condition.name, condition.severity, key.repeat, work.units, dead)
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
                        **compare_with_clean(now, reference, embeddings),
                        "evidence_overlap": _each(units, dead, top_now, top_clean, evidence_overlap),
                        "rank_biased_overlap": _each(units, dead, top_now, top_clean, rank_biased_overlap),
                        "activation_correlation": _correlations(folder, work, condition, units, dead),
                        "dead": dead,
                        "missing": ~dead & ~np.array(both),
                        "truth": truth,
                        "truth_op": operation,
                        "right_clean": right_clean,
                        "right": right_labels(now, known, roles),
                        "detector": _detectors(folder, key, units),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def _labels_of(
    own: pd.DataFrame, name: str, severity: int, repeat: int, units: Sequence[int], dead: np.ndarray
) -> list[str | None]:
    """Rank-1 labels in the order of the units; None where missing, and for units that are dead on clean images."""
    here = (own["perturbation"] == name) & (own["severity"] == severity) & (own["repeat"] == repeat)
    rows = own.loc[here.to_numpy()]
    found = dict(zip(rows["unit"].tolist(), rows["label"].tolist(), strict=True))
    return [None if lost else found.get(unit) for unit, lost in zip(units, dead, strict=True)]


def _evidence(folder: RunFolder, work: Work, name: str, severity: int) -> dict[int, list[str]]:
    """Unit → its top images, best first."""
    rows = folder.read_cell(work.observation_key(Condition(name, severity)), "evidence").sort_values("rank")
    return {int(str(unit)): group["image"].tolist() for unit, group in rows.groupby("unit")}


def _each(
    units: np.ndarray,
    dead: np.ndarray,
    now: Mapping[int, list[str]],
    clean: Mapping[int, list[str]],
    measure: Callable[[list[str], list[str]], float],
) -> np.ndarray:
    """A measure between each unit's two sets of evidence; NaN for dead units."""
    return np.array(
        [
            np.nan if lost else measure(now.get(unit, []), clean.get(unit, []))
            for unit, lost in zip(units.tolist(), dead, strict=True)
        ]
    )


def _correlations(
    folder: RunFolder, work: Work, condition: Condition, units: np.ndarray, dead: np.ndarray
) -> np.ndarray:
    marker = folder.marker(work.observation_key(condition), "evidence")
    found: Mapping[str, float | None] = marker.extra.get("correlation", {}) if marker else {}
    values = np.array([found.get(str(unit)) for unit in units.tolist()], dtype=np.float64)
    return np.where(dead, np.nan, values)


def _detectors(folder: RunFolder, key: CellKey, units: np.ndarray) -> list[bool | None]:
    marker = folder.marker(key)
    said: Mapping[str, Any] = marker.extra.get("units", {}) if marker else {}
    found = [said.get(str(unit), {}).get("detector") for unit in units]
    return [one if isinstance(one, bool) else None for one in found]  # cells of older versions hold anything
