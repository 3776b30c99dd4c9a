"""Sensitive units against scipy, scikit-learn and shuffled labels; detectors of degraded images against the latter."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from metrics.degradation import auroc_interval, best_units, fit, fold_numbers, training_aurocs
from metrics.sensitivity import CONSTANT, NOT_FINITE, auroc, detection, sensitivity
from metrics.statistics import holm


def drawn(images: int = 40, units: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Activations as after a ReLU: many are 0, and some do not change."""
    rng = np.random.default_rng(seed)
    clean = rng.normal(size=(images, units)).clip(0)
    moved = clean + rng.normal(np.linspace(-0.5, 1, units), 0.5, (images, units))
    return clean, np.where(rng.random(clean.shape) < 0.2, clean, moved).clip(0)


# ---- units ----


def test_auroc_is_scikit_learns():
    clean, perturbed = drawn()
    truth = np.repeat([0, 1], len(clean))
    expected = [roc_auc_score(truth, np.concatenate([a, b])) for a, b in zip(clean.T, perturbed.T, strict=True)]
    assert sensitivity(clean, perturbed).auroc == pytest.approx(expected, abs=1e-12)


def test_the_paired_measures_are_those_of_a_loop_and_of_scipy():
    clean, perturbed = drawn()
    found = sensitivity(clean, perturbed)
    for unit, (a, b) in enumerate(zip(clean.T, perturbed.T, strict=True)):
        rises = sum(1.0 if after > before else 0.5 * (after == before) for before, after in zip(a, b, strict=True))
        assert found.paired_auroc[unit] == pytest.approx(rises / len(a))
        spread = np.sqrt((np.var(a, ddof=1) + np.var(b, ddof=1)) / 2)
        assert found.effect[unit] == pytest.approx((b.mean() - a.mean()) / spread)
        assert found.p_value[unit] == pytest.approx(stats.wilcoxon(b, a, method="asymptotic").pvalue, rel=1e-9)


def test_the_effect_says_what_auroc_says_of_normal_activations():
    rng = np.random.default_rng(1)
    clean = rng.normal(size=(20_000, 3))
    found = sensitivity(clean, rng.normal([0, 0.5, 1.8], 1, clean.shape))
    assert stats.norm.cdf(found.effect / np.sqrt(2)) == pytest.approx(found.auroc, abs=0.01)


def test_a_small_shift_of_every_image_is_significant_but_detects_nothing():
    clean = np.random.default_rng(2).normal(size=(300, 1))
    found = sensitivity(clean, clean + 0.01)
    assert found.paired_auroc[0] == 1
    assert found.p_value[0] < 1e-6
    assert abs(found.auroc[0] - 0.5) < 0.01


def test_swapping_clean_and_perturbed_turns_the_direction():
    clean, perturbed = drawn()
    there, back = sensitivity(clean, perturbed), sensitivity(perturbed, clean)
    assert there.auroc + back.auroc == pytest.approx(np.ones(12))
    assert there.effect == pytest.approx(-back.effect)
    assert there.p_value == pytest.approx(back.p_value)


def test_units_without_a_response_have_a_reason():
    clean = np.array([[0.0, 0, 0, 1, 0], [0, 0, 0, 1, 1], [0, 0, 0, 1, 2]])
    perturbed = np.array([[0.0, 1, np.nan, 3, 0], [0, 2, 0, 3, 1], [0, 3, 0, 3, 2]])
    found = sensitivity(clean, perturbed)
    assert found.reason.tolist() == [CONSTANT, "", NOT_FINITE, "", ""]
    # Silent on clean images, awake on perturbed ones: a perfect detector.
    assert found.auroc[1] == 1
    # Two values and no spread: told apart, but there is no deviation to count in.
    assert found.auroc[3] == 1
    assert np.isnan(found.effect[3])
    # No difference on any image.
    assert (found.auroc[4], found.paired_auroc[4], found.effect[4], found.p_value[4]) == (0.5, 0.5, 0, 1)
    assert np.isnan([measure[unit] for measure in found[:4] for unit in (0, 2)]).all()


@pytest.mark.parametrize("shapes", [((3, 2), (3, 3)), ((3,), (3,)), ((1, 2), (1, 2))])
def test_what_does_not_fit_is_refused(shapes):
    with pytest.raises(ValueError, match="images"):
        sensitivity(np.zeros(shapes[0]), np.zeros(shapes[1]))


