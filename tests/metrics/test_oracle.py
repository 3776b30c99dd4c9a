"""AUROC against scikit-learn, with ties, and the best concept by the rules of its docstring."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from metrics.oracle import auroc_matrix, best_concept


def by_scikit_learn(activations, presence):
    scores = np.full((activations.shape[1], presence.shape[1]), np.nan)
    for unit in range(activations.shape[1]):
        for concept in range(presence.shape[1]):
            if 0 < presence[:, concept].sum() < len(presence):
                scores[unit, concept] = roc_auc_score(presence[:, concept], activations[:, unit])
    return scores


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_auroc_is_scikit_learns_with_ties(seed, images, levels):
    rng = np.random.default_rng(seed)
    activations = rng.integers(0, levels, (images, 3)).astype(np.float32)
    presence = rng.random((images, 4)) < rng.random(4)
    np.testing.assert_allclose(auroc_matrix(activations, presence), by_scikit_learn(activations, presence), atol=1e-12)


def test_auroc_is_the_share_of_pairs_in_order():
    activations = np.array([[3.0], [1.0], [2.0], [2.0], [0.0]])
    presence = np.array([[True], [False], [True], [False], [False]])
    pairs = [(a > b) + 0.5 * (a == b) for a in (3.0, 2.0) for b in (1.0, 2.0, 0.0)]
    assert auroc_matrix(activations, presence)[0, 0] == pytest.approx(np.mean(pairs))


def test_auroc_looks_at_order_only_and_turns_with_the_sign():
    rng = np.random.default_rng(0)
    activations, presence = rng.normal(size=(50, 3)), rng.random((50, 4)) < 0.3
    scores = auroc_matrix(activations, presence)
    np.testing.assert_array_equal(auroc_matrix(np.exp(activations), presence), scores)
    np.testing.assert_allclose(auroc_matrix(-activations, presence), 1 - scores)
    np.testing.assert_allclose(auroc_matrix(activations, ~presence), 1 - scores)


def test_a_concept_everywhere_or_nowhere_has_no_auroc_and_a_constant_unit_is_at_chance():
    activations = np.column_stack([np.arange(6.0), np.ones(6)])
    presence = np.column_stack([np.ones(6, bool), np.zeros(6, bool), np.arange(6) > 3])
    scores = auroc_matrix(activations, presence)
    assert np.isnan(scores[:, :2]).all()
    assert scores[:, 2].tolist() == [1.0, 0.5]


def test_numbers_of_images_must_agree():
    with pytest.raises(ValueError, match="5 rows of activations, but 4 images"):
        auroc_matrix(np.zeros((5, 2)), np.zeros((4, 3), bool))


def test_the_best_concept_is_the_one_with_the_highest_auroc():
    rng = np.random.default_rng(1)
    presence = rng.random((200, 6)) < 0.3
    true = np.array([4, 0, 5, 5])
    activations = presence[:, true] + rng.normal(scale=0.4, size=(200, 4))
    best = best_concept(activations, presence)
    assert best.concept.tolist() == true.tolist()
    expected = by_scikit_learn(activations, presence)
    np.testing.assert_allclose(best.auroc, expected.max(1))


def test_rare_and_nearly_universal_concepts_do_not_qualify():
    activations = np.arange(40.0)[:, None]
    rare = np.arange(40) >= 31
    usual = np.arange(40) >= 9
    plain = np.arange(40) % 2 == 1
    presence = np.column_stack([rare, usual, plain])
    assert best_concept(activations, presence).concept.tolist() == [2]
    assert best_concept(activations, presence, least_images=9).concept.tolist() == [0]
    assert best_concept(activations, presence[:, 1:], least_images=9).concept.tolist() == [0]


def test_the_lowest_index_wins_a_tie():
    shown = np.arange(30) >= 15
    presence = np.column_stack([~shown, shown, shown])
    assert best_concept(np.arange(30.0)[:, None], presence).concept.tolist() == [1]


@pytest.mark.parametrize("presence", [np.zeros((20, 3), bool), np.zeros((20, 0), bool), np.ones((20, 2), bool)])
def test_without_a_concept_that_qualifies_there_is_none(presence):
    best = best_concept(np.random.default_rng(0).normal(size=(20, 4)), presence)
    assert best.concept.tolist() == [-1] * 4
    assert np.isnan(best.auroc).all()


def test_units_and_images_may_come_in_any_order():
    rng = np.random.default_rng(2)
    activations, presence = rng.normal(size=(80, 5)), rng.random((80, 7)) < 0.4
    best = best_concept(activations, presence)
    images, units = rng.permutation(80), rng.permutation(5)
    again = best_concept(activations[images][:, units], presence[images])
    assert again.concept.tolist() == best.concept[units].tolist()
    np.testing.assert_array_equal(again.auroc, best.auroc[units])
