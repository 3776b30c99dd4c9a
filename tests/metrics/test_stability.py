from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from metrics.stability import chance, clip_similarity, four_way, mlce, noise_floor, stability

NAN = float("nan")


def labels(units=7, d=5, seed=0):
    return np.random.default_rng(seed).normal(size=(units, d)).astype(np.float32) + 0.5


def test_similarity_is_the_cosine():
    first, second = labels(), labels(seed=1)
    expected = np.diag(cosine_similarity(first.astype(float), second.astype(float)))
    np.testing.assert_allclose(clip_similarity(first, second), expected, atol=1e-12)
    np.testing.assert_array_equal(clip_similarity(first, second), clip_similarity(second, first))
    np.testing.assert_allclose(clip_similarity(3 * first, second), expected, atol=1e-6)
    np.testing.assert_allclose(clip_similarity(first, first), 1, atol=1e-15)
    np.testing.assert_allclose(clip_similarity(first, -first), -1, atol=1e-15)


def test_a_missing_label_is_missing_not_zero():
    first, second = labels(), labels(seed=1)
    first[2], second[4], second[5] = np.nan, np.nan, 0
    assert np.isnan(clip_similarity(first, second)).tolist() == [unit in (2, 4, 5) for unit in range(7)]
    with pytest.raises(ValueError, match="one shape"):
        clip_similarity(first, second[:3])
    with pytest.raises(ValueError, match=r"\[units, d\]"):
        clip_similarity(first[0], second[0])


def test_noise_floor_is_the_mean_over_repeats_that_have_a_label():
    reference = labels()
    repeats = np.stack([labels(seed=1), labels(seed=2), reference])
    each = np.stack([clip_similarity(repeat, reference) for repeat in repeats])
    np.testing.assert_allclose(noise_floor(repeats, reference), each.mean(axis=0), atol=1e-12)
    repeats[1, 3] = np.nan
    assert noise_floor(repeats, reference)[3] == pytest.approx((each[0, 3] + each[2, 3]) / 2)
    repeats[:, 3] = np.nan
    assert np.isnan(noise_floor(repeats, reference)).tolist() == [unit == 3 for unit in range(7)]
    np.testing.assert_allclose(noise_floor(reference[None], reference), 1.0, atol=1e-15)


def test_noise_floor_without_repeats_is_missing():
    assert np.isnan(noise_floor(np.zeros((0, 7, 5)), labels())).all()
    with pytest.raises(ValueError, match="repeats, units, d"):
        noise_floor(labels(), labels())


def test_chance_is_the_mean_over_the_other_units():
    clean = labels().astype(float)
    table = cosine_similarity(clean)
    expected = [np.mean([table[u, v] for v in range(7) if v != u]) for u in range(7)]
    np.testing.assert_allclose(chance(clean), expected, atol=1e-12)


def test_chance_leaves_missing_labels_out():
    clean = labels()
    clean[2] = np.nan
    result = chance(clean)
    assert np.isnan(result[2])
    np.testing.assert_allclose(np.delete(result, 2), chance(np.delete(clean, 2, axis=0)), atol=1e-12)


def test_chance_needs_two_labels():
    assert np.isnan(chance(labels(1))).all()
    assert np.isnan(chance(np.array([[1.0, 0.0], [NAN, NAN]]))).all()
    assert chance(np.zeros((0, 3))).shape == (0,)


def test_stability_is_one_unchanged_and_zero_at_chance():
    clean = labels()
    expected = chance(clean)
    np.testing.assert_allclose(stability(clip_similarity(clean, clean), expected), 1.0, atol=1e-12)
    np.testing.assert_array_equal(stability(expected, expected), 0.0)
    np.testing.assert_allclose(stability(np.array([0.2, 0.9]), np.array([0.5, 0.5])), [-0.6, 0.8])


def test_permuted_labels_have_a_mean_stability_of_zero_over_all_shifts():
    clean = labels()
    expected = chance(clean)
    shifts = [stability(clip_similarity(np.roll(clean, shift, axis=0), clean), expected) for shift in range(1, 7)]
    np.testing.assert_allclose(np.mean(shifts, axis=0), 0.0, atol=1e-12)


def test_where_all_labels_are_alike_stability_is_zero_by_definition():
    alike = np.tile(labels(1), (6, 1))
    assert chance(alike) == pytest.approx(1.0)
    assert stability(clip_similarity(alike, alike), chance(alike)).tolist() == [0.0] * 6
    nearly = alike + 0.01 * np.linalg.norm(alike, axis=1, keepdims=True) * np.eye(*alike.shape)
    assert 0.999 < chance(nearly).min() < 1 - 1e-6
    assert stability(clip_similarity(np.roll(nearly, 1, axis=0), nearly), chance(nearly)).tolist() == [0.0] * 6


def test_stability_keeps_what_is_missing():
    assert np.isnan(stability(np.array([NAN, 0.5, NAN]), np.array([0.5, NAN, 1.0]))).all()
    np.testing.assert_allclose(stability(np.ones((3, 2)), np.array([0.5, 0.1])), 1.0)


def test_mlce_is_the_mean_ratio_of_sums():
    draw = np.random.default_rng(0)
    method, reference = draw.random((4, 5)), draw.random((4, 5))
    ratios = [sum(1 - method[c]) / sum(1 - reference[c]) for c in range(4)]
    result = mlce(method, reference)
    np.testing.assert_allclose(result.by_corruption, ratios)
    assert result.value == pytest.approx(np.mean(ratios))
    assert mlce(reference, reference).value == pytest.approx(1.0)
    assert mlce(np.ones((4, 5)), reference).value == 0.0


def test_mlce_is_missing_where_nothing_can_be_compared():
    method = np.full((3, 2), 0.5)
    reference = np.array([[0.5, 0.5], [1.0, 1.0], [0.5, NAN]])
    result = mlce(method, reference)
    np.testing.assert_array_equal(result.by_corruption, [1.0, NAN, NAN])
    assert math.isnan(result.value)
    assert math.isnan(mlce(np.zeros((0, 5)), np.zeros((0, 5))).value)
    with pytest.raises(ValueError, match="corruptions, severities"):
        mlce(method, reference[:2])


def test_four_way_split():
    clean = np.array([1, 1, 0, 0, 1, NAN, 0, 1])
    perturbed = np.array([1, 0, 1, 0, 1, 1, NAN, 0])
    split = four_way(clean, perturbed)
    assert split._asdict() == {
        "right_and_stable": 2,
        "right_to_wrong": 2,
        "wrong_to_right": 1,
        "wrong_and_stable": 1,
        "missing": 2,
    }
    assert split.shares == pytest.approx((2 / 6, 2 / 6, 1 / 6, 1 / 6))
    assert four_way(perturbed, clean).right_to_wrong == split.wrong_to_right
    assert four_way(np.array([True, False]), np.array([True, True]))[:4] == (1, 0, 1, 0)


def test_four_way_at_the_edge():
    empty = four_way(np.array([]), np.array([]))
    assert empty[:] == (0, 0, 0, 0, 0)
    assert all(math.isnan(share) for share in empty.shares)
    with pytest.raises(ValueError, match="of the same shape"):
        four_way(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="verdict must be"):
        four_way(np.array([0.5]), np.array([1.0]))
