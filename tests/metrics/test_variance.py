"""Variance components against statsmodels, simulations with known components, and labels that do not move."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf

from metrics.variance import components, effects_of, mean_squares, variance_shares

FACTORS, LEVELS = ("seed", "images", "perturbation"), (2, 3, 4)


def simulated(sizes: dict[tuple[str, ...], float], units: int, seed: int, d: int = 2) -> np.ndarray:
    """Labels of units under the random model, with these standard deviations per dimension."""
    random, labels = np.random.default_rng(seed), np.zeros((units, *LEVELS, d))
    for effect, size in sizes.items():
        shape = [count if factor in effect else 1 for factor, count in zip(FACTORS, LEVELS, strict=True)]
        labels += size * random.normal(size=(units, *shape, d))
    return labels


def squares_of(labels: np.ndarray) -> np.ndarray:
    return np.stack([mean_squares(unit) for unit in labels])


def long(values: np.ndarray) -> pd.DataFrame:
    places = np.indices(values.shape).reshape(values.ndim, -1)
    return pd.DataFrame({"y": values.ravel(), **dict(zip("abc", places, strict=False))})


def test_mean_squares_are_those_of_an_analysis_of_variance():
    values = np.random.default_rng(0).normal(size=LEVELS)
    model = smf.ols("y ~ (C(a) + C(b) + C(c)) ** 2", long(values)).fit()
    table = sm.stats.anova_lm(model)
    expected = (table["sum_sq"] / table["df"]).to_numpy()
    # The interaction of all three factors is the residual of the model without it.
    assert mean_squares(values[..., None]) == pytest.approx(expected)


def test_components_are_those_of_a_mixed_model():
    random = np.random.default_rng(1)
    values = 2 * random.normal(size=(6, 1)) + 1.5 * random.normal(size=(1, 5)) + random.normal(size=(6, 5))
    frame = long(values).assign(whole=1)
    fitted = smf.mixedlm(
        "y ~ 1", frame, groups="whole", re_formula="0", vc_formula={"a": "0 + C(a)", "b": "0 + C(b)"}
    ).fit()
    own = components(mean_squares(values[..., None]), ["a", "b"], [6, 5])
    assert min(own) > 0
    assert own == pytest.approx([*fitted.vcomp, fitted.scale], rel=1e-3)


def test_a_single_factor_has_the_mean_distance_of_its_labels():
    labels = np.random.default_rng(2).normal(size=(5, 4))
    labels /= np.linalg.norm(labels, axis=1, keepdims=True)
    apart = [1 - first @ second for first, second in itertools.combinations(labels, 2)]
    assert components(mean_squares(labels), ["seed"], [5]) == pytest.approx([np.mean(apart)])


def test_strings_as_one_hot_vectors_have_the_share_of_pairs_that_differ():
    labels = np.eye(3)[[0, 0, 1, 2]]
    assert components(mean_squares(labels), ["seed"], [4]) == pytest.approx([5 / 6])


def test_a_rotation_changes_nothing():
    labels = simulated({("seed",): 1.0, FACTORS: 0.5}, 1, 3, d=4)[0]
    turned, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(4, 4)))
    assert mean_squares(labels @ turned + 7.0) == pytest.approx(mean_squares(labels))


def test_known_components_are_found_and_sum_to_one():
    sizes = {("seed",): 0.3, ("images",): 0.6, ("perturbation",): 0.9, ("seed", "perturbation"): 0.5, FACTORS: 0.4}
    found = variance_shares(squares_of(simulated(sizes, 4000, 5)), FACTORS, LEVELS, resamples=200)
    whole = sum(size**2 for size in sizes.values())
    assert found.variance.estimate == pytest.approx(2 * whole, rel=0.03)
    assert found.estimate.sum() == pytest.approx(1)
    assert np.allclose(found.draws.sum(axis=1), 1)
    for effect, share in zip(found.effects, found.estimate, strict=True):
        assert share == pytest.approx(sizes.get(effect, 0.0) ** 2 / whole, abs=0.02)
    with_seed = sum(size**2 for effect, size in sizes.items() if "seed" in effect) / whole
    assert found.involving("seed").estimate == pytest.approx(with_seed, abs=0.03)
    assert found.of(("seed",), FACTORS).estimate == pytest.approx((0.3**2 + 0.4**2) / whole, abs=0.03)


def test_intervals_cover_a_known_share():
    sizes = {("images",): 0.8, ("perturbation",): 0.8, FACTORS: 0.8}
    covered = 0
    for seed in range(60):
        found = variance_shares(squares_of(simulated(sizes, 32, seed)), FACTORS, LEVELS, resamples=300)
        interval = found.of(("perturbation",))
        covered += interval.low <= 1 / 3 <= interval.high
    # A 95 % interval misses more than nine of sixty in fewer than 0.2 % of such series.
    assert covered >= 51


def test_a_perturbation_that_changes_nothing_has_a_share_of_0_within_its_interval():
    shares, ends = [], []
    for seed in range(30):
        labels = simulated({("images",): 0.5, ("seed",): 0.5, FACTORS: 1.0}, 32, seed)
        found = variance_shares(squares_of(labels), FACTORS, LEVELS, resamples=300).of(("perturbation",))
        shares.append(found.estimate)
        ends.append(found.low)
    assert np.mean(shares) < 0.02
    assert max(shares) < 0.08
    assert np.mean([end == 0 for end in ends]) > 0.9


def test_clean_labels_that_all_perturbations_share_leave_a_null_effect_at_0():
    labels = np.random.default_rng(7).normal(size=(3000, 2, 3, 3, 1))
    # Severity 0 is the same cell for every perturbation.
    labels[:, :, :, 0] = labels[:, :, :1, 0]
    factors = ("seed", "perturbation", "severity")
    found = dict(zip(effects_of(factors), components(squares_of(labels).mean(axis=0), factors, (2, 3, 3)), strict=True))
    for effect in (("perturbation",), ("severity",), ("perturbation", "severity"), ("seed", "perturbation")):
        assert found[effect] == pytest.approx(0, abs=0.03)
    assert sum(found.values()) == pytest.approx(1, abs=0.03)


def test_labels_blind_to_a_factor_give_it_exactly_nothing():
    labels = np.repeat(simulated({("seed", "images"): 1.0}, 10, 6)[:, :, :, :1], 4, axis=3)
    found = variance_shares(squares_of(labels), FACTORS, LEVELS, resamples=50)
    for interval in (found.of(("perturbation",)), found.involving("perturbation")):
        assert interval[:3] == pytest.approx((0, 0, 0), abs=1e-12)
    assert found.involving("seed", "images")[:3] == pytest.approx((1, 1, 1))


def test_labels_that_never_differ_have_no_shares():
    found = variance_shares(squares_of(np.ones((4, *LEVELS, 2))), FACTORS, LEVELS, resamples=50)
    assert found.variance[:3] == (0.0, 0.0, 0.0)
    shares = found.of(("seed",))
    assert math.isnan(shares.estimate)
    assert shares.reason == "no value"


def test_effects_are_all_sets_of_factors():
    assert len(effects_of("abcde")) == 31
    assert effects_of(FACTORS)[-1] == FACTORS


@pytest.mark.parametrize("shape", [(3,), (2, 1, 3)])
def test_a_factor_needs_two_levels(shape):
    with pytest.raises(ValueError, match="at least two levels"):
        mean_squares(np.zeros(shape))
