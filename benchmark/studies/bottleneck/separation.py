"""Do concept activations distinguish a changed context, a genuine anomaly and ordinary images?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import softmax

from benchmark.studies.bottleneck.model import SPARSE, Trained
from metrics.bottleneck import auroc_with_interval, usual
from tasks.observe import CLEAN, Condition

ANOMALY: Final = "anomaly"
"""Used as a condition: clean images of classes that are not in the training set."""

CONTEXT, OTHER, ALL = "context", "other", "all"
DIFFERENCE: Final = "context less other"
"""How unusual the context is minus how unusual the rest is, each relative to the usual value on unseen images."""

_FEATURES: Final = "features"
_DECISION: Final = "decision"

Scores = dict[tuple[str, str], Float[np.ndarray, " images"]]


def separation_rows(
    model: Trained,
    context: Bool[np.ndarray, " concepts"],
    clean: Float[np.ndarray, "images features"],
    changes: Mapping[Condition, tuple[Float[np.ndarray, "some features"], Int[np.ndarray, " some"]]],
    anomalies: Float[np.ndarray, "others features"] | None,
) -> list[dict[str, Any]]:
    """One row per pair of image kinds and score that may distinguish them.

    Args:
        context: Mask of the concepts that say where something is.
        clean: Features of the test images.
        changes: Condition that changes the context → features, and the indices of their test images.
        anomalies: Features of images of classes that are not in the training set.
    """
    score = _scorer(model, context)
    usual_scores = score(clean)
    found = {condition: (score(features), rows) for condition, (features, rows) in changes.items()}
    strange = None if anomalies is None else score(anomalies)
    rows = []
    for condition, (scores, same) in found.items():
        own = {key: values[same] for key, values in usual_scores.items()}
        rows += _rows(CLEAN.name, own, condition, scores, paired=True)
    if strange is not None:
        rows += _rows(CLEAN.name, usual_scores, Condition(ANOMALY, 0), strange)
        for condition, (scores, _) in found.items():
            rows += _rows(ANOMALY, strange, condition, scores)
    return rows


def _rows(
    negatives: str, usual_scores: Scores, condition: Condition, scores: Scores, paired: bool = False
) -> Iterator[dict[str, Any]]:
    for (inputs, name), values in scores.items():
        # The difference is meant to distinguish a context from an anomaly, and says nothing about either against
        # ordinary images.
        if (inputs == DIFFERENCE) != (negatives == ANOMALY):
            continue
        interval = auroc_with_interval(usual_scores[inputs, name], values, paired=paired)
        yield {
            "negatives": negatives,
            "positives": condition.name,
            "severity": condition.severity,
            "inputs": inputs,
            "score": name,
            "negative_images": len(usual_scores[inputs, name]),
            "positive_images": len(values),
            "auroc": interval.estimate,
            "low": interval.low,
            "high": interval.high,
        }


def _scorer(model: Trained, context: Bool[np.ndarray, " concepts"]) -> Callable[[np.ndarray], Scores]:
    """Computes all scores of images from their features; higher is more unusual."""
    chosen = {ALL: np.ones(len(context), dtype=bool)}
    if 0 < context.sum() < len(context):
        chosen |= {CONTEXT: context, OTHER: ~context}
    training = model.activations(model.training)
    known = {name: usual(training[:, part]) for name, part in chosen.items()}
    whole = usual(model.of_features(model.training))

    def distances(activations: Float[np.ndarray, "images concepts"]) -> Scores:
        found = {}
        for name, part in chosen.items():
            own = activations[:, part]
            found[name, "mahalanobis"] = known[name].mahalanobis(own)
            found[name, "largest z"] = known[name].largest_z(own)
            found[name, "nearest"] = known[name].nearest(own)
        return found

    ordinary = {key: np.median(values) for key, values in distances(model.activations(model.validation)).items()}

    def scores(features: Float[np.ndarray, "images features"]) -> Scores:
        activations, plain = model.activations(features), model.of_features(features)
        found = distances(activations)
        if CONTEXT in chosen:
            for name in ("mahalanobis", "nearest"):
                parts = [found[part, name] / (ordinary[part, name] or 1.0) for part in (CONTEXT, OTHER)]
                found[DIFFERENCE, name] = parts[0] - parts[1]
        found[_FEATURES, "mahalanobis"] = whole.mahalanobis(plain)
        found[_FEATURES, "nearest"] = whole.nearest(plain)
        found[_DECISION, "confidence"] = 1 - softmax(model.heads[SPARSE].logits(activations), axis=1).max(axis=1)
        return found

    return scores