def test_a_large_layer_takes_a_second_a_condition():
    rng = np.random.default_rng(3)
    clean = rng.normal(size=(500, 2048)).astype(np.float32)
    perturbed = clean + rng.normal(size=clean.shape).astype(np.float32)
    started = time.process_time()
    sensitivity(clean, perturbed)
    # Measured: 0.6 s on one core.
    assert time.process_time() - started < 6


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_no_unit_passes_the_bar_where_clean_and_perturbed_are_shuffled(seed):
    """The test's null hypothesis: each image's two versions are swapped or not, by a coin."""
    rng = np.random.default_rng(seed)
    clean, perturbed = drawn(60, 50, seed)
    found = []
    for _ in range(4):
        swapped = rng.random((60, 1)) < 0.5
        found.append(sensitivity(np.where(swapped, perturbed, clean), np.where(swapped, clean, perturbed)))
    p_values = holm(np.concatenate([one.p_value for one in found])).p_values.reshape(4, 50)
    inside = np.array([True, True, False, False])
    assert not detection(np.stack([one.auroc for one in found]), p_values, inside, ~inside).detects.any()


def test_holm_keeps_false_alarms_of_a_whole_table_below_its_level():
    rng = np.random.default_rng(7)
    clean, perturbed = drawn(60, 300 * 20, 7)
    # 300 tables of 20 units; the units of one share their swaps, as they share their images.
    swapped = np.repeat(rng.random((60, 300)) < 0.5, 20, axis=1)
    found = sensitivity(np.where(swapped, perturbed, clean), np.where(swapped, clean, perturbed))
    tables = found.p_value.reshape(300, 20)
    assert np.mean([holm(table).rejected.any() for table in tables]) < 0.08
    # Without the correction most of them would have an alarm.
    assert np.mean((tables < 0.05).any(axis=1)) > 0.3


def test_under_the_null_hypothesis_the_test_keeps_its_level():
    rng = np.random.default_rng(4)
    clean, perturbed = drawn(60, 4_000, 4)
    # A coin for each unit, so that the tests are independent of one another.
    swapped = rng.random(clean.shape) < 0.5
    found = sensitivity(np.where(swapped, perturbed, clean), np.where(swapped, clean, perturbed))
    assert np.mean(found.p_value < 0.05) == pytest.approx(0.05, abs=0.012)


# ---- families ----

INSIDE = np.array([True, True, False, False, False])
OUTSIDE = np.array([False, False, True, True, False])


def families(*units: list[float], p: float = 0.0):
    auroc = np.array(units, dtype=np.float64).T
    return detection(auroc, np.full(auroc.shape, p), INSIDE, OUTSIDE)


def test_a_family_is_detected_by_its_strongest_condition_and_in_one_direction():
    found = families(
        [0.6, 0.95, 0.7, 0.4, 0.99],  # blur; the last condition counts for neither side
        [0.6, 0.05, 0.9, 0.3, 0.5],  # blur, falling: what rises under noise does not matter
        [0.95, 0.6, 0.8, 0.5, 0.5],  # blur, with a leaning
        [0.95, 0.6, 0.5, 0.91, 0.5],  # anything
        [0.85, 0.6, 0.95, 0.5, 0.5],  # not blur
    )
    assert found.detects.tolist() == [True, True, True, True, False]
    assert found.specific.tolist() == [True, True, False, False, False]
    assert found.general.tolist() == [False, False, False, True, False]
    assert found.rises.tolist() == [True, False, True, True, True]
    assert found.own == pytest.approx([0.95, 0.95, 0.95, 0.95, 0.85])
    assert found.foreign == pytest.approx([0.7, 0.7, 0.8, 0.91, 0.95])


def test_without_significance_nothing_is_detected():
    assert not families([0.95, 0.95, 0.5, 0.5, 0.5], p=0.05).detects.any()


def test_a_unit_without_a_response_detects_nothing():
    found = families([np.nan] * 5, [0.95, np.nan, np.nan, 0.5, np.nan])
    assert found.detects.tolist() == [False, True]
    assert found.specific.tolist() == [False, True]
    assert np.isnan(found.own[0])


def test_a_family_needs_a_condition():
    with pytest.raises(ValueError, match="at least one"):
        detection(np.ones((2, 1)), np.zeros((2, 1)), np.zeros(2, bool), np.ones(2, bool))


# ---- detectors of degraded images ----


