"""Agreement of two benchmarks against SciPy's rank correlations and its bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from metrics.statistics import basic_interval, bootstrap_weights, percentile_interval
from metrics.validity import FEW, agreement

NAN = float("nan")


def units(conditions: int = 12, count: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    means = rng.uniform(0, 1, conditions)
    other = means + rng.normal(0, 0.3, conditions)
    return means + rng.normal(0, 0.3, (count, conditions)), other + rng.normal(0, 0.3, (count + 5, conditions))


def sampled(values: np.ndarray, seed: int, resamples: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    weights = bootstrap_weights(len(values), resamples, np.random.default_rng(seed))
    return values.mean(axis=0), weights @ values / len(values)


def scipys(measure: str, first: np.ndarray, second: np.ndarray) -> float:
    if measure == "difference":
        return float(np.abs(first - second).mean())
    return float((stats.spearmanr if measure == "spearman" else stats.kendalltau)(first, second).statistic)


@pytest.mark.parametrize("measure", ["spearman", "kendall", "difference"])
@pytest.mark.parametrize("rounded", [1, 6])
def test_the_estimate_is_scipys_also_with_ties(measure, rounded):
    first, second = (np.round(values.mean(axis=0), rounded) for values in units())
    found = agreement(first, second, first[None], second[None], measure)
    assert found.estimate == pytest.approx(scipys(measure, first, second), abs=1e-12)
    assert found.n == 12


@pytest.mark.parametrize("measure", ["spearman", "kendall", "difference"])
@pytest.mark.parametrize("conditions", [5, 12])
def test_the_interval_is_scipys_bootstrap_of_units_drawn_on_both_sides(measure, conditions):
    one, other = units(conditions)

    def statistic(rows, others):
        return scipys(measure, one[rows].mean(axis=0), other[others].mean(axis=0))

    method = "percentile" if conditions < FEW and measure != "difference" else "basic"
    theirs = stats.bootstrap(
        (np.arange(len(one)), np.arange(len(other))), statistic, vectorized=False, paired=False, method=method,
        n_resamples=1500, rng=np.random.default_rng(3),
    ).confidence_interval  # fmt: skip
    (first, draws), (second, others) = sampled(one, 1), sampled(other, 2)
    ours = agreement(first, second, draws, others, measure)
    least, greatest = (0.0, np.inf) if measure == "difference" else (-1.0, 1.0)
    assert (ours.low, ours.high) == pytest.approx(np.clip(theirs, least, greatest), abs=0.06)


def test_the_same_order_is_one_and_the_reverse_minus_one():
    (first, draws), _ = sampled(units()[0], 1), None
    for measure in ("spearman", "kendall"):
        assert agreement(first, 3 * first, draws, 3 * draws, measure)[:3] == (1, 1, 1)
        assert agreement(first, -first, draws, -draws, measure)[:3] == (-1, -1, -1)
    assert agreement(first, first, draws, draws, "difference")[:3] == (0, 0, 0)


def test_a_high_correlation_is_covered_where_percentile_intervals_miss_it():
    rng = np.random.default_rng(0)
    means = np.linspace(0, 1, 19)
    order = rng.permutation(19)
    other = 0.9 * means + 0.44 * means[order]
    true = scipys("spearman", means, other)
    basic, percentile = 0, 0
    for trial in range(60):
        one, two = (values + rng.normal(0, 0.5, (24, 19)) for values in (means, other))
        (first, draws), (second, others) = sampled(one, 2 * trial, 300), sampled(two, 2 * trial + 1, 300)
        found = agreement(first, second, draws, others, "spearman")
        ranks, other_ranks = (stats.zscore(stats.rankdata(each, axis=1), axis=1) for each in (draws, others))
        low, high = percentile_interval(found.estimate, (ranks * other_ranks).mean(axis=1), 19)[1:3]
        basic += found.low <= true <= found.high
        percentile += low <= true <= high
    assert basic >= 48  # 80 %
    assert percentile <= 30


def test_what_cannot_be_ranked_has_a_reason():
    two = np.array([0.1, 0.2])
    assert "fewer than 3" in agreement(two, two, two[None], two[None], "spearman").reason
    flat, rising = np.zeros(4), np.arange(4.0)
    found = agreement(flat, rising, flat[None], rising[None], "kendall")
    assert np.isnan(found.estimate)
    assert "equal" in found.reason


@pytest.mark.parametrize("bad", [np.array([0.1, NAN, 0.2]), np.array([0.1, 0.2])])
def test_other_conditions_or_missing_values_are_refused(bad):
    good = np.array([0.1, 0.3, 0.2])
    with pytest.raises(ValueError, match=r"finite|same conditions"):
        agreement(bad, good, bad[None], good[None], "spearman")


def test_samples_without_a_value_are_left_out_of_intervals():
    draws = np.concatenate([np.linspace(0, 1, 101), np.full(50, NAN)])
    assert percentile_interval(0.5, draws, 10, 0.9)[:3] == pytest.approx((0.5, 0.05, 0.95))
    assert basic_interval(0.6, draws, 10, 0.9)[:3] == pytest.approx((0.6, 0.25, 1.15))
    assert np.isnan(percentile_interval(0.5, draws * NAN, 10).low)
    assert percentile_interval(0.5, draws, 2).reason == "fewer than three values"
    assert basic_interval(NAN, draws, 10).reason == "no value"
