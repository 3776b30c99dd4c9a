from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import jaccard_score

from metrics.evidence import activation_correlation, evidence_overlap, rank_biased_overlap

NAN = float("nan")


def plain_rbo(first, second, p):
    """The sum over depths carried on far below both rankings, where the agreement is taken to stay."""
    short, long = sorted((first, second), key=len)
    total, agreement = 0.0, 0.0
    for depth in range(1, 3_000):
        if depth <= len(long):
            shared = len(set(short[:depth]) & set(long[:depth]))
            unseen = max(depth - len(short), 0) * len(set(short) & set(long[: len(short)])) / len(short)
            agreement = (shared + unseen) / depth
        total += (1 - p) * p ** (depth - 1) * agreement
    return total


def test_evidence_overlap_is_jaccard():
    draw = np.random.default_rng(0)
    for _ in range(5):
        first, second = (draw.choice(30, 10, replace=False) for _ in range(2))
        masks = [np.isin(np.arange(30), images) for images in (first, second)]
        assert evidence_overlap(first.tolist(), second.tolist()) == pytest.approx(jaccard_score(*masks))
    assert evidence_overlap([3, 1, 2], (1, 2, 3)) == 1.0
    assert evidence_overlap([1], [2]) == 0.0
    assert all(math.isnan(evidence_overlap(*pair)) for pair in (([], []), ([], [1]), ([1], [])))


@pytest.mark.parametrize("p", [0.5, 0.9, 0.98])
@pytest.mark.parametrize("lengths", [(1, 1), (10, 10), (10, 4), (1, 7)])
def test_rank_biased_overlap_is_the_sum_over_all_depths(p, lengths):
    draw = np.random.default_rng(0)
    for _ in range(5):
        first, second = (draw.permutation(12)[:length].tolist() for length in lengths)
        score = rank_biased_overlap(first, second, p=p)
        assert score == pytest.approx(plain_rbo(first, second, p), abs=1e-12)
        assert score == rank_biased_overlap(second, first, p=p)
        assert 0 <= score <= 1


def test_rank_biased_overlap_by_hand():
    # Agreement 1, 1/2, 1: (1 - p)(1 + p/2 + p^2) + p^3, with p = 0.5.
    assert rank_biased_overlap(["a", "b", "c"], ["a", "c", "b"], p=0.5) == pytest.approx(
        0.5 * (1 + 0.25 + 0.25) + 0.125
    )
    # Uneven: agreement 1, then (1 + 1) / 2 below the shorter ranking.
    assert rank_biased_overlap(["a"], ["a", "b"], p=0.5) == 1.0
    assert rank_biased_overlap(["b"], ["a", "b"], p=0.5) == pytest.approx(0.5**2 * 0.5 + 0.5**2 * 0.5)


def test_at_nine_tenths_the_first_ten_ranks_decide_86_percent():
    # Webber, Moffat & Zobel: W(1:10) = 0.8556 at p = 0.9. Beyond the ten shared images the rankings are disjoint.
    first, second = range(1_000), [*range(10), *range(1_000, 1_990)]
    assert rank_biased_overlap(first, second, p=0.9) == pytest.approx(0.8556, abs=5e-5)


def test_rank_biased_overlap_minds_the_order_and_most_the_first_ranks():
    clean = list(range(10))
    top, bottom = [1, 0, *clean[2:]], [*clean[:8], 9, 8]
    assert evidence_overlap(top, clean) == evidence_overlap(bottom, clean) == 1
    assert rank_biased_overlap(top, clean) < rank_biased_overlap(bottom, clean) < 1


@pytest.mark.parametrize("p", [0.1, 0.3, 0.9, 0.999])
def test_equal_rankings_score_exactly_one_and_disjoint_ones_zero(p):
    for length in (1, 2, 7, 100):
        assert rank_biased_overlap(range(length), range(length), p=p) == 1.0
        assert rank_biased_overlap(range(length), range(length, 2 * length), p=p) == 0.0


def test_rank_biased_overlap_of_what_cannot_be_ranked():
    assert all(math.isnan(rank_biased_overlap(*pair)) for pair in (([], []), ([], [1]), ([1], [])))
    with pytest.raises(ValueError, match="each image once"):
        rank_biased_overlap([1, 1], [1, 2])
    with pytest.raises(ValueError, match="between 0 and 1, not 1"):
        rank_biased_overlap([1], [1], p=1)


def test_correlations_are_those_of_scipy():
    draw = np.random.default_rng(0)
    clean = np.maximum(draw.normal(size=(40, 6)), 0).astype(np.float32)  # with ties at 0
    perturbed = (0.5 * clean + draw.normal(size=clean.shape) * [0, 0.1, 0.5, 1, 5, 50]).astype(np.float32)
    result = activation_correlation(clean, perturbed)
    pairs = list(zip(clean.T.astype(float), perturbed.T.astype(float), strict=True))
    np.testing.assert_allclose(result.pearson, [stats.pearsonr(a, b)[0] for a, b in pairs], atol=1e-12)
    np.testing.assert_allclose(result.spearman, [stats.spearmanr(a, b)[0] for a, b in pairs], atol=1e-12)
    assert set(result.reason) == {""}
    back = activation_correlation(perturbed, clean)
    np.testing.assert_array_equal(result.pearson, back.pearson)
    np.testing.assert_array_equal(result.spearman, back.spearman)


def test_scale_and_offset_do_not_matter():
    clean = np.random.default_rng(0).normal(size=(30, 4))
    for perturbed in (3 * clean + 5, clean * 1e-200, clean * 1e200):
        result = activation_correlation(clean, perturbed)
        np.testing.assert_allclose(result.pearson, 1, atol=1e-12)
        np.testing.assert_allclose(result.spearman, 1, atol=1e-12)
    np.testing.assert_allclose(activation_correlation(clean, -clean).pearson, -1, atol=1e-12)


def test_a_unit_without_a_correlation_says_why():
    clean = np.random.default_rng(0).normal(size=(9, 5))
    perturbed = clean.copy()
    clean[:, 0], perturbed[:, 1] = 0.1, 0.0
    clean[3, 2], perturbed[4, 3] = NAN, np.inf
    result = activation_correlation(clean, perturbed)
    assert np.isnan(result.pearson).tolist() == np.isnan(result.spearman).tolist() == [True] * 4 + [False]
    assert result.reason.tolist() == [
        "all activations are equal",
        "all activations on the perturbed images are equal",
        "an activation is NaN or infinite",
        "an activation is NaN or infinite",
        "",
    ]


def test_few_images_or_none():
    for images in (0, 1):
        result = activation_correlation(np.ones((images, 3)), np.ones((images, 3)))
        assert np.isnan(result.pearson).all()
        assert set(result.reason) == {"fewer than two images"}
    two = activation_correlation(np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[2.0, 3.0], [3.0, 2.0]]))
    np.testing.assert_allclose(two.pearson, [1, -1])
    assert activation_correlation(np.ones((4, 0)), np.ones((4, 0))).pearson.shape == (0,)
    with pytest.raises(ValueError, match="of the same shape"):
        activation_correlation(np.ones((4, 2)), np.ones((4, 3)))