def test_the_detector_is_scikit_learns_discriminant():
    clean, perturbed = drawn(60, 6)
    detector = fit(clean, [perturbed], shrinkage=0.1)
    scaled = [(part - clean.mean(0)) / clean.std(0) for part in (clean, perturbed)]
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(
        np.concatenate(scaled), [0] * 60 + [1] * 60
    )
    expected = np.concatenate(scaled) @ reference.coef_[0]
    found = detector(np.concatenate([clean, perturbed]))
    assert np.corrcoef(found, expected)[0, 1] == pytest.approx(1, abs=1e-9)
    assert detector(clean).mean() == pytest.approx(0, abs=1e-12)
    assert detector(clean).std() == pytest.approx(1)
    assert detector(perturbed).mean() > 0


def test_conditions_are_pooled_and_dead_or_double_units_do_no_harm():
    clean, perturbed = drawn(60, 6)
    wide, moved = [np.c_[part, part, np.zeros(60)] for part in (clean, perturbed)]
    detector = fit(wide, [moved[:30], moved[30:]])
    assert np.isfinite(detector.weights).all()
    plain = fit(clean, [perturbed])
    area = roc_auc_score([0] * 60 + [1] * 60, detector(np.concatenate([wide, moved])))
    assert area == pytest.approx(
        roc_auc_score([0] * 60 + [1] * 60, plain(np.concatenate([clean, perturbed]))), abs=0.02
    )


def test_a_detector_without_units_is_refused():
    with pytest.raises(ValueError, match="at least one unit"):
        fit(np.zeros((4, 0)), [np.zeros((4, 0))])


def test_folds_are_even_and_seeded():
    numbers = fold_numbers(23, 5, seed=1)
    assert sorted(np.bincount(numbers)) == [4, 4, 5, 5, 5]
    assert np.array_equal(numbers, fold_numbers(23, 5, seed=1))
    assert not np.array_equal(numbers, fold_numbers(23, 5, seed=2))
    with pytest.raises(ValueError, match="folds"):
        fold_numbers(9, 5)


def test_what_is_selected_does_not_depend_on_the_images_of_the_fold():
    clean, perturbed = drawn(40, 8)
    numbers = fold_numbers(40, 4)
    before = training_aurocs(clean, perturbed, numbers)
    changed = perturbed.copy()
    changed[numbers == 2] = np.random.default_rng(5).normal(size=(10, 8))
    after = training_aurocs(clean, changed, numbers)
    assert np.array_equal(before[2], after[2])
    assert not np.array_equal(before[0], after[0])
    truth = np.repeat([0, 1], 30)
    rest = np.concatenate([clean[numbers != 2], perturbed[numbers != 2]])
    assert before[2] == pytest.approx([roc_auc_score(truth, column) for column in rest.T])


def test_the_best_units_move_one_way_under_all_conditions():
    aurocs = np.array([[0.9, 0.7, 0.2, np.nan, 0.9], [0.1, 0.7, 0.1, 0.9, np.nan]])
    assert best_units(aurocs, 2).tolist() == [2, 1]
    assert best_units(aurocs, 5).tolist() == [2, 1, 0]


@pytest.mark.parametrize("shift", [0.0, 0.7, 2.0])
def test_the_interval_is_that_of_the_plain_bootstrap(shift):
    rng = np.random.default_rng(6)
    clean = rng.normal(size=80)
    perturbed = 0.7 * clean + rng.normal(shift, 0.7, 80)
    found = auroc_interval(clean, [perturbed])
    assert found.estimate == pytest.approx(roc_auc_score([0] * 80 + [1] * 80, np.concatenate([clean, perturbed])))
    draws = rng.integers(0, 80, (80, 2_000))
    plain = auroc(clean[draws], perturbed[draws])
    assert [found.low, found.high] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.015)
    assert 0 <= found.low <= found.estimate <= found.high <= 1


def test_the_mean_over_conditions_has_the_interval_of_the_plain_bootstrap():
    rng = np.random.default_rng(8)
    clean = rng.normal(size=80)
    both = [0.7 * clean + rng.normal(shift, 0.7, 80) for shift in (0.2, 1.0)]
    found = auroc_interval(clean, both)
    draws = rng.integers(0, 80, (80, 2_000))
    plain = np.mean([auroc(clean[draws], scores[draws]) for scores in both], axis=0)
    assert found.estimate == pytest.approx(np.mean([auroc_interval(clean, [scores]).estimate for scores in both]))
    assert [found.low, found.high] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.015)


def test_the_interval_of_a_perfect_detector_is_a_point():
    found = auroc_interval(np.arange(20.0), [np.arange(20.0) + 30])
    assert found[:3] == (1, 1, 1)
