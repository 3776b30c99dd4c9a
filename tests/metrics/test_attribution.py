"""Shapley values of two factors against their definition over orders, and what their intervals cover."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from metrics.attribution import NO_LOSS, Corners, attribution, contributions, mean_contributions
from metrics.statistics import bootstrap_weights

UNITS = 40


def random_corners(seed: int = 0, units: int = UNITS) -> Corners:
    return Corners(*np.random.default_rng(seed).uniform(-1, 1, (4, units)))


def weights(units: int = UNITS, samples: int = 999, seed: int = 0) -> np.ndarray:
    return bootstrap_weights(units, samples, np.random.default_rng(seed))


def by_definition(corners: Corners) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Mean over all orders of what each factor takes away when its turn comes; and the dividend of both together."""
    value = {
        frozenset(): corners.nothing,
        frozenset({"network"}): corners.network,
        frozenset({"pictures"}): corners.pictures,
        frozenset({"network", "pictures"}): corners.both,
    }
    orders = list(itertools.permutations(("network", "pictures")))
    found = {factor: np.zeros(len(corners.both)) for factor in orders[0]}
    for order in orders:
        before: frozenset[str] = frozenset()
        for factor in order:
            found[factor] += (value[before] - value[before | {factor}]) / len(orders)
            before |= {factor}
    # Möbius transform of the loss v(nothing) - v(S).
    both = frozenset(orders[0])
    loss = {chosen: corners.nothing - value[chosen] for chosen in value}
    dividend = sum((-1.0) ** len(both - chosen) * loss[chosen] for chosen in value)
    return found, np.asarray(dividend)


@pytest.mark.parametrize("seed", range(5))
def test_contributions_are_shapley_values_and_the_corners_sum_up(seed: int) -> None:
    corners = random_corners(seed)
    found = contributions(corners)
    shapley, dividend = by_definition(corners)
    np.testing.assert_allclose(found.network, shapley["network"], atol=1e-12)
    np.testing.assert_allclose(found.pictures, shapley["pictures"], atol=1e-12)
    np.testing.assert_allclose(found.interaction, dividend, atol=1e-12)
    np.testing.assert_allclose(found.network + found.pictures, found.loss, atol=1e-11)
    np.testing.assert_allclose(found.loss, corners.nothing - corners.both, atol=1e-12)
    means = attribution(found, weights())
    assert means.network.estimate + means.pictures.estimate == pytest.approx(means.loss.estimate, abs=1e-11)


def test_a_factor_that_changes_nothing_is_charged_nothing() -> None:
    corners = random_corners()
    good = Corners(corners.nothing + 3, corners.nothing + 3, corners.pictures, corners.pictures)
    found = attribution(contributions(good), weights())
    assert found.network[:3] == found.interaction[:3] == found.share[:3] == (0, 0, 0)
    assert found.pictures == found.loss
    assert found.difference.high < 0


def test_exchanged_factors_exchange_their_charges() -> None:
    corners = random_corners()
    one = contributions(corners)
    other = contributions(Corners(corners.nothing, corners.pictures, corners.network, corners.both))
    np.testing.assert_array_equal(one.network, other.pictures)
    np.testing.assert_array_equal(one.interaction, other.interaction)


def test_a_unit_counts_only_with_all_four_corners() -> None:
    corners = random_corners()
    corners.pictures[:3] = np.nan
    found = attribution(contributions(corners), weights())
    rest = attribution(contributions(Corners(*(corner[3:] for corner in corners))), weights(UNITS - 3))
    assert found.loss.n == UNITS - 3
    assert found.loss.left_out == 3
    for name in ("loss", "network", "pictures", "interaction"):
        assert getattr(found, name).estimate == pytest.approx(getattr(rest, name).estimate)


def test_without_a_loss_there_is_no_share() -> None:
    zero = attribution(contributions(Corners(*np.ones((4, UNITS)))), weights())
    assert zero.loss[:3] == (0, 0, 0)
    assert zero.share.reason == NO_LOSS
    noise = np.random.default_rng(0).normal(0, 1, (2, UNITS))
    noise -= noise.mean(axis=1, keepdims=True)
    found = attribution(contributions(Corners(np.zeros(UNITS), noise[0], np.zeros(UNITS), noise[1])), weights())
    assert found.loss.low < 0 < found.loss.high
    assert np.isnan(found.share.estimate)
    nobody = attribution(contributions(Corners(*np.full((4, UNITS), np.nan))), weights())
    assert nobody.loss.n == 0
    assert np.isnan(nobody.network.estimate)


def test_the_mean_over_conditions_is_each_units_first() -> None:
    parts = [contributions(random_corners(seed)) for seed in range(3)]
    parts[1].loss[0] = parts[1].network[0] = parts[1].pictures[0] = parts[1].interaction[0] = np.nan
    found = mean_contributions(parts)
    assert found.network[0] == pytest.approx((parts[0].network[0] + parts[2].network[0]) / 2)
    np.testing.assert_allclose(found.loss[1:], np.mean([part.loss[1:] for part in parts], axis=0))
    np.testing.assert_allclose(found.network + found.pictures, found.loss, atol=1e-11)


def test_intervals_cover_the_known_loss_and_share() -> None:
    """Units whose label is lost with probability 0.5, two times in three by the network."""
    random, covered, draws = np.random.default_rng(0), np.zeros(2), weights(48, 499)
    for _ in range(300):
        lost = random.random(48) < 0.5
        network = lost & (random.random(48) < 2 / 3)
        corners = Corners(np.ones(48), 1.0 - network, 1.0 - (lost & ~network), 1.0 - lost)
        found = attribution(contributions(corners), draws)
        covered += found.loss.low <= 0.5 <= found.loss.high, found.share.low <= 2 / 3 <= found.share.high
    assert (covered / 300 > 0.92).all()
    assert (covered / 300 < 0.99).all()
