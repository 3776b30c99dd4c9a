from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, f1_score, jaccard_score
from sklearn.metrics.pairwise import cosine_similarity

from metrics.faithfulness import active_images, auprc, correlation, cosine, f1, faithfulness, iou

NAN = float("nan")


@pytest.fixture(scope="module")
def data():
    draw = np.random.default_rng(0)
    activations = np.maximum(draw.normal(size=(200, 5)) - 1, 0)  # sparse, with ties at 0
    presence = draw.random((200, 4)) < [0.5, 0.2, 0.05, 0.01]
    soft = np.round(draw.random((200, 4)), 1)  # with ties
    return activations, presence, soft


def table(score, first, second):
    return np.array([[score(a, b) for b in second.T] for a in first.T])


def test_against_scikit_learn_on_binary_presence(data):
    activations, presence, _ = data
    active = active_images(activations)
    np.testing.assert_allclose(f1(active, presence), table(f1_score, active, presence), atol=1e-12)
    np.testing.assert_allclose(iou(active, presence), table(jaccard_score, active, presence), atol=1e-12)
    expected = table(average_precision_score, active, presence.astype(float))
    np.testing.assert_allclose(auprc(active, presence), expected, atol=1e-12)
    expected = table(lambda a, b: stats.pearsonr(a, b)[0], activations, presence)
    np.testing.assert_allclose(correlation(activations, presence), expected, atol=1e-12)
    expected = cosine_similarity(activations.T, presence.T.astype(float))
    np.testing.assert_allclose(cosine(activations, presence), expected, atol=1e-12)


def test_against_scikit_learn_on_soft_presence(data):
    activations, _, soft = data
    active = active_images(activations)
    np.testing.assert_allclose(auprc(active, soft), table(average_precision_score, active, soft), atol=1e-12)
    expected = table(lambda a, b: stats.pearsonr(a, b)[0], activations, soft)
    np.testing.assert_allclose(correlation(activations, soft), expected, atol=1e-12)
    np.testing.assert_allclose(cosine(activations, soft), cosine_similarity(activations.T, soft.T), atol=1e-12)
    # A soft score counts as that part of an image: ten copies of each image, that many of which show the concept.
    copies = np.repeat(active, 10, axis=0)
    shown = np.concatenate([np.arange(10)[:, None] < np.round(10 * row) for row in soft])
    np.testing.assert_allclose(f1(active, soft), table(f1_score, copies, shown), atol=1e-12)
    np.testing.assert_allclose(iou(active, soft), table(jaccard_score, copies, shown), atol=1e-12)


def test_all_five_together(data):
    activations, presence, _ = data
    result = faithfulness(activations, presence, share=0.1)
    active = active_images(activations, share=0.1)
    assert all(matrix.shape == (5, 4) for matrix in result)
    np.testing.assert_array_equal(result.f1, f1(active, presence))
    np.testing.assert_array_equal(result.iou, iou(active, presence))
    np.testing.assert_array_equal(result.correlation, correlation(activations, presence))
    np.testing.assert_array_equal(result.cosine, cosine(activations, presence))
    np.testing.assert_array_equal(result.auprc, auprc(active, presence))


def test_the_right_label_scores_one_and_a_wrong_one_less():
    presence = np.random.default_rng(0).random((400, 3)) < 0.04
    result = faithfulness(7.0 * presence, presence)
    for matrix in result:
        np.testing.assert_allclose(np.diag(matrix), 1.0, atol=1e-12)
        assert (matrix[~np.eye(3, dtype=bool)] < 0.5).all()


def test_active_images_are_the_highest_share():
    activations = np.random.default_rng(0).permutation(100.0 * np.arange(100))[:, None]
    active = active_images(activations, share=0.05)
    assert sorted(activations[active].tolist()) == [9500, 9600, 9700, 9800, 9900]
    assert active_images(activations, share=0.001).sum() == 1
    assert active_images(activations, share=0.999).sum() == 99


def test_ties_are_never_parted():
    sparse = np.r_[[2.0, 1.0], np.zeros(98)][:, None]
    assert active_images(sparse, share=0.05).ravel().nonzero()[0].tolist() == [0, 1]
    boundary = np.r_[[3.0], np.full(9, 2.0), np.zeros(90)][:, None]
    assert active_images(boundary, share=0.05).sum() == 1
    saturated = np.r_[np.ones(30), np.zeros(70)][:, None]
    assert active_images(saturated, share=0.05).sum() == 30


def test_active_images_follow_a_reordering():
    draw = np.random.default_rng(0)
    activations = np.round(draw.normal(size=(60, 3)), 1)
    order = draw.permutation(60)
    np.testing.assert_array_equal(active_images(activations[order]), active_images(activations)[order])


def test_units_that_are_dead_or_broken_have_no_score(data):
    activations, presence, _ = data
    broken = activations.copy()
    broken[:, 0], broken[:, 1] = 0.0, 0.1
    broken[5, 2], broken[6, 3] = NAN, np.inf
    result = faithfulness(broken, presence)
    whole = faithfulness(activations, presence)
    for matrix, before in zip(result, whole, strict=True):
        assert np.isnan(matrix[:4]).all()
        np.testing.assert_allclose(matrix[4], before[4], atol=1e-12)
    assert not active_images(broken)[:, :4].any()


def test_a_concept_on_no_image_or_on_all(data):
    activations, _, _ = data
    result = faithfulness(activations, np.tile([0.0, 1.0], (200, 1)))
    assert (result.f1[:, 0] == 0).all()
    assert (result.iou[:, 0] == 0).all()
    assert np.isnan(result.cosine[:, 0]).all()
    assert np.isnan(result.correlation).all()
    shares = active_images(activations).mean(axis=0)
    np.testing.assert_allclose(result.auprc, np.stack([shares, shares], axis=1), atol=1e-12)


@pytest.mark.parametrize("images", [0, 1])
def test_no_image_or_one(images):
    result = faithfulness(np.ones((images, 2)), np.ones((images, 3)))
    assert all(matrix.shape == (2, 3) and np.isnan(matrix).all() for matrix in result)


def test_two_images():
    result = faithfulness(np.array([[2.0], [1.0]]), np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert result.f1.tolist() == result.iou.tolist() == [[1.0, 0.0]]
    np.testing.assert_allclose(result.correlation, [[1.0, -1.0]])
    np.testing.assert_allclose(result.auprc, [[1.0, 0.5]])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="of the same images"):
        f1(np.ones((3, 1), dtype=bool), np.ones((4, 1)))
    for wrong in (NAN, -0.1, 1.1):
        with pytest.raises(ValueError, match=r"presence must lie in \[0, 1\]"):
            correlation(np.ones((1, 1)), np.array([[wrong]]))
    with pytest.raises(ValueError, match="share must lie between 0 and 1"):
        active_images(np.ones((3, 1)), share=1.0)
    with pytest.raises(ValueError, match=r"\[images, units\]"):
        active_images(np.ones(3))
