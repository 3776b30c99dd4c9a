"""CLEAR's terms against scipy, and what they are for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, zscore

from baselines.clear.choice import Follower, activation_term, combined, standardised
from baselines.clear.dependence import dependence, loss, part_dependence


def unit_norm(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_following_is_the_correlation_with_the_cosines_without_a_table_of_them():
    rng = np.random.default_rng(0)
    images, texts, activations = (
        unit_norm(rng.normal(size=(50, 6))),
        unit_norm(rng.normal(size=(4, 6))),
        rng.normal(size=50),
    )
    follower = Follower(images)
    spread = follower.spread(texts)
    np.testing.assert_allclose(spread, (images @ texts.T).std(axis=0))
    expected = [pearsonr(activations, images @ text).statistic for text in texts]
    np.testing.assert_allclose(follower.correlation(activations, texts, spread), expected)


def test_a_constant_unit_and_constant_cosines_follow_nothing():
    images = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    same = Follower(np.ones((3, 1)))
    assert Follower(images).correlation(np.ones(3), images, np.ones(3)).tolist() == [0, 0, 0]
    assert same.correlation(np.arange(3.0), np.ones((1, 1)), same.spread(np.ones((1, 1)))).tolist() == [0]


def test_evidence_is_the_weighted_sum_of_standard_scores():
    rng = np.random.default_rng(1)
    terms = {"one": rng.normal(size=9), "other": rng.uniform(size=9), "equal": np.ones(9)}
    expected = 2 * zscore(terms["one"]) + zscore(terms["other"])
    np.testing.assert_allclose(combined(terms, {"one": 2.0, "other": 1.0, "equal": 3.0}), expected)
    assert standardised(np.ones(1)).tolist() == [0]


def test_activation_term_is_the_chance_of_beating_another_drawn_image():
    activations = [np.array([5.0, 6.0]), np.array([1.0, 2.0]), np.array([3.0, 4.0])]
    term = activation_term(activations)
    np.testing.assert_allclose(term, [5 / 6, 1 / 6, 3 / 6])
    assert term.mean() == pytest.approx(0.5)
    np.testing.assert_allclose(activation_term([np.exp(own) for own in activations]), term)
    np.testing.assert_allclose(activation_term([np.ones(2)] * 3), [0.5, 0.5, 0.5])


def test_loss_is_a_share_of_the_excess():
    seen = np.array([4.0, 3.0])
    assert loss(seen, np.array([4.0, 3.0]), rest=1.0) == 0.0
    assert loss(seen, np.array([1.0, 1.0]), rest=1.0) == 1.0
    assert loss(seen, np.array([-9.0, 1.0]), rest=1.0) == 1.0
    assert loss(seen, np.array([2.0, 5.0]), rest=1.0) == pytest.approx(2 / 5)
    assert loss(seen, seen, rest=9.0) == 0.0


def test_dependence_on_the_parts_of_the_image_and_on_contexts_at_all():
    losses = {"foreground_blur:3": 0.2, "foreground_grey:5": 0.7, "gaussian_blur:3": 0.3}
    found = dependence(losses)
    assert found == {"foreground": 0.7, "background": None, "context": pytest.approx(0.4)}
    assert dependence({}) == {"foreground": None, "background": None, "context": None}


def test_a_part_of_the_label_depends_on_what_makes_captions_drop_it():
    seen = ["red fish on sandy beach", "red fish on sandy beach", "blue fish"]
    changed = {
        "foreground_blur:3": ["red star on sandy beach", "red fish on sandy beach", "blue star"],
        "background_blur:3": ["red fish", "red fish", "blue fish"],
        "gaussian_blur:3": ["nothing", "nothing", "nothing"],
    }
    fish, beach, boat = part_dependence(["fish", "sandy beach", "boat"], seen, changed)
    assert fish == {"part": "fish", "foreground": pytest.approx(2 / 3), "background": 0.0}
    assert beach == {"part": "sandy beach", "foreground": 0.0, "background": 1.0}
    assert boat == {"part": "boat", "foreground": None, "background": None}
