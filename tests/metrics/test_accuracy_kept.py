"""The share of accuracy that is kept, against a plain computation and SciPy's paired bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from metrics.robustness import accuracy_kept, shares_kept


def verdicts(images: int = 120) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    clean = rng.random(images) < 0.9
    right = np.stack([clean & (rng.random(images) < share) for share in (0.9, 0.5, 0.2)], axis=1).astype(float)
    right[:30, 1] = np.nan
    return right, clean


def test_each_condition_is_compared_with_its_own_images_clean():
    right, clean = verdicts()
    found = accuracy_kept(right, clean, resamples=200)
    own = [
        right[:, 0].mean() / clean.mean(),
        right[30:, 1].mean() / clean[30:].mean(),
        right[:, 2].mean() / clean.mean(),
    ]
    assert [one.estimate for one in found.conditions] == pytest.approx(own)
    assert [one.n for one in found.conditions] == [120, 90, 120]
    assert found.mean.estimate == pytest.approx(np.mean(own))


def test_the_interval_is_scipys_paired_percentile_bootstrap_over_images():
    right, clean = verdicts()

    def kept(perturbed, unperturbed, axis=-1):
        return perturbed.mean(axis) / unperturbed.mean(axis)

    theirs = stats.bootstrap(
        (right[:, 2], clean.astype(float)), kept, paired=True, method="percentile", n_resamples=4000,
        rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    ours = accuracy_kept(right, clean, resamples=4000).conditions[2]
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.015)


def test_samples_are_weighted_means():
    right, clean = verdicts()
    weights = np.array([np.arange(120) % 3, np.ones(120)], float)
    drawn = np.repeat(np.arange(120), weights[0].astype(int))
    assert shares_kept(right, clean, weights)[0, 2] == pytest.approx(right[drawn, 2].mean() / clean[drawn].mean())
    doubled = shares_kept(right, clean, 2 * weights)
    assert doubled == pytest.approx(shares_kept(right, clean, weights))


def test_who_is_never_right_keeps_nothing_that_could_be_measured():
    found = accuracy_kept(np.zeros((5, 2)), np.zeros(5, bool))
    assert np.isnan(found.mean.estimate)
    assert {one.reason for one in (*found.conditions, found.mean)} == {"no image is right when clean"}


def test_what_does_not_change_is_kept_whole():
    _, clean = verdicts()
    assert accuracy_kept(clean[:, None].astype(float), clean).mean[:3] == pytest.approx((1, 1, 1))


@pytest.mark.parametrize("right", [np.zeros((4, 2)), np.zeros((5, 0)), np.zeros(5)])
def test_verdicts_on_other_images_are_refused(right):
    with pytest.raises(ValueError, match="not of the same images"):
        accuracy_kept(right, np.ones(5, bool))
