"""Measures of a unit itself against the numbers of their releases, scikit-learn and sums over pairs."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from metrics.clarity import _two_means, clarity, monosemanticity, polysemanticity, redundancy

DATA = Path(__file__).parents[1] / "data"
# Equal activations where the top images end.
WITHOUT_TIES = [unit for unit in range(24) if unit not in (22, 23)]
NEGATIVE = 20


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(DATA / "activation_methods.npz") as inputs, np.load(DATA / "unit_measures.npz") as stored:
        return {**inputs, **stored}


@pytest.fixture(scope="module")
def top(golden) -> np.ndarray:
    return golden["in/embeddings"][golden["semantic_lens/top"]]


def cosine(first, second) -> float:
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def drawn(units=5, k=9, d=6, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(units, k, d))


# ---- clarity ----


def test_clarity_is_that_of_the_release_and_the_mean_over_pairs(golden, top):
    np.testing.assert_allclose(clarity(top), golden["clarity"], atol=1e-6)
    images = drawn()
    pairs = [[cosine(a, b) for a, b in itertools.combinations(unit, 2)] for unit in images]
    np.testing.assert_allclose(clarity(images), np.mean(pairs, axis=1), atol=1e-12)


def test_clarity_at_the_ends_of_its_range_and_of_any_length():
    simplex = np.eye(5) - 1 / 5
    np.testing.assert_allclose(clarity(np.stack([simplex, np.ones((5, 5))])), [-1 / 4, 1.0], atol=1e-12)
    images = drawn()
    lengths = np.random.default_rng(1).uniform(0.1, 9, (5, 9, 1))
    np.testing.assert_allclose(clarity(images * lengths), clarity(images), atol=1e-12)


# ---- redundancy ----


def test_redundancy_is_that_of_the_release(golden, top):
    found = redundancy(top.mean(axis=1))
    np.testing.assert_allclose(found, golden["redundancy_each"], atol=1e-6)
    assert found.mean() == pytest.approx(float(golden["redundancy"]), abs=1e-6)


def test_redundancy_of_more_units_than_fit_a_block_is_the_largest_cosine():
    vectors = list(drawn(1, 300, 8)[0])
    cosines = np.array([[cosine(a, b) if a is not b else -2 for b in vectors] for a in vectors])
    np.testing.assert_allclose(redundancy(np.array(vectors)), cosines.max(axis=1), atol=1e-12)


def test_a_dead_unit_is_nobodys_double():
    vectors = drawn(1, 4, 6)[0]
    dead = np.concatenate([vectors, np.zeros((2, 6)), np.full((1, 6), np.nan)])
    found = redundancy(dead)
    np.testing.assert_array_equal(found[:4], redundancy(vectors))
    assert np.isnan(found[4:]).all()
    assert np.isnan(redundancy(dead[3:])).all()


# ---- polysemanticity ----


def test_polysemanticity_is_about_that_of_the_release_whose_seed_moves_it(golden, top):
    found = polysemanticity(top)
    away = np.abs(found - golden["polysemanticity"])
    assert np.median(away) < 0.01
    assert np.corrcoef(found, golden["polysemanticity"])[0, 1] > 0.85
    assert (away <= golden["polysemanticity_range"] + 0.03).mean() > 0.8


def test_clusters_of_one_image_are_the_spread_of_the_first_ten(golden):
    small = golden["polysemanticity_small/embeddings"]
    np.testing.assert_allclose(polysemanticity(small), golden["polysemanticity_small/score"], atol=1e-8)
    np.testing.assert_allclose(polysemanticity(small.astype(float)), golden["polysemanticity_small/score"], atol=1e-8)


@pytest.mark.parametrize("k", [2, 5, 10, 30])
def test_the_clusters_have_no_more_inertia_than_scikit_learns(k):
    images = drawn(12, k, 8, seed=k)
    second = _two_means(images, np.random.default_rng(0).random((20, 2)))
    for own, members in zip(images, second, strict=True):
        assert 0 < members.sum() < k
        parts = own[members], own[~members]
        inertia = sum(((part - part.mean(axis=0)) ** 2).sum() for part in parts)
        assert inertia <= KMeans(2, n_init=20, random_state=0).fit(own).inertia_ * 1.03
        # No image is nearer to the other centre.
        away = [np.linalg.norm(own - part.mean(axis=0), axis=1) for part in parts]
        assert (members == (away[0] < away[1])).all()


def test_two_groups_are_found_and_their_angle_is_the_value():
    angle = np.deg2rad(70)
    groups = np.repeat([[1.0, 0.0], [np.cos(angle), np.sin(angle)]], [3, 6], axis=0)
    images = groups + np.random.default_rng(0).normal(0, 1e-4, groups.shape)
    assert polysemanticity(images[None])[0] == pytest.approx(1 - np.cos(angle), abs=1e-3)
    assert polysemanticity(np.ones((1, 6, 4)))[0] == pytest.approx(0, abs=1e-12)


def test_a_unit_has_the_same_value_alone_in_a_crowd_and_with_the_same_seed():
    images = drawn(600, 10, 5)
    every = polysemanticity(images, seed=3)
    np.testing.assert_array_equal(polysemanticity(images[::-1], seed=3)[::-1], every)
    np.testing.assert_array_equal(polysemanticity(images[417:418], seed=3), every[417:418])
    assert (polysemanticity(drawn(200, 30, 30), seed=0) != polysemanticity(drawn(200, 30, 30), seed=1)).any()


# ---- monosemanticity ----


def test_monosemanticity_is_that_of_the_releases(golden):
    given = golden["in/activations"], golden["in/simulator_embeddings"]
    top, every = monosemanticity(*given), monosemanticity(*given, top_images=None)
    # One release calls a unit dead that is never above 0.
    kept = [unit for unit in WITHOUT_TIES if unit != NEGATIVE]
    np.testing.assert_allclose(top[kept], golden["monosemanticity/top_16"][kept], atol=1e-6)
    np.testing.assert_allclose(every, golden["monosemanticity/all_pairs"], atol=2e-6)
    assert np.isnan(golden["monosemanticity/top_16"][NEGATIVE])
    assert 0 < top[NEGATIVE] < 1
    np.testing.assert_allclose(monosemanticity(*given, top_images=800), every, atol=1e-12)


def test_monosemanticity_is_the_weighted_mean_over_pairs_and_knows_no_offset():
    random = np.random.default_rng(2)
    activations, embeddings = random.normal(size=(12, 3)), random.normal(size=(12, 4))
    for unit in range(3):
        own = activations[:, unit]
        weights = (own - own.min()) / (own.max() - own.min())
        images = np.argsort(-own)[:5]
        pairs = [
            (weights[i] * weights[j], cosine(embeddings[i], embeddings[j]))
            for i, j in itertools.combinations(images, 2)
        ]
        expected = np.average([value for _, value in pairs], weights=[weight for weight, _ in pairs])
        for moved in (own, 3 * own - 40):
            assert monosemanticity(moved[:, None], embeddings, top_images=5)[0] == pytest.approx(expected, abs=1e-9)


def test_of_equal_activations_at_the_end_the_first_images_count():
    activations = np.array([[5.0], [1.0], [1.0], [1.0], [0.0]])
    embeddings = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    assert monosemanticity(activations, embeddings, top_images=2)[0] == pytest.approx(1.0)


# ---- all ----


def test_units_without_a_number():
    activations = np.array([[1.0, 1.0, np.nan, 9.0], [1.0, 2.0, 1.0, 0.0], [1.0, 3.0, 2.0, 0.0]])
    found = monosemanticity(activations, np.eye(3), top_images=3)
    assert np.isnan(found).tolist() == [True, False, True, True]  # the last weighs one image alone
    broken = drawn(3, 4, 5)
    broken[0, 1], broken[1, 2, 0] = 0, np.inf
    assert np.isnan(clarity(broken)).tolist() == [True, True, False]
    assert np.isnan(polysemanticity(broken)).tolist() == [True, True, False]
    assert [clarity(np.zeros((0, 3, 2))).shape, redundancy(np.zeros((0, 2))).shape] == [(0,), (0,)]
    assert [polysemanticity(np.zeros((0, 3, 2))).shape, monosemanticity(np.zeros((3, 0)), np.eye(3)).shape] == [
        (0,)
    ] * 2


def test_tensors_give_the_numbers_of_arrays(golden, top):
    tensor = torch.from_numpy(top)
    for measure in (clarity, polysemanticity):
        np.testing.assert_array_equal(measure(tensor), measure(top))
    np.testing.assert_array_equal(redundancy(tensor.mean(dim=1)), redundancy(tensor.mean(dim=1).numpy()))
    given = golden["in/activations"], golden["in/embeddings"]
    np.testing.assert_array_equal(monosemanticity(*map(torch.from_numpy, given)), monosemanticity(*given))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clarity(np.zeros((2, 1, 3))), "at least two images"),
        (lambda: polysemanticity(np.zeros((2, 3))), r"\[units, k, d\]"),
        (lambda: redundancy(np.zeros(3)), r"\[units, d\]"),
        (lambda: monosemanticity(np.zeros((3, 2)), np.zeros((4, 2))), "same images"),
        (lambda: monosemanticity(np.zeros((3, 2)), np.eye(3), top_images=0), "at least 1, not 0"),
    ],
)
def test_wrong_shapes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
