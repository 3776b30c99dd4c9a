"""The two sanity checks of Neuron_Eval (Oikarinen, Yan & Weng, ICML 2025) for a faithfulness metric.

A metric that does not drop when a right label is made far too narrow or far too broad cannot distinguish good labels
from bad ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_score, recall_score, roc_auc_score

from benchmark.external.published.simulation import FREQUENCIES, TOLERANCE
from metrics.faithfulness import active_images, auprc, correlation, cosine, f1, iou

IMAGES = 20_000
BAR = 0.9
"""Share of cases that must drop in each check; reproduces the verdicts of the paper's table."""


class SanityCheck(NamedTuple):
    """Shares of the cases in which the score drops, each in [0, 1]."""

    missing: float
    extra: float

    @property
    def passes(self) -> bool:
        return self.missing >= BAR and self.extra >= BAR


def sanity_check(metric, activations, presence, trials=10) -> SanityCheck:
    """Does a metric drop when the labels of a unit's right concept are corrupted? A case is a unit in a trial."""
    generator = np.random.default_rng(0)
    fallen = []
    for unit in range(activations.shape[1]):
        own, right = activations[:, [unit]].astype(float), presence[:, unit]
        limit = metric(own, right[:, None])[0, 0] - TOLERANCE
        for _ in range(trials):
            damaged = missing_labels(right, generator), extra_labels(right, generator)
            fallen.append([metric(own, one[:, None])[0, 0] < limit for one in damaged])
    return SanityCheck(*np.mean(fallen, axis=0).tolist())


def perfect_units(images: int):
    """Units that are 1 where their concept is present and 0 elsewhere: the paper's simulation, with fewer images."""
    counts = np.array([round(frequency * images) for frequency in FREQUENCIES])
    presence = np.arange(images)[:, None] < counts
    return presence.astype(np.float64), presence


def missing_labels(presence, generator):
    """Presence without a random half of the images that show the concept, rounded down."""
    shown = np.flatnonzero(presence)
    damaged = presence.copy()
    damaged[generator.choice(shown, len(shown) // 2, replace=False)] = False
    return damaged


def extra_labels(presence, generator):
    """Presence with as many random other images added as show the concept."""
    damaged = presence.copy()
    damaged[generator.choice(np.flatnonzero(~presence), presence.sum(), replace=False)] = True
    return damaged


def of_one(score):
    """A score of two vectors, unit first, as a metric of matrices."""
    return lambda activations, presence: np.array([[score(activations[:, 0] > 0.5, presence[:, 0])]])


def on_active(metric):
    return lambda activations, presence: metric(active_images(activations), presence)


PASSING = {"f1": on_active(f1), "iou": on_active(iou), "auprc": on_active(auprc)} | {
    "correlation": correlation,
    "cosine": cosine,
}
FAILING = {
    "recall": of_one(recall_score),
    "precision": of_one(precision_score),
    "accuracy": of_one(accuracy_score),
    "auc": of_one(roc_auc_score),
}


@pytest.mark.parametrize("name", PASSING)
def test_our_metrics_pass_both_checks_as_in_the_paper(name):
    check = sanity_check(PASSING[name], *perfect_units(IMAGES), trials=2)
    assert check == (1.0, 1.0)
    assert check.passes


@pytest.mark.parametrize(
    ("name", "missing", "extra"),
    [
        # The theory of the paper's table: 100 and 0, 0 and 100, 60 and 69.7, 100 and 60 %. A doubled label of frequency
        # 0.001 lowers accuracy by just the tolerance, which rounding decides: 60 or 80 %.
        ("recall", 1.0, {0.0}),
        ("precision", 0.0, {1.0}),
        ("accuracy", 0.6, {0.6, 0.8}),
        ("auc", 1.0, {0.6}),
    ],
)
def test_metrics_that_fail_a_check_in_the_paper_fail_it_here(name, missing, extra):
    check = sanity_check(FAILING[name], *perfect_units(IMAGES), trials=1)
    assert check.missing == missing
    assert check.extra in extra
    assert not check.passes


def test_a_unit_that_only_tends_to_its_concept_is_checked_as_well():
    draw = np.random.default_rng(0)
    presence = draw.random((2_000, 6)) < 0.05
    activations = np.maximum(presence + 0.3 * draw.normal(size=presence.shape), 0)
    for name, metric in PASSING.items():
        assert sanity_check(metric, activations, presence).passes, name
