"""From labels to scores: one row per unit, method, condition, as ``leaderboard.store.schema.SCORES``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmark.core.truth import named_both, right_labels
from benchmark.core.unit_measures import MEASURES
from benchmark.core.work import Work
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
        named = [place for place, label in enumerate(labels) if label is not None and len(table)]
        rows[named] = table[[self._row[labels[place]] for place in named]]  # type: ignore[index]
        return rows


@dataclass(frozen=True)
class CleanLabels:
    """A method's labels on clean images: the reference for its labels under each condition.

    Attributes:
        labels: Those of repeat 0, one per unit; None where missing.
        noise_floor: See ``metrics.stability``; NaN without repeats.
        chance: See ``metrics.stability``.
    """

    labels: Sequence[str | None]
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
        return cls(labels, floor, chance(vectors))


def compare_with_clean(
    now: Sequence[str | None], clean: CleanLabels, embeddings: LabelEmbeddings
) -> dict[str, Sequence[Any] | np.ndarray]:
    """The columns of ``leaderboard.store.schema.SCORES`` that follow from the labels alone.

    Args:
        now: Labels under a condition, for the units of ``clean``; None where missing.
        embeddings: Embeddings of all the texts.
    """
    # Many units have the same two labels; each pair of texts is compared once.
    pairs = list(zip(now, clean.labels, strict=True))
    places = {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}
    each = np.array([places[pair] for pair in pairs], dtype=np.intp)
    first, second = [pair[0] for pair in places], [pair[1] for pair in places]
    similarity = clip_similarity(embeddings.clip(first), embeddings.clip(second))[each]
    sentences = (
        clip_similarity(embeddings.sentence(first), embeddings.sentence(second))[each]
        if embeddings.has_sentences
        else np.full(len(now), np.nan)
    )
    exact = [None if a is None or b is None else exact_match(a, b) for a, b in places]
    return {
        "clean_label": clean.labels,
        "label": now,
        "clip_similarity": similarity,
        "sentence_similarity": sentences,
        "exact": [exact[place] for place in each],
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
    frames = []
    for work in works:
        units = _Units(folder, work)
        for method in work.methods:
            if folder.is_done(CellKey(work.task.name, work.profile, method, CLEAN.name, 0, 0)):
                frames.append(_score_method(folder, work, method, best, embeddings, roles, units))
    if not frames:
        return pd.DataFrame(columns=[column.name for column in SCORES.columns])
    return pd.concat(frames, ignore_index=True)


class _Units:
    """What is known of a task's units besides their labels, and so is the same for all methods.

    Attributes:
        dead: Whether each is dead on clean images.
        known: The truth of each, as ``unit_truth`` stored it, or None.
    """

    def __init__(self, folder: RunFolder, work: Work) -> None:
        self._folder, self._work = folder, work
        marker = folder.marker(work.observation_key(CLEAN), "evidence")
        facts: Mapping[str, Any] = marker.extra if marker else {}
        self.numbers = np.array(work.units)
        self.dead = np.isin(self.numbers, facts.get("dead", []))
        self.known = [facts.get("truth", {}).get(str(unit)) for unit in work.units]
        self._changes: dict[Condition, dict[str, np.ndarray]] = {}
        self._told: dict[Any, bool | None] = {}

    def right(self, labels: Sequence[str | None], roles: Roles) -> list[bool | None]:
        """See ``right_labels``; each pair of label and truth is judged once."""
        return right_labels(labels, self.known, roles, self._told)

    def changes(self, condition: Condition) -> Mapping[str, np.ndarray]:
        """What is known of each unit without its label: how it differs from the clean one, and ``MEASURES``.

        NaN for dead units.
        """
        if condition not in self._changes:
            clean, now = self._top_images(CLEAN), self._top_images(condition)
            pairs = [(now.get(unit, []), clean.get(unit, [])) for unit in self._work.units]
            measures = {"evidence_overlap": evidence_overlap, "rank_biased_overlap": rank_biased_overlap}
            found = {name: np.array([measure(*pair) for pair in pairs]) for name, measure in measures.items()}
            found["activation_correlation"] = self._noted(condition, "correlation")
            found |= {name: self._noted(condition, name) for name in MEASURES}
            self._changes[condition] = {name: np.where(self.dead, np.nan, each) for name, each in found.items()}
        return self._changes[condition]

    def _top_images(self, condition: Condition) -> dict[int, list[str]]:
        """Unit → its top images, best first."""
        rows = self._folder.read_cell(self._work.observation_key(condition), "evidence")
        rows = rows.sort_values(["unit", "rank"], kind="stable")
        units, starts = np.unique(rows["unit"].to_numpy(), return_index=True)
        images, ends = rows["image"].tolist(), [*starts[1:].tolist(), len(rows)]
        return {int(unit): images[start:end] for unit, start, end in zip(units, starts.tolist(), ends, strict=True)}

    def _noted(self, condition: Condition, name: str) -> np.ndarray:
        """Numbers that the sweep noted beside the evidence; runs of older versions lack some."""
        marker = self._folder.marker(self._work.observation_key(condition), "evidence")
        found: Mapping[str, float | None] = marker.extra.get(name, {}) if marker else {}
        return np.array([found.get(str(unit)) for unit in self._work.units], dtype=np.float64)


def _score_method(
    folder: RunFolder,
    work: Work,
    method: str,
    best: pd.DataFrame,
    embeddings: LabelEmbeddings,
    roles: Roles,
    units: _Units,
) -> pd.DataFrame:
    mine = (best["task"] == work.task.name) & (best["profile"] == work.profile) & (best["method"] == method)
    own = {
        place: dict(zip(rows["unit"].tolist(), rows["label"].tolist(), strict=True))
        for place, rows in best.loc[mine.to_numpy()].groupby(["perturbation", "severity", "repeat"])
    }

    def labels_of(name: str, severity: int, repeat: int) -> list[str | None]:
        """Rank-1 labels in the order of the units; None where missing, and for units that are dead on clean images."""
        found = own.get((name, severity, repeat), {})
        return [None if lost else found.get(unit) for unit, lost in zip(work.units, units.dead, strict=True)]

    clean = labels_of(CLEAN.name, 0, 0)
    repeats = [
        labels_of(CLEAN.name, 0, repeat)
        for repeat in range(1, work.repeats)
        if folder.is_done(CellKey(work.task.name, work.profile, method, CLEAN.name, 0, repeat))
    ]
    reference = CleanLabels.of(clean, repeats, embeddings)
    right_clean = units.right(clean, roles)
    frames = []
    for condition in work.conditions:
        for key in work.cells(condition):
            if key.method != method or not folder.is_done(key):
                continue
            now = labels_of(condition.name, condition.severity, key.repeat)
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
                        "unit": units.numbers,
                        **compare_with_clean(now, reference, embeddings),
                        **units.changes(condition),
                        "dead": units.dead,
                        "missing": ~units.dead & ~np.array(both),
                        "truth": [entry and entry["concept"] for entry in units.known],
                        "truth_op": [entry and entry.get("op", "single") for entry in units.known],
                        "right_clean": right_clean,
                        "right": units.right(now, roles),
                        "named_both": named_both(_given(folder, key, units.numbers, now), units.known, roles),
                        "detector": _detectors(folder, key, units.numbers),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def _given(folder: RunFolder, key: CellKey, units: np.ndarray, now: Sequence[str | None]) -> list[Sequence[str]]:
    """The labels that a method gives each unit: the first, or as many as it says."""
    counts = [said.get("labels", 1) for said in _said(folder, key, units)]
    given: list[Sequence[str]] = [[] if label is None else [label] for label in now]
    if any(isinstance(count, int) and count > 1 for count in counts):
        ranked = {unit: rows["label"].tolist() for unit, rows in folder.read_cell(key).groupby("unit")}
        given = [
            ranked[unit][:count] if first and isinstance(count, int) else first
            for unit, count, first in zip(units.tolist(), counts, given, strict=True)
        ]
    return given


def _said(folder: RunFolder, key: CellKey, units: np.ndarray) -> list[Mapping[str, Any]]:
    """A method's further facts about each unit."""
    marker = folder.marker(key)
    said: Mapping[str, Any] = marker.extra.get("units", {}) if marker else {}
    return [said.get(str(unit), {}) for unit in units]


def _detectors(folder: RunFolder, key: CellKey, units: np.ndarray) -> list[bool | None]:
    found = [said.get("detector") for said in _said(folder, key, units)]
    return [one if isinstance(one, bool) else None for one in found]  # cells of older versions hold anything
