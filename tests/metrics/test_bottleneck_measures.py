"""What a bottleneck's tests measure: drift, the concepts behind a flip, and how unusual an image is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist, mahalanobis
from sklearn.metrics import roc_auc_score

from metrics.bottleneck import (
    auroc_with_interval,
    concept_drift,
    flip_contributions,
    strongest,
    usual,
    weights_per_class,
)


@pytest.fixture
def draws() -> np.random.Generator:
    return np.random.default_rng(0)


def test_drift_is_the_mean_shift_in_clean_deviations_and_the_auroc(draws):
    clean = draws.normal(2, 3, (60, 4))
    changed = clean + np.array([0.0, 3.0, -6.0, 0.5]) + draws.normal(0, 0.1, (60, 4))
    drift = concept_drift(clean, changed)
    assert drift.shift == pytest.approx((changed - clean).mean(0) / clean.std(0, ddof=1))
    truth = [0] * 60 + [1] * 60
    expected = [roc_auc_score(truth, np.concatenate([clean[:, c], changed[:, c]])) for c in range(4)]
    assert drift.auroc == pytest.approx(expected)


def test_a_constant_concept_has_no_drift():
    drift = concept_drift(np.array([[1.0, 1.0], [1.0, 2.0]]), np.array([[1.0, 1.0], [1.0, 2.0]]))
    assert np.isnan([drift.shift[0], drift.auroc[0]]).all()
    assert (drift.shift[1], drift.auroc[1]) == (0.0, 0.5)


def test_a_flips_parts_add_up_to_the_change_of_margin(draws):
    weights, bias = draws.normal(size=(3, 5)), draws.normal(size=3)
    before, after = draws.normal(size=(2, 80, 5))
    logits = [part @ weights.T + bias for part in (before, after)]
    old, new = (part.argmax(1) for part in logits)
    flips = np.flatnonzero(old != new)
    parts = flip_contributions(weights, before[flips], after[flips], old[flips], new[flips])
    rows = np.arange(len(flips))
    margins = [part[flips][rows, new[flips]] - part[flips][rows, old[flips]] for part in logits]
    assert len(flips) > 20
    assert parts.sum(1) == pytest.approx(margins[1] - margins[0])
    assert (parts.sum(1) > 0).all()


def test_a_concept_without_weight_is_never_blamed(draws):
    weights = np.array([[1.0, 0.0], [-1.0, 0.0]])
    parts = flip_contributions(weights, *draws.normal(size=(2, 4, 2)), np.zeros(4, int), np.ones(4, int))
    assert not parts[:, 1].any()


def test_distances_are_scipys(draws):
    training = draws.normal(size=(90, 4)) @ draws.normal(size=(4, 4)) + 5
    others = draws.normal(5, 3, (11, 4))
    known = usual(training, shrinkage=0.0)
    inverse = np.linalg.inv(np.cov(training.T, bias=True))
    expected = [mahalanobis(row, training.mean(0), inverse) for row in others]
    assert known.mahalanobis(others) == pytest.approx(expected)
    spread = training.std(0)
    assert known.largest_z(others) == pytest.approx((np.abs(others - training.mean(0)) / spread).max(1))
    assert known.nearest(others) == pytest.approx(cdist(others / spread, training / spread).min(1))
    assert known.nearest(training) == pytest.approx(np.zeros(90), abs=1e-6)


def test_only_the_nearest_sees_that_nothing_of_many_is_there(draws):
    """Where one of several concepts is always present, none is at the centre, and yet unlike all."""
    training = np.eye(5)[draws.integers(5, size=500)] + draws.normal(0, 0.05, (500, 5))
    usual_ones = np.eye(5)[draws.integers(5, size=50)] + draws.normal(0, 0.05, (50, 5))
    none = np.full((50, 5), 0.2) + draws.normal(0, 0.05, (50, 5))
    known = usual(training)
    assert auroc_with_interval(known.nearest(usual_ones), known.nearest(none)).estimate == 1.0
    assert auroc_with_interval(known.largest_z(usual_ones), known.largest_z(none)).estimate < 0.1


def test_concepts_alike_and_constant_ones_do_no_harm(draws):
    column = draws.normal(size=(30, 1))
    known = usual(np.concatenate([column, column, np.ones((30, 1))], axis=1))
    assert np.isfinite(known.mahalanobis(np.array([[9.0, -9.0, 1.0]]))).all()


def test_auroc_is_scikit_learns_and_its_interval_covers(draws):
    negatives, positives = np.round(draws.normal(size=80), 1), np.round(draws.normal(1, 1, 50), 1)
    found = auroc_with_interval(negatives, positives)
    truth = [0] * 80 + [1] * 50
    assert found.estimate == pytest.approx(roc_auc_score(truth, np.concatenate([negatives, positives])))
    covered = 0
    for _ in range(300):
        part = auroc_with_interval(draws.normal(size=60), draws.normal(1, 1, 40))
        covered += part.low <= 0.76025 <= part.high  # Φ(1/√2)
    assert 0.91 <= covered / 300 <= 0.985


def test_versions_of_one_scene_vary_together(draws):
    scene = draws.normal(size=200)
    changed = scene + 0.3 + draws.normal(0, 0.05, 200)
    alone, paired = (auroc_with_interval(scene, changed, paired=together) for together in (False, True))
    assert alone.estimate == paired.estimate
    assert paired.high - paired.low < 0.3 * (alone.high - alone.low)
    assert paired.n == 200


def test_a_perfect_auroc_has_a_point_for_an_interval():
    assert auroc_with_interval(np.array([0.0, 1.0]), np.array([2.0, 3.0]))[:3] == (1.0, 1.0, 1.0)


def test_weights_are_counted_above_the_published_bound():
    counts, used = weights_per_class(np.array([[1e-5, 1.1e-5, -1.0], [0.0, 0.0, 0.0]]))
    assert counts.tolist() == [2, 0]
    assert used[0].tolist() == [False, True, True]
    assert strongest(np.array([1.0, -1.0, 0.5]), 2) == [0, 1]


@pytest.mark.parametrize(
    "call",
    [
        lambda: concept_drift(np.zeros((3, 2)), np.zeros((3, 3))),
        lambda: concept_drift(np.zeros((1, 2)), np.zeros((1, 2))),
        lambda: usual(np.zeros((1, 2))),
        lambda: usual(np.zeros((4, 0))),
        lambda: auroc_with_interval(np.zeros(1), np.zeros(5)),
        lambda: auroc_with_interval(np.zeros(4), np.zeros(5), paired=True),
    ],
)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(ValueError, match=r"must be|needed"):
        call()
