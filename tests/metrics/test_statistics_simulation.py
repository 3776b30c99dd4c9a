"""Null data give 5 % false positives and intervals cover 95 %, with values as label stability has them.

Each check runs small by default, where it must agree with its level within the chance of the simulation, and large with
``-m slow``, where it must keep 5 ± 1 % and 95 ± 2 %. The mixed model is too slow for many runs.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from metrics.statistics import (
    bootstrap_interval,
    compare_methods,
    mcnemar_test,
    mixed_model,
    noise_floor_test,
    paired_interval,
    paired_permutation,
    paired_wilcoxon,
    smallest_difference,
)

SIZES = [300, pytest.param(2_500, marks=pytest.mark.slow)]
ALPHA = 0.05


def mostly_unchanged(rng, shape):
    """Six of ten labels stay as they are; bounded, skewed to the left, many ties. Mean 0.84."""
    return np.where(rng.random(shape) < 0.6, 1.0, rng.beta(3, 2, shape))


def skewed(rng, shape):
    """Low similarities with a long tail. Mean 0.2."""
    return rng.beta(0.5, 2, shape)


def random_label(rng, shape):
    """A random concept: mostly far, sometimes the same again."""
    return np.where(rng.random(shape) < 0.05, 1.0, 0.6 * rng.beta(2, 5, shape))


def symmetric(rng, shape):
    return rng.normal(0.3, 0.1, shape)


MEANS = {mostly_unchanged: 0.84, skewed: 0.2, symmetric: 0.3}
DRAWS = pytest.mark.parametrize("draw", [mostly_unchanged, random_label])


def holds(hits, runs, level, margin):
    """Within the margin for many runs; within the chance of the simulation for few."""
    if runs >= 1_000:
        return abs(hits / runs - level) <= margin
    return stats.binomtest(hits, runs, level).pvalue > 0.001


def seeded(*address):
    return np.random.default_rng([*address, 4])


@pytest.mark.parametrize("runs", SIZES)
@pytest.mark.parametrize("n", [24, 48])
@pytest.mark.parametrize("draw", list(MEANS))
def test_the_interval_of_a_mean_covers_it(draw, n, runs):
    rng = seeded(n)
    found = [bootstrap_interval(draw(rng, n), resamples=999, seed=run) for run in range(runs)]
    hits = sum(interval.low <= MEANS[draw] <= interval.high for interval in found)
    assert holds(hits, runs, 0.95, 0.02)


def test_a_plain_bca_interval_of_few_units_is_too_narrow():
    data = symmetric(seeded(1), (1_000, 8))
    plain = stats.bootstrap(
        (data,), np.mean, axis=-1, n_resamples=499, batch=50, rng=np.random.default_rng(0)
    ).confidence_interval
    assert ((plain.low <= 0.3) & (plain.high >= 0.3)).mean() < 0.91
    ours = [bootstrap_interval(row, resamples=499) for row in data[:300]]
    assert holds(sum(interval.low <= 0.3 <= interval.high for interval in ours), 300, 0.95, 0.02)


@pytest.mark.parametrize("runs", SIZES)
def test_the_interval_of_a_difference_covers_it(runs):
    rng, hits = seeded(2), 0
    for run in range(runs):
        unit = rng.normal(0, 0.1, 32)
        interval = paired_interval(mostly_unchanged(rng, 32) + unit, skewed(rng, 32) + unit, resamples=999, seed=run)
        hits += interval.low <= 0.84 - 0.2 <= interval.high
    assert holds(hits, runs, 0.95, 0.02)


@pytest.mark.parametrize("n", [24, 32, 48])
def test_wilson_covers_shares_exactly_computed(n):
    counts, shares = np.arange(n + 1), np.arange(0.05, 0.951, 0.01)
    low, high = proportion_confint(counts, n, method="wilson")
    covered = np.array([((low <= p) & (p <= high)) @ stats.binom.pmf(counts, n, p) for p in shares])
    assert covered.mean() == pytest.approx(0.95, abs=0.01)
    assert covered.min() > 0.92
    assert covered.max() < 0.99


@pytest.mark.parametrize("runs", SIZES)
@pytest.mark.parametrize("n", [24, 48])
@pytest.mark.parametrize("test", [paired_wilcoxon, paired_permutation])
@DRAWS
def test_paired_tests_keep_their_level_where_values_can_be_swapped(draw, test, n, runs):
    rng = seeded(n, 3)
    found = []
    for run in range(runs):
        # The same few random permutations in all runs would err alike.
        options = {"resamples": 199, "seed": run} if test is paired_permutation else {}
        unit = rng.normal(0, 0.05, n)
        found.append(test(draw(rng, n) + unit, draw(rng, n) + unit, **options))
    assert holds(sum(one.p_value <= ALPHA for one in found), runs, ALPHA, 0.01)


def test_only_the_permutation_test_is_about_means():
    # A constant that equals the mean of the other method: nothing to find, but the differences are not symmetric.
    rng, runs = seeded(4), 600
    pairs = [(mostly_unchanged(rng, 48), np.full(48, 0.84)) for _ in range(runs)]
    assert (
        np.mean([paired_permutation(*pair, resamples=199, seed=run).p_value <= ALPHA for run, pair in enumerate(pairs)])
        < 0.07
    )
    assert np.mean([paired_wilcoxon(*pair).p_value <= ALPHA for pair in pairs]) > 0.09


@pytest.mark.parametrize("runs", SIZES)
@pytest.mark.parametrize(("conditions", "repeats"), [(9, 1), (1, 3), (6, 3)])
@DRAWS
def test_the_floor_test_keeps_its_level(draw, conditions, repeats, runs):
    rng, hits = seeded(conditions, repeats), 0
    for run in range(runs):
        unit = rng.normal(0, 0.1, (24, 1))
        found = noise_floor_test(
            draw(rng, (24, conditions)) + unit, draw(rng, (24, repeats)) + unit, resamples=199, seed=run
        )
        hits += found.p_value <= ALPHA
    assert holds(hits, runs, ALPHA, 0.01)


def test_wilcoxon_of_a_mean_against_one_repeat_finds_what_is_not_there():
    rng, runs = seeded(5), 300
    means = [(random_label(rng, (48, 18)).mean(axis=1), random_label(rng, 48)) for _ in range(runs)]
    assert np.mean([paired_wilcoxon(*pair).p_value <= ALPHA for pair in means]) > 0.3


@pytest.mark.parametrize("runs", SIZES)
def test_the_floor_test_keeps_its_level_with_missing_labels(runs):
    rng, hits = seeded(6), 0
    for run in range(runs):
        data = mostly_unchanged(rng, (24, 6))
        data[rng.random(data.shape) < 0.1] = np.nan
        hits += noise_floor_test(data[:, :5], data[:, 5:], resamples=199, seed=run).p_value <= ALPHA
    assert holds(hits, runs, ALPHA, 0.01)


@pytest.mark.parametrize("runs", SIZES)
@pytest.mark.parametrize("posthoc", ["permutation", "wilcoxon", "nemenyi"])
def test_comparisons_keep_their_family_wise_level(posthoc, runs):
    rng, runs = seeded(7), min(runs, 1_500)
    scores = skewed(rng, (runs, 32, 3)) + rng.normal(0, 0.1, (runs, 32, 1))
    found = [compare_methods(one, "abc", posthoc=posthoc, resamples=199, seed=run) for run, one in enumerate(scores)]
    assert holds(sum(one.omnibus.p_value <= ALPHA for one in found), len(found), ALPHA, 0.01)
    any_pair = sum(one.separated.any() for one in found)
    assert stats.binomtest(any_pair, len(found), ALPHA, alternative="greater").pvalue > 0.001


@pytest.mark.parametrize("runs", SIZES)
@pytest.mark.parametrize("n", [10, 24, 48])
def test_friedman_keeps_its_level(n, runs):
    scores = mostly_unchanged(seeded(n, 8), (runs, n, 4))
    p = [stats.friedmanchisquare(*one.T).pvalue for one in scores]
    assert holds(int(np.sum(np.array(p) <= ALPHA)), runs, ALPHA, 0.01)


@pytest.mark.parametrize("runs", SIZES)
def test_mcnemar_keeps_its_level_and_is_careful_with_few_changes(runs):
    rng = seeded(9)
    many = [mcnemar_test(*(rng.random((2, 120)) < 0.5)).p_value <= ALPHA for _ in range(runs)]
    assert holds(sum(many), runs, ALPHA, 0.01)
    few = [mcnemar_test(*(rng.random((2, 24)) < 0.2)).p_value <= ALPHA for _ in range(runs)]
    assert np.mean(few) <= ALPHA


@pytest.mark.parametrize("runs", [10, pytest.param(300, marks=pytest.mark.slow)])
def test_the_mixed_model_keeps_its_level_where_methods_and_slopes_differ_by_unit(runs):
    rng, step = seeded(10), np.array([-2.0, 0.0, 2.0])
    unit, method, severity = (axis.ravel() for axis in np.meshgrid(range(24), ["a", "b"], step, indexing="ij"))
    hits = np.zeros(3, dtype=int)
    for _ in range(runs):
        level = rng.beta(5, 2, (24, 1, 1)) + 0.4 * rng.beta(2, 2, (24, 2, 1))
        slope = rng.normal(0, 0.03, (24, 1, 1)) + rng.normal(0, 0.03, (24, 2, 1))
        values = level + slope * step + 0.15 * rng.beta(2, 1, (24, 2, 3))
        hits += [test.p_value <= ALPHA for test in mixed_model(values.ravel(), method, severity, unit).tests]
    assert all(holds(int(hit), runs, ALPHA, 0.01) for hit in hits)


@pytest.mark.parametrize("n", [24, 48])
def test_the_smallest_difference_is_found_four_times_in_five(n):
    rng, runs = seeded(n, 11), 1_000
    shift = smallest_difference(np.array([-0.2, 0.0, 0.2]), n).difference
    found = np.mean([paired_wilcoxon(rng.normal(shift, 0.2, n), np.zeros(n)).p_value <= ALPHA for _ in range(runs)])
    assert found == pytest.approx(0.8, abs=0.04)
