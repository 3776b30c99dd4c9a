"""Bits lost by labels that units share, against scipy and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score

from metrics.collisions import collisions


@pytest.mark.parametrize("words", [1, 3, 20, 200])
def test_bits_lost_are_the_entropy_of_units_minus_the_mutual_information(words):
    labels = np.random.default_rng(words).integers(words, size=40)
    units = np.arange(len(labels))
    found = collisions(labels.tolist())
    told = mutual_info_score(units, labels) / math.log(2)
    assert found.bits == pytest.approx(entropy(np.full(40, 1 / 40), base=2))
    assert found.lost.estimate == pytest.approx(found.bits - told)
    counts = np.unique(labels, return_counts=True)[1]
    assert told == pytest.approx(entropy(counts, base=2))
    assert (found.units, found.distinct) == (40, len(counts))
    assert (found.sharing, found.largest) == (counts[counts > 1].sum(), counts.max())


def test_the_ends_are_nothing_and_everything():
    apart, alike = collisions(list("abcdefgh")), collisions(["a"] * 8)
    assert (apart.lost[:3], apart.sharing) == ((0.0, 0.0, 0.0), 0)
    assert (alike.lost[:3], alike.sharing) == (pytest.approx((3.0, 3.0, 3.0)), 8)
    assert apart.bits == alike.bits == 3


def test_the_interval_is_the_jackknifes():
    labels = list("aaaabbbccdefg")
    n = len(labels)
    without = np.array([collisions(labels[:i] + labels[i + 1 :]).lost.estimate for i in range(n)])
    error = math.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    found = collisions(labels).lost
    assert (found.low, found.high) == pytest.approx(
        (found.estimate - 1.959964 * error, found.estimate + 1.959964 * error)
    )


def test_the_interval_covers_the_mean_over_samples_of_units():
    random, weights = np.random.default_rng(0), np.random.default_rng(1).dirichlet(np.ones(30))
    found = [collisions(random.choice(30, size=32, p=weights).tolist()).lost for _ in range(400)]
    mean = np.mean([one.estimate for one in found])
    # Wide rather than narrow, as the jackknife is.
    assert np.mean([one.low <= mean <= one.high for one in found]) > 0.93


def test_without_units_there_is_nothing_to_lose():
    found = collisions([])
    assert found.units == 0
    assert math.isnan(found.lost.estimate)
    assert math.isnan(collisions(["a", "b"]).lost.low)
