"""Table rows of a concept bottleneck's tests: heads, drift, and single decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, Int

from benchmark.studies.bottleneck.model import DENSE, SPARSE, Trained
from metrics.bottleneck import concept_drift, flip_contributions
from metrics.statistics import HypothesisTest, holm, mcnemar_test, paired_interval, wilson_interval
from tasks.observe import CLEAN, Condition

FLIPS: Final = 6
"""Number of flipped decisions that are explained, each of a different condition."""

UNCHANGED: Final = 2
"""Number of correct decisions on clean images that are explained, each of a different class."""

_RESAMPLES: Final = 1_999


@dataclass(frozen=True, eq=False)
class Seen:
    """The test images under one condition.

    Attributes:
        rows: Indices of the test images to which the condition applies.
        activations: Concept activations, standardised.
    """

    rows: Int[np.ndarray, " images"]
    features: Float[np.ndarray, "images features"]
    activations: Float[np.ndarray, "images concepts"]
    decisions: Mapping[str, Int[np.ndarray, " images"]]


def head_rows(found: Mapping[Condition, Seen], truth: Int[np.ndarray, " images"], seed: int) -> list[dict[str, Any]]:
    """Each head's accuracy under each condition, tested against clean images and against the dense head.

    Args:
        found: Condition → the test images under it.
    """
    rows, changes, differences = [], [], []
    clean = found[CLEAN]
    for condition, seen in found.items():
        for head, decisions in seen.decisions.items():
            before, right = clean.decisions[head][seen.rows], decisions == truth[seen.rows]
            dense = seen.decisions[DENSE] == truth[seen.rows]
            share = wilson_interval(int(right.sum()), len(right))
            row = {
                "head": head,
                "perturbation": condition.name,
                "severity": condition.severity,
                "images": len(right),
                **dict(zip(("accuracy", "low", "high"), share[:3], strict=True)),
                "flips": float((decisions != before).mean()),
            }
            rows.append(row)
            if condition != CLEAN:
                was = before == truth[seen.rows]
                changes.append((row, mcnemar_test(right, was)))
            if head != DENSE:
                interval = paired_interval(right, dense, resamples=_RESAMPLES, seed=seed)
                row |= dict(zip(("difference", "difference_low", "difference_high"), interval[:3], strict=True))
                differences.append((row, mcnemar_test(right, dense)))
    _correct(changes, "p_value", "p_corrected")
    _correct(differences, "p_dense", "p_dense_corrected")
    return rows


def _correct(tests: list[tuple[dict[str, Any], HypothesisTest]], plain: str, corrected: str) -> None:
    """Put each test's p into its row, and its value after Holm's correction over all of them."""
    p_values = np.array([test.p_value for _, test in tests], dtype=np.float64)
    for (row, test), value in zip(tests, holm(p_values).p_values, strict=True):
        row[plain], row[corrected] = test.p_value, float(value)


def drift_rows(
    model: Trained, found: Mapping[Condition, Seen], condition: Condition, context: Bool[np.ndarray, " concepts"]
) -> Iterator[dict[str, Any]]:
    """Drift of each concept under a condition, and its mean contribution to the bottleneck's decisions that flip."""
    seen = found[condition]
    before, old = found[CLEAN].activations[seen.rows], found[CLEAN].decisions[SPARSE][seen.rows]
    drift = concept_drift(before, seen.activations)
    flips = np.flatnonzero(old != seen.decisions[SPARSE])
    parts = np.full(len(model.concepts), np.nan)
    if len(flips):
        new = seen.decisions[SPARSE][flips]
        weights = model.heads[SPARSE].weights
        parts = flip_contributions(weights, before[flips], seen.activations[flips], old[flips], new).mean(axis=0)
    for number, name in enumerate(model.concepts):
        yield {
            "perturbation": condition.name,
            "severity": condition.severity,
            "concept": name,
            "context": bool(context[number]),
            "images": len(seen.rows),
            "shift": float(drift.shift[number]),
            "auroc": float(drift.auroc[number]),
            "flips": len(flips),
            "flip_contribution": float(parts[number]),
        }


def examples(found: Mapping[Condition, Seen], truth: Int[np.ndarray, " images"]) -> Iterator[tuple[int, Condition]]:
    """Test images whose decision is explained: the first correct ones, and the first lost one per worst condition."""
    clean = found[CLEAN].decisions[SPARSE]
    first: dict[int, int] = {}
    for row in np.flatnonzero(clean == truth):
        first.setdefault(int(truth[row]), int(row))
    yield from ((row, CLEAN) for row in list(first.values())[:UNCHANGED])
    lost = {
        condition: seen.rows[(clean[seen.rows] == truth[seen.rows]) & (seen.decisions[SPARSE] != truth[seen.rows])]
        for condition, seen in found.items()
    }
    worst = sorted((c for c, rows in lost.items() if len(rows)), key=lambda c: (-len(lost[c]), c.name, c.severity))
    taken: set[int] = set()
    for condition in worst[:FLIPS]:
        # A different image each time, if possible.
        row = next((int(row) for row in lost[condition] if int(row) not in taken), int(lost[condition][0]))
        taken.add(row)
        yield row, condition


def decision_rows(
    model: Trained,
    image: str,
    found: Mapping[Condition, Seen],
    truth: Int[np.ndarray, " images"],
    row: int,
    condition: Condition,
) -> Iterator[dict[str, Any]]:
    """One decision, one row per concept.

    Args:
        found: Condition → the test images under it.
        row: The image's index among them.
    """
    weights = model.heads[SPARSE].weights
    place = int(np.flatnonzero(found[condition].rows == row)[0])
    old, new = int(found[CLEAN].decisions[SPARSE][row]), int(found[condition].decisions[SPARSE][place])
    before, after = found[CLEAN].activations[row], found[condition].activations[place]
    moved = flip_contributions(weights, before[None], after[None], np.array([old]), np.array([new]))[0]
    for number, name in enumerate(model.concepts):
        if weights[old, number] or weights[new, number]:
            yield {
                "image": image,
                "perturbation": condition.name,
                "severity": condition.severity,
                "truth": model.labels[truth[row]],
                "clean_decision": model.labels[old],
                "decision": model.labels[new],
                "concept": name,
                "clean_activation": float(before[number]),
                "activation": float(after[number]),
                "clean_contribution": float(weights[old, number] * before[number]),
                "contribution": float(weights[new, number] * after[number]),
                "moved": float(moved[number]),
            }
