"""The mixed model against exact results for balanced data, and power against R and G*Power."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from metrics.statistics import MEAN_EFFICIENCY, WILCOXON_EFFICIENCY, mixed_model, smallest_difference, units_needed

NAN = float("nan")


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def long(values, severities):
    """[units, methods, severities] as rows."""
    units, methods, _ = values.shape
    unit, method, severity = np.meshgrid(range(units), list("abcd"[:methods]), severities, indexing="ij")
    return values.ravel(), method.ravel(), severity.ravel(), unit.ravel()


def balanced(units=16, methods=2, severities=(1, 3, 5), seed=0):
    rng = np.random.default_rng(seed)
    step = np.array(severities, dtype=float) - np.mean(severities)
    base = rng.normal(0.6, 0.2, (units, 1, 1)) + rng.normal(0, 0.15, (units, methods, 1))
    slope = -0.05 + rng.normal(0, 0.05, (units, 1, 1)) + rng.normal(0, 0.05, (units, methods, 1))
    return base + slope * step + rng.normal(0, 0.04, (units, methods, len(severities))), step


def test_balanced_data_have_the_t_tests_of_means_and_slopes_by_unit():
    values, step = balanced()
    found = mixed_model(*long(values, (1, 3, 5)))
    assert (found.reason, found.n, found.observations, found.left_out) == ("", 16, 96, 0)
    means, slopes = values.mean(axis=2), (values * step).sum(axis=2) / (step**2).sum()
    np.testing.assert_allclose(found.means, means.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.slopes, slopes.mean(axis=0), atol=1e-6)
    expected = (
        stats.ttest_rel(means[:, 0], means[:, 1]),
        stats.ttest_1samp(slopes.mean(axis=1), 0),
        stats.ttest_rel(slopes[:, 0], slopes[:, 1]),
    )
    for test, t in zip(found.tests, expected, strict=True):
        assert test.statistic == pytest.approx(t.statistic**2, rel=0.01)
        assert test.p_value == pytest.approx(t.pvalue, rel=0.05)
        assert (test.n, test.left_out) == (16, 0)
    assert found.random == ("unit", "unit:method", "unit slope", "unit:method slope")


def test_one_severity_is_the_paired_t_test():
    values, _ = balanced(severities=(3,))
    found = mixed_model(*long(values, (3,)))
    (test,) = found.tests
    t = stats.ttest_rel(values[:, 0, 0], values[:, 1, 0])
    assert (test.statistic, test.p_value) == pytest.approx((t.statistic**2, t.pvalue), rel=1e-3)
    assert "15 degrees of freedom" in test.test
    assert np.isnan(found.slopes).all()


def test_one_method_is_the_t_test_of_slopes():
    values, step = balanced(methods=1)
    found = mixed_model(*long(values, (1, 3, 5)))
    (test,) = found.tests
    t = stats.ttest_1samp((values[:, 0] * step).sum(axis=1), 0)
    assert (test.statistic, test.p_value) == pytest.approx((t.statistic**2, t.pvalue), rel=0.02)
    assert "severity" in test.hypothesis


def test_rows_of_one_cell_are_averaged_and_the_order_changes_nothing():
    values, _ = balanced(units=10)
    rows = long(values, (1, 3, 5))
    once = mixed_model(*rows)
    twice = [np.concatenate([column, column]) for column in rows]
    twice[0] = np.concatenate([rows[0] - 0.1, rows[0] + 0.1])
    order = np.random.default_rng(0).permutation(len(twice[0]))
    again = mixed_model(*(column[order] for column in twice))
    assert [test.p_value for test in again.tests] == pytest.approx([test.p_value for test in once.tests], rel=1e-4)
    assert again.observations == once.observations == 60


def test_missing_values_are_counted_and_the_rest_is_fitted():
    values, _ = balanced()
    values[2, 1, 0] = values[5, 0, 2] = NAN
    found = mixed_model(*long(values, (1, 3, 5)))
    assert (found.n, found.observations, found.left_out) == (16, 94, 2)
    assert all(0 <= test.p_value <= 1 for test in found.tests)


@pytest.mark.parametrize(
    ("values", "severities", "reason"),
    [
        (np.zeros((0, 2, 2)), (1, 3), "no value"),
        (np.full((4, 2, 2), NAN), (1, 3), "no value"),
        (balanced(units=2)[0], (1, 3, 5), "fewer than three units"),
        (balanced(methods=1, severities=(3,))[0], (3,), "one method and one severity: nothing to compare"),
        (np.full((8, 2, 3), 0.4), (1, 3, 5), "all values are equal"),
        (np.tile([[[0.9, 0.5], [0.8, 0.1]]], (8, 1, 1)), (1, 3), "all units are alike: no spread to test against"),
    ],
)
def test_what_cannot_be_fitted_has_a_reason(values, severities, reason):
    found = mixed_model(*long(values, severities))
    assert found.reason == reason
    assert found.tests == ()
    assert np.isnan(found.means).all()


def test_an_empty_cell_of_the_design_has_a_reason():
    values, _ = balanced()
    values[:, 1, 2] = NAN
    assert mixed_model(*long(values, (1, 3, 5))).reason == "a method has no value at one of the severities"


def test_a_singular_fit_says_which_variance_is_missing():
    rng = np.random.default_rng(4)
    found = mixed_model(*long(rng.normal(0.5, 0.1, (12, 2, 3)), (1, 3, 5)))
    assert found.reason == "singular: no variance of unit, unit slope, unit:method, unit:method slope"
    assert all(0 <= test.p_value <= 1 for test in found.tests)


def test_a_fit_that_fails_is_tried_without_slopes_and_then_given_up(monkeypatch):
    from statsmodels.regression.mixed_linear_model import MixedLM

    real, tried = MixedLM.fit, []

    def fails(self, *args, **options):
        tried.append(self.exog_vc.names)
        if len(tried) in broken:
            raise np.linalg.LinAlgError("Singular matrix")
        return real(self, *args, **options)

    monkeypatch.setattr(MixedLM, "fit", fails)
    broken = {1}
    found = mixed_model(*long(balanced()[0], (1, 3, 5)))
    assert found.reason.startswith("did not converge with unit slope, unit:method slope: fitted without")
    assert found.random == ("unit", "unit:method")
    broken = {3, 4}
    found = mixed_model(*long(balanced()[0], (1, 3, 5)))
    assert found.reason == "the model did not converge"
    assert found.tests == ()


def test_a_constant_method_beside_others_is_no_accident():
    values, _ = balanced(methods=3)
    values[:, 1] = 0.0
    found = mixed_model(*long(values, (1, 3, 5)))
    assert found.means[1] == pytest.approx(0.0, abs=1e-6)
    assert found.tests[0].p_value < 0.01


def test_bad_rows_are_refused():
    with pytest.raises(ValueError, match="of the same length"):
        mixed_model(np.ones(3), ["a"] * 2, np.ones(3), np.arange(3))
    with pytest.raises(ValueError, match="finite"):
        mixed_model(np.full(3, np.inf), ["a"] * 3, np.ones(3), np.arange(3))


SPREAD_ONE = np.array([-1.0, 0.0, 1.0])


def test_power_is_rs():
    # R, pwr::pwr.t.test(d = 0.5, power = 0.8, type = "one.sample"): n = 33.36713; G*Power: 34.
    assert units_needed(SPREAD_ONE, 0.5, efficiency=MEAN_EFFICIENCY).n == 34
    assert smallest_difference(SPREAD_ONE, 34, efficiency=1.0).difference < 0.5
    assert smallest_difference(SPREAD_ONE, 33, efficiency=1.0).difference > 0.5
    assert units_needed(SPREAD_ONE, 0.5).n == math.ceil(33.36713 / 0.9549)


@pytest.mark.parametrize("n", [8, 24, 48, 400])
def test_the_smallest_difference_has_the_power_asked_for(n):
    found = smallest_difference(SPREAD_ONE * 0.2, n, power=0.9, alpha=0.01)
    reached = TTestPower().power(found.difference / 0.2, n * WILCOXON_EFFICIENCY, 0.01)
    assert reached == pytest.approx(0.9, abs=1e-4)
    assert (found.spread, found.n, found.reason) == (pytest.approx(0.2), n, "")
    back = units_needed(SPREAD_ONE * 0.2, found.difference, power=0.9, alpha=0.01)
    assert back.n in (n, n + 1)


def test_more_units_show_less_and_a_sign_does_not_matter():
    shown = [smallest_difference(SPREAD_ONE, n).difference for n in (6, 12, 24, 48, 96, 10_000)]
    assert (np.diff(shown) < 0).all()
    assert units_needed(SPREAD_ONE, -0.3) == units_needed(SPREAD_ONE, 0.3)
    assert smallest_difference(np.r_[SPREAD_ONE, NAN]).n == 3


def test_power_at_the_edge():
    assert smallest_difference(np.array([0.1])).reason == "fewer than two differences: their spread is unknown"
    assert smallest_difference(np.full(9, 0.1)).reason == "all differences are equal: their spread is unknown"
    assert smallest_difference(SPREAD_ONE, 2).reason == "fewer than three units"
    assert math.isnan(units_needed(np.array([]), 0.1).n)
    assert units_needed(SPREAD_ONE, 0.0).n == math.inf
    assert units_needed(SPREAD_ONE, 50.0).n == 6
    tiny = units_needed(SPREAD_ONE, 1e-3)
    assert tiny.n == pytest.approx(
        (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) ** 2 * 1e6 / WILCOXON_EFFICIENCY, rel=1e-3
    )
    with pytest.raises(ValueError, match="alpha"):
        smallest_difference(SPREAD_ONE, alpha=5)
    with pytest.raises(ValueError, match="above alpha"):
        smallest_difference(SPREAD_ONE, power=0.01)
