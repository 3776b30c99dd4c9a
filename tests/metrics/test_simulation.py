"""Simulation correlation against the numbers of a release, and NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from metrics.simulation import simulation_correlation

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(DATA / "activation_methods.npz") as inputs, np.load(DATA / "unit_measures.npz") as stored:
        return {**inputs, **stored}


def test_the_cosine_of_one_label_simulates_as_in_the_release(golden):
    units, test = golden["csp/units"], golden["in/test"]
    texts = golden["in/simulator_text"][golden["simulation/cosine_label"][units]]
    cosines = golden["in/simulator_embeddings"][test] @ texts.T
    found = simulation_correlation(golden["in/activations"][test][:, units], cosines)
    np.testing.assert_allclose(found, golden["simulation/cosine_one"][units], atol=1e-6)


@pytest.mark.parametrize("kind", ["linear_label", "linear_siglip"])
def test_a_weighted_sum_simulates_as_in_the_release(golden, kind):
    scale, shift, _ = golden["calibration/simulator"]
    cosines = golden["in/simulator_embeddings"].astype(float) @ golden["in/simulator_text"].T
    shown = 1 / (1 + np.exp(-scale * (cosines + shift)))
    test = golden["in/test"]
    expected = golden[f"{kind}/simulation_correlation"]
    units = np.flatnonzero(np.isfinite(expected))
    simulated = np.stack(
        [
            sum(
                shown[test, c] * w
                for c, w in zip(golden[f"{kind}/concepts"][u], golden[f"{kind}/weights"][u], strict=True)
                if c >= 0
            )
            for u in units
        ],
        axis=1,
    )
    found = simulation_correlation(golden["in/activations"][test][:, units], simulated)
    np.testing.assert_allclose(found, expected[units], atol=1e-4)


def test_it_is_pearsons_r_whatever_the_scale_and_of_tensors_too():
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 30, 4))
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(first.T, second.T, strict=True)]
    np.testing.assert_allclose(simulation_correlation(first, second), expected, atol=1e-12)
    np.testing.assert_allclose(simulation_correlation(1e9 * first - 5, second / 1e6 + 3), expected, atol=1e-6)
    np.testing.assert_allclose(simulation_correlation(first, -2 * first), -1, atol=1e-12)
    tensors = torch.from_numpy(first).float(), torch.from_numpy(second).float()
    np.testing.assert_allclose(simulation_correlation(*tensors), expected, atol=1e-6)


def test_without_spread_or_with_a_value_that_is_no_number_there_is_none():
    first = np.arange(12.0).reshape(4, 3) ** 2
    second = first.copy()
    first[:, 0], second[2, 1] = 0.1, np.nan
    assert np.isnan(simulation_correlation(first, second)).tolist() == [True, True, False]
    assert np.isnan(simulation_correlation(second, first)).tolist() == [True, True, False]
    assert np.isnan(simulation_correlation(np.ones((1, 2)), np.ones((1, 2)))).all()
    assert np.isnan(simulation_correlation(np.ones((0, 2)), np.ones((0, 2)))).all()
    with pytest.raises(ValueError, match="same shape"):
        simulation_correlation(np.ones((3, 2)), np.ones((3, 1)))
