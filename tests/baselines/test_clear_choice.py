"""CLEAR's terms and regularisers against scikit-learn, and against what they are for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from small_observation import observation

from baselines.clear.case import Layer
from baselines.clear.choice import (
    activation_term,
    auc,
    caption_term,
    distinctness,
    excitation,
    image_term,
    robust,
    specificity,
)
from baselines.clear.dependence import dependence, loss, part_dependence


def unit_norm(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize("decimals", [0, 3])
def test_auc_is_scikit_learns_with_ties(decimals):
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(0.5, 1, 20).round(decimals), rng.normal(0, 1, 30).round(decimals)
    truth = np.r_[np.ones(20), np.zeros(30)]
    assert auc(positive, negative) == pytest.approx(roc_auc_score(truth, np.r_[positive, negative]))
    assert auc(positive, np.array([])) == 0.5


def test_activation_term_is_the_chance_of_beating_another_synthetic_image():
    activations = np.array([[5.0, 6.0], [1.0, 2.0], [3.0, 4.0]])
    term = activation_term(activations)
    np.testing.assert_allclose(term, [5 / 6, 1 / 6, 3 / 6])
    assert term.mean() == pytest.approx(0.5)
    np.testing.assert_allclose(activation_term(np.exp(activations)), term)
    np.testing.assert_allclose(activation_term(np.ones((3, 2))), [0.5, 0.5, 0.5])


def test_image_term_is_the_auc_of_the_cosine_to_the_concepts_mean_image():
    rng = np.random.default_rng(1)
    described, control, synthetic = (unit_norm(rng.normal(size=shape)) for shape in ((6, 4), (9, 4), (3, 5, 4)))
    expected = [
        roc_auc_score(np.r_[np.ones(6), np.zeros(9)], np.r_[described, control] @ images.mean(axis=0))
        for images in synthetic
    ]
    np.testing.assert_allclose(image_term(described, control, synthetic), expected)


def test_what_captions_say_of_anything_says_nothing_of_the_unit():
    own = ["a white fish in a cloudy sky"] * 4 + ["a red fish"]
    control = ["a white cup in a cloudy sky"] * 5
    term = caption_term(own, control, ["cloudy sky", "fish", "red fish", "boat", "the"])
    np.testing.assert_allclose(term, [0.4, 1.0, 0.6, 0.5, 0.5])


def test_robust_prefers_what_holds_in_every_context():
    scores = np.array([[0.9, 0.6], [0.2, 0.5]])
    np.testing.assert_allclose(robust(scores, "worst", 0.0), [0.2, 0.5])
    np.testing.assert_allclose(robust(scores, "spread", 0.0), [0.55, 0.55])
    np.testing.assert_allclose(robust(scores, "spread", 1.0), [0.55 - 0.35, 0.55 - 0.05])


def test_excitation_is_standardised_by_unit_and_nothing_excites_a_constant_one():
    responses = np.array([[1.0, 7.0, 10.0], [3.0, 7.0, 40.0]])
    np.testing.assert_allclose(excitation(responses), [[-1, 0, -1], [1, 0, 1]])


def test_specificity_counts_the_live_units_that_a_concept_excites_less():
    excited = np.array([[2.0, 1.0, 3.0, 9.0], [0.0, 0.0, 1.0, -9.0]])
    alive = np.array([True, True, True, False])
    np.testing.assert_allclose(specificity(excited, 0, alive), [0.5, 0.25])
    np.testing.assert_allclose(specificity(excited, 0, np.array([True, False, False, False])), [1.0, 1.0])


def test_a_label_shared_with_units_that_behave_alike_is_distinct():
    units = 40
    excited, correlation = np.zeros((2, units)), np.zeros(units)
    excited[0, 1:11], excited[1, 11:21] = 5.0, 5.0
    correlation[:11], correlation[11:21] = 0.8, -0.9
    np.testing.assert_allclose(distinctness(excited, correlation, 0, np.ones(units, dtype=bool)), [0.8, 0.0])
    alone = np.arange(units) == 0
    np.testing.assert_allclose(distinctness(excited, correlation, 0, alone), [1.0, 1.0])


def test_correlations_with_the_complete_layer_leave_dead_units_out():
    activations = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    activations[:, 2], activations[3, 4] = 3.0, torch.nan
    layer = Layer.of(observation(activations))
    assert layer.alive.tolist() == [True, True, False, True, False]
    expected = np.corrcoef(activations[:, [0, 1, 3]].numpy().T)[0]
    np.testing.assert_allclose(layer.correlation(0), [*expected[:2], 0, expected[2], 0], atol=1e-6)
    np.testing.assert_allclose(layer.median[:2], np.median(activations[:, :2].numpy(), axis=0))


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
