from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_score, recall_score, roc_auc_score

from metrics.faithfulness import active_images, auprc, correlation, cosine, f1, iou
from metrics.sanity import extra_labels, missing_labels, perfect_units, sanity_check

IMAGES = 20_000


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


def test_damaged_labels():
    presence = np.arange(50) < 11
    draw = np.random.default_rng(0)
    fewer, more = missing_labels(presence, draw), extra_labels(presence, draw)
    assert fewer.sum() == 6
    assert not (fewer & ~presence).any()
    assert more.sum() == 22
    assert more[presence].all()
    assert presence.sum() == 11
    np.testing.assert_array_equal(fewer, missing_labels(presence, np.random.default_rng(0)))
    assert (fewer != missing_labels(presence, np.random.default_rng(1))).any()


def test_labels_that_cannot_be_damaged():
    draw = np.random.default_rng(0)
    with pytest.raises(ValueError, match="at least two images have one, not 1"):
        missing_labels(np.arange(50) < 1, draw)
    with pytest.raises(ValueError, match="not 26 of 50"):
        extra_labels(np.arange(50) < 26, draw)
    with pytest.raises(ValueError, match="of the same shape"):
        sanity_check(cosine, np.ones((4, 2)), np.ones((4, 3), dtype=bool))


def test_a_score_that_is_missing_has_not_fallen():
    units = perfect_units(100, (0.1,))
    assert sanity_check(lambda *_: np.array([[np.nan]]), *units) == (0.0, 0.0)
    nothing = sanity_check(cosine, np.ones((4, 0)), np.ones((4, 0), dtype=bool))
    assert np.isnan(nothing).all()
    assert not nothing.passes
