"""Numbers that must come out whatever the method: identical, shuffled and constant labels, dead units, few units."""

from __future__ import annotations

import numpy as np
import pytest

from metrics.evidence import activation_correlation, evidence_overlap, rank_biased_overlap
from metrics.stability import chance, clip_similarity, four_way, mlce, noise_floor, stability
from metrics.statistics import bootstrap_interval

NAN = float("nan")


def embeddings(units=60, d=16, seed=0, dtype=np.float32):
    """Labels as CLIP embeds them: unit norm and, by a shared direction, all alike to some degree."""
    drawn = np.random.default_rng(seed).normal(size=(units, d)) + 1.5
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(dtype)


def derangement(units, draw):
    """A random order that leaves no unit in its place."""
    while True:
        order = draw.permutation(units)
        if (order != np.arange(units)).all():
            return order


def scored(now, clean):
    return stability(clip_similarity(now, clean), chance(clean))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("units", [2, 3, 60])
def test_identical_labels_are_exactly_stable(units, dtype):
    clean = embeddings(units, dtype=dtype)
    np.testing.assert_array_equal(clip_similarity(clean, clean), 1.0)
    np.testing.assert_array_equal(scored(clean, clean), 1.0)
    np.testing.assert_array_equal(noise_floor(np.stack([clean] * 3), clean), 1.0)
    interval = bootstrap_interval(scored(clean, clean), resamples=199)
    assert interval.estimate == 1.0


def test_shuffled_labels_score_zero_within_their_interval():
    draw = np.random.default_rng(0)
    covered, means = 0, []
    for seed in range(40):
        clean = embeddings(seed=seed)
        interval = bootstrap_interval(scored(clean[derangement(60, draw)], clean), resamples=499, seed=seed)
        covered += interval.low <= 0 <= interval.high
        means.append(interval.estimate)
    assert covered >= 36  # a 95 % interval, 40 times: 38 expected
    assert abs(np.mean(means)) < 0.02
    # The raw cosine would not have told: shuffled labels look alike.
    clean = embeddings()
    assert clip_similarity(clean[derangement(60, draw)], clean).mean() > 0.5


def test_labels_drawn_anew_score_zero_too():
    values = [scored(embeddings(seed=seed + 100), embeddings(seed=seed)).mean() for seed in range(20)]
    assert abs(np.mean(values)) < 0.02


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("units", [2, 60, 2048])
def test_a_constant_label_is_never_above_zero(units, dtype):
    constant = np.tile(embeddings(1, dtype=dtype), (units, 1))
    assert (scored(constant, constant) <= 0).all()
    assert (scored(embeddings(units, seed=1, dtype=dtype), constant) <= 0).all()
    assert (scored(np.tile(embeddings(1, seed=2, dtype=dtype), (units, 1)), constant) <= 0).all()
    # An encoder may give one text slightly different vectors in different batches.
    jitter = 1e-7 * np.random.default_rng(0).normal(size=constant.shape)
    assert (scored(constant + jitter, constant + jitter[::-1]) <= 0).all()


def test_a_dead_unit_is_left_out_and_counted():
    clean, now = embeddings(), embeddings(seed=1)
    dead = np.arange(60) < 7
    kept = scored(now[~dead], clean[~dead])
    clean[dead], now[dead] = np.nan, np.nan
    values = scored(now, clean)
    assert np.isnan(values).tolist() == dead.tolist()
    np.testing.assert_allclose(values[~dead], kept, atol=1e-12)
    assert bootstrap_interval(values, resamples=199).n == 53
    verdicts = np.where(dead, np.nan, 1.0)
    assert four_way(verdicts, verdicts)[:] == (53, 0, 0, 0, 7)
    activations = np.random.default_rng(0).normal(size=(20, 60))
    activations[:, dead] = 0
    assert (activation_correlation(activations, activations).reason != "").sum() == 7


@pytest.mark.parametrize("units", [0, 1])
def test_without_another_unit_there_is_no_chance_and_no_stability(units):
    clean = embeddings(units)
    assert scored(clean, clean).shape == (units,)
    assert np.isnan(scored(clean, clean)).all()
    np.testing.assert_array_equal(clip_similarity(clean, clean), np.ones(units))


def test_two_units_are_each_others_chance():
    clean = embeddings(2)
    np.testing.assert_allclose(chance(clean), clip_similarity(clean[::-1], clean), atol=1e-12)
    np.testing.assert_allclose(scored(clean[::-1], clean), 0.0, atol=1e-12)


def test_pairs_are_symmetric():
    first, second = embeddings(), embeddings(seed=1)
    np.testing.assert_array_equal(clip_similarity(first, second), clip_similarity(second, first))
    here, there = [1, 2, 3, 4], [4, 2, 9]
    assert evidence_overlap(here, there) == evidence_overlap(there, here)
    assert rank_biased_overlap(here, there) == rank_biased_overlap(there, here)
    activations = np.random.default_rng(0).normal(size=(2, 20, 5))
    forth, back = activation_correlation(*activations), activation_correlation(*activations[::-1])
    np.testing.assert_array_equal(forth.pearson, back.pearson)
    np.testing.assert_array_equal(forth.spearman, back.spearman)


def test_a_missing_value_stays_missing_everywhere():
    clean, now = embeddings(5), embeddings(5, seed=1)
    now[2] = np.nan
    for values in (clip_similarity(now, clean), scored(now, clean), noise_floor(now[None], clean)):
        assert np.isnan(values).tolist() == [False, False, True, False, False]
    assert not np.isnan(chance(clean)).any()
    assert np.isnan(mlce(np.array([[NAN, 0.5]]), np.array([[0.5, 0.5]])).value)


def test_the_order_of_the_units_does_not_matter():
    clean, now, order = embeddings(), embeddings(seed=1), np.random.default_rng(0).permutation(60)
    np.testing.assert_allclose(scored(now[order], clean[order]), scored(now, clean)[order], atol=1e-12)


def test_a_method_compared_with_itself_has_a_label_change_error_of_one():
    values = np.random.default_rng(0).random((4, 5))
    assert mlce(values, values).value == 1.0
    np.testing.assert_array_equal(mlce(values, values).by_corruption, 1.0)
