"""The error ratio against a plain computation, scipy's bootstrap, and its special cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from metrics.robustness import error_ratio


def tables() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    reference = rng.uniform(0, 0.4, size=(60, 3)) + rng.uniform(0, 0.2, size=(60, 1))
    return reference * rng.uniform(0.4, 1.2, size=(60, 3)), reference


def test_it_is_the_mean_over_conditions_of_ratios_of_sums() -> None:
    errors, reference = tables()
    expected = np.mean([errors[:, c].sum() / reference[:, c].sum() for c in range(3)])
    assert error_ratio(errors, reference).estimate == pytest.approx(expected)


def test_its_interval_is_the_percentile_bootstrap_over_images() -> None:
    errors, reference = tables()

    def ratio(*columns: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.mean([columns[c].mean(axis) / columns[3 + c].mean(axis) for c in range(3)], axis=0)

    found = stats.bootstrap(
        (*errors.T, *reference.T), ratio, paired=True, vectorized=True, method="percentile", n_resamples=4000,
        rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    own = error_ratio(errors, reference, resamples=4000)
    assert (own.low, own.high) == pytest.approx((found.low, found.high), abs=0.01)


def test_against_itself_it_is_one_and_order_does_not_matter() -> None:
    errors, reference = tables()
    assert error_ratio(reference, reference)[:3] == pytest.approx((1, 1, 1))
    turned = error_ratio(errors[:, ::-1], reference[:, ::-1])
    assert turned[:3] == pytest.approx(error_ratio(errors, reference)[:3])


def test_without_errors_of_the_reference_there_is_no_ratio() -> None:
    errors, reference = tables()
    reference[:, 1] = 0
    found = error_ratio(errors, reference)
    assert np.isnan(found.estimate)
    assert "no error" in found.reason


@pytest.mark.parametrize("change", [lambda e: e[:, :2], lambda e: -e, lambda e: e * np.nan, lambda e: e[:, :0]])
def test_what_is_no_pair_of_tables_is_refused(change) -> None:
    errors, reference = tables()
    with pytest.raises(ValueError, match=r"compared|finite"):
        error_ratio(change(errors), reference)
