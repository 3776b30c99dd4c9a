"""The surfaces of the kinds: fine, even, without seams, each unlike the others."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from tasks.miniature.surfaces import TILE, surface
from tasks.miniature.vocabulary import KINDS

WAVES = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.fftfreq(TILE)[None])


def spectrum(relief):
    """Share of each frequency in the power."""
    power = np.abs(np.fft.fft2(relief - relief.mean())) ** 2
    return power / power.sum()


@pytest.mark.parametrize("kind", KINDS)
def test_a_surface_is_fine_and_even(kind):
    relief = surface(kind)
    assert relief.shape == (TILE, TILE)
    assert abs(relief.mean()) < 0.1
    assert 0.8 < relief.std() < 1.05
    shares = spectrum(relief)
    # Most of it has periods below 16 px: a blur of a few pixels takes it away.
    assert shares[WAVES > 1 / 16].sum() > 0.6
    assert shares[(WAVES > 1 / 16) & (WAVES < 1 / 2.5)].sum() > 0.6
    assert np.abs(uniform_filter(relief, 60, mode="wrap")).max() < 0.4


@pytest.mark.parametrize("kind", KINDS)
def test_a_surface_has_no_seam(kind):
    relief = surface(kind)
    for axis in (0, 1):
        steps = np.abs(np.diff(relief, axis=axis)).mean(1 - axis)
        seam = np.abs(np.take(relief, 0, axis) - np.take(relief, -1, axis)).mean()
        assert seam <= steps.max() * 1.1 + 1e-6


def test_surfaces_differ_in_their_waves():
    """Two pieces of one surface are more alike than any two surfaces."""
    half = TILE // 2

    def profile(patch):
        shares = np.abs(np.fft.fft2(patch - patch.mean())) ** 2
        bins = np.fft.fftshift(shares).reshape(20, half // 20, 20, half // 20).sum((1, 3))
        return (bins / bins.sum()).ravel()

    first = np.stack([profile(surface(kind)[:half, :half]) for kind in KINDS])
    second = np.stack([profile(surface(kind)[half:, :half]) for kind in KINDS])
    distance = np.abs(first[:, None] - second[None]).sum(2) / 2
    assert (distance.argmin(1) == np.arange(len(KINDS))).all()


def test_a_surface_is_made_once_and_cannot_be_changed():
    assert surface("fish") is surface("fish")
    with pytest.raises(ValueError, match="read-only"):
        surface("fish")[0, 0] = 1
