from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

import metrics
from metrics import cosy_auc, cosy_mad
from metrics.cosy import activation_rate, dma


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parents[1] / "data" / "cosy_scores.npz") as data:
        return {key: data[key] for key in data}


def tied(seed=0):
    draw = np.random.default_rng(seed)
    return draw.integers(0, 5, (6, 40)).astype(float), draw.integers(1, 6, (6, 13)).astype(float)


def test_scores_of_the_release(golden):
    np.testing.assert_allclose(metrics.cosy_auc(golden["control"], golden["synthetic"]), golden["auc"], atol=1e-12)
    np.testing.assert_allclose(metrics.cosy_mad(golden["control"], golden["synthetic"]), golden["mad"], atol=1e-12)


def test_auc_with_ties_is_scikit_learns_and_one_minus_u():
    control, synthetic = tied()
    truth = np.r_[np.zeros(40), np.ones(13)]
    for unit, auc in enumerate(cosy_auc(control, synthetic)):
        assert auc == pytest.approx(roc_auc_score(truth, np.r_[control[unit], synthetic[unit]]), abs=1e-12)
        u = stats.mannwhitneyu(control[unit], synthetic[unit]).statistic
        assert auc == pytest.approx(1 - u / (40 * 13), abs=1e-12)


def test_auc_knows_order_only_and_swaps_to_its_complement():
    control, synthetic = tied(1)
    np.testing.assert_array_equal(cosy_auc(np.exp(control), np.exp(synthetic)), cosy_auc(control, synthetic))
    np.testing.assert_allclose(cosy_auc(synthetic, control), 1 - cosy_auc(control, synthetic), atol=1e-12)
    assert cosy_auc(np.zeros((1, 4)), np.zeros((1, 3))).tolist() == [0.5]


def test_mad_is_the_shift_in_unbiased_deviations():
    control = np.random.default_rng(0).normal(3, 2, (3, 50))
    shift = np.array([[0.0], [1.5], [-4.0]])
    synthetic = control + shift * control.std(axis=1, ddof=1, keepdims=True)
    np.testing.assert_allclose(cosy_mad(control, synthetic), shift[:, 0], atol=1e-12)


def test_a_constant_control_has_mad_zero():
    # The mean of three times 0.1 is not 0.1 in floating point, so the deviation is not exactly 0.
    assert cosy_mad(np.full((2, 3), 0.1), np.ones((2, 4))).tolist() == [0.0, 0.0]


def test_a_unit_with_a_value_that_is_no_number_is_missing():
    control, synthetic = tied(2)
    broken, infinite = control.copy(), synthetic.copy()
    broken[1, 3], infinite[4, 0] = np.nan, np.inf
    for metric in (cosy_auc, cosy_mad):
        result = metric(broken, infinite)
        assert np.isnan(result).tolist() == [False, True, False, False, True, False]
        keep = [0, 2, 3, 5]
        np.testing.assert_array_equal(result[keep], metric(control, synthetic)[keep])


def test_sizes_at_the_edge():
    assert np.isnan(cosy_mad(np.ones((2, 1)), np.ones((2, 3)))).all()
    assert cosy_auc(np.zeros((0, 3)), np.zeros((0, 2))).shape == (0,)
    assert cosy_auc(np.zeros((1, 1)), np.ones((1, 1))).tolist() == [1.0]


@pytest.mark.parametrize("metric", [cosy_auc, cosy_mad])
@pytest.mark.parametrize(
    ("control", "synthetic", "message"),
    [
        (np.zeros((2, 3)), np.zeros((3, 3)), "same units"),
        (np.zeros(3), np.zeros(3), r"\[units, images\]"),
        (np.zeros((2, 0)), np.zeros((2, 3)), "at least one image"),
        (np.zeros((2, 3)), np.zeros((2, 0)), "at least one image"),
    ],
)
def test_wrong_shapes_are_refused(metric, control, synthetic, message):
    with pytest.raises(ValueError, match=message):
        metric(control, synthetic)


# ---- DMA and activation rate ----


def test_dma_and_activation_rate_of_the_reference_outputs():
    data = Path(__file__).parents[1] / "data"
    with np.load(data / "activation_methods.npz") as inputs, np.load(data / "unit_measures.npz") as golden:
        control, synthetic = inputs["in/activations"].T, golden["in/synthetic"]
        labelled = inputs["csp/units"]
        np.testing.assert_allclose(dma(control, synthetic)[labelled], golden["cosy/dma"][labelled], atol=1e-6)
        np.testing.assert_array_equal(activation_rate(control, synthetic), golden["own/activation_rate"])
        # All values of this unit are negative.
        assert np.isnan(dma(control, synthetic)).tolist() == [unit == 20 for unit in range(24)]


def test_dma_may_exceed_one_and_be_negative_and_knows_no_scale():
    control, synthetic = np.array([[0.0, 2.0], [-1.0, 2.0]]), np.array([[4.0, 6.0], [-3.0, 1.0]])
    np.testing.assert_allclose(dma(control, synthetic), [2.5, -0.5])
    np.testing.assert_allclose(dma(7 * control, 7 * synthetic), dma(control, synthetic))
    assert np.isnan(dma(np.zeros((1, 3)), np.ones((1, 2)))).all()


def test_the_threshold_of_the_activation_rate_is_strict():
    control = np.arange(200.0)[None]
    at, above = np.full((1, 4), 197.0), np.full((1, 4), np.nextafter(197.0, 198))
    assert [activation_rate(control, at)[0], activation_rate(control, above)[0]] == [0.0, 1.0]
    # The share of the control images themselves is the one that was asked for, unless equal values end it.
    for share in (0.01, 0.05, 0.5):
        assert activation_rate(control, control, share=share)[0] == share
    tied = np.array([[5.0] * 10 + [0.0] * 190])
    assert activation_rate(tied, tied)[0] == 0.0
    assert activation_rate(tied, np.array([[5.1, 5.0, 0.1, 0.0]]))[0] == 0.25


def test_of_a_unit_that_few_images_activate_any_response_counts():
    control = np.r_[9.0, np.zeros(499)][None]
    assert activation_rate(control, np.array([[1e-3, 0.0, -1.0, 2.0]]))[0] == 0.5


@pytest.mark.parametrize("metric", [dma, activation_rate])
def test_dead_and_broken_units_have_neither(metric):
    control, synthetic = tied(3)
    control[0], control[1, 2], synthetic[2, 1] = 0.0, np.nan, np.inf
    found = metric(control, synthetic)
    assert np.isnan(found).tolist() == [True, True, True, False, False, False]
    np.testing.assert_array_equal(found[3:], metric(control[3:], synthetic[3:]))
    with pytest.raises(ValueError, match="same units"):
        metric(control, synthetic[:2])


def test_a_share_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1, not 1"):
        activation_rate(np.ones((1, 3)), np.ones((1, 3)), share=1)
