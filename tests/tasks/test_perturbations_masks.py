"""Blur of one region, and the controls of the blur experiments."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tasks.perturbations import controls
from tasks.perturbations.masks import background_blur, blur_inside, foreground_blur
from tasks.perturbations.reference import corrupt


def noise(height: int = 64, width: int = 57) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def disk(height: int = 64, width: int = 57) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (rows - 30) ** 2 + (columns - 25) ** 2 < 15**2


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_the_other_region_keeps_its_bits(severity: int) -> None:
    image, mask = noise(), disk()
    background, foreground = background_blur(image, mask, severity), foreground_blur(image, mask, severity)
    assert np.array_equal(background[mask], image[mask])
    assert np.array_equal(foreground[~mask], image[~mask])
    assert (background[~mask] != image[~mask]).mean() > 0.9
    assert (foreground[mask] != image[mask]).mean() > 0.9


@pytest.mark.parametrize("severity", [1, 5])
def test_no_colour_crosses_the_border(severity: int) -> None:
    mask = disk()
    image = np.where(mask[..., None], [255, 0, 0], [0, 0, 255]).astype(np.uint8)
    assert np.array_equal(background_blur(image, mask, severity), image)
    assert np.array_equal(foreground_blur(image, mask, severity), image)


@pytest.mark.parametrize("sigma", [1.0, 3.0, 6.0])
def test_it_is_normalised_convolution(sigma: float) -> None:
    image, inside = noise(), ~disk()
    weight = gaussian_filter(inside.astype(float), sigma, mode="reflect")
    colours = [gaussian_filter(image[..., c] * inside.astype(float), sigma, mode="reflect") for c in range(3)]
    expected = np.stack(colours, -1)[inside] / weight[inside][:, None]
    assert np.abs(blur_inside(image, inside, sigma)[inside] - expected).max() < 0.6


def test_empty_and_full_masks_are_defined() -> None:
    image = noise()
    none, every = np.zeros(image.shape[:2], bool), np.ones(image.shape[:2], bool)
    assert np.array_equal(foreground_blur(image, none, 3), image)
    assert np.array_equal(background_blur(image, every, 3), image)
    assert np.array_equal(foreground_blur(image, every, 3), background_blur(image, none, 3))


def test_a_full_mask_gives_the_gaussian_blur_of_the_suite_away_from_the_border() -> None:
    image = noise()
    whole = foreground_blur(image, np.ones(image.shape[:2], bool), 2)
    packaged = corrupt(image, "gaussian_blur", 2, 0)
    inner = (slice(9, -9), slice(9, -9))
    assert np.abs(whole[inner].astype(int) - packaged[inner]).max() <= 1


def test_a_lone_pixel_has_only_itself() -> None:
    image, mask = noise(), np.zeros((64, 57), bool)
    mask[10, 10] = True
    assert np.array_equal(foreground_blur(image, mask, 5), image)


def test_the_kernel_of_the_seed_study() -> None:
    kernel = controls.seed_study_kernel()
    assert kernel.sum() == pytest.approx(1)
    assert kernel[2, 2] == pytest.approx(0.162103, abs=1e-6)
    variance = (kernel.sum(0) * np.arange(-2, 3) ** 2).sum()
    assert np.sqrt(variance) == pytest.approx(0.96141, abs=1e-5)


def test_the_blur_of_the_seed_study_is_close_to_the_weakest_gaussian_blur() -> None:
    image = noise()
    blurred = controls.seed_study_blur(image).astype(int)
    assert np.abs(blurred - corrupt(image, "gaussian_blur", 1, 0))[3:-3, 3:-3].mean() < 2
    flat = np.full((40, 40, 3), 77, np.uint8)
    assert np.array_equal(controls.seed_study_blur(flat), flat)


def test_reencoding_alone_changes_pixels_but_little() -> None:
    rows, columns = np.mgrid[:64, :64]
    image = np.stack([rows * 3, columns * 3, 255 - rows * 3], -1).astype(np.uint8)
    difference = np.abs(controls.reencode(image).astype(int) - image)
    assert 0 < difference.mean() < 8
    assert difference.mean() < np.abs(controls.reencode(image, 5).astype(int) - image).mean()


def test_a_moved_mask_keeps_its_area_and_follows_its_seed() -> None:
    mask = disk()
    moved = [controls.moved_mask(mask, seed) for seed in range(6)]
    assert all(other.sum() == mask.sum() for other in moved)
    assert len({other.tobytes() for other in moved}) == 6
    assert np.array_equal(controls.moved_mask(mask, 3), moved[3])
