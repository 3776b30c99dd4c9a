"""Changes of one part of the image: nothing crosses the border, nothing else changes, and the controls are fair."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from tasks.perturbations import PERTURBATIONS, perturb
from tasks.perturbations.masks import blurred_inside, moved
from tasks.perturbations.swap import CHANGES

MASKED = [name for name, entry in PERTURBATIONS.items() if entry.family == "mask" and name not in CHANGES]


def noise(height: int = 224, width: int = 230) -> torch.Tensor:
    draws = np.random.default_rng(0)
    return torch.from_numpy(draws.integers(0, 256, (1, 3, height, width), dtype=np.uint8))


def disk(height: int = 224, width: int = 230) -> torch.Tensor:
    rows, columns = np.mgrid[:height, :width]
    return torch.from_numpy((rows - 100) ** 2 + (columns - 85) ** 2 < 50**2)[None]


@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize("name", [name for name in MASKED if name != "random_mask_blur"])
@pytest.mark.parametrize("feather", [0.0, 4.0])
def test_the_other_part_keeps_its_bits(name: str, severity: int, feather: float) -> None:
    image, mask = noise(), disk()
    changed, kept = (mask, ~mask) if name.startswith("foreground") else (~mask, mask)
    out = perturb(image, name, severity, [0], mask, feather=feather)
    assert torch.equal(out[:, :, kept[0]], image[:, :, kept[0]])
    assert (out[:, :, changed[0]] != image[:, :, changed[0]]).float().mean() > 0.8


@pytest.mark.parametrize("name", ["foreground_blur", "background_blur"])
@pytest.mark.parametrize("severity", [1, 5])
def test_no_colour_crosses_the_border(name: str, severity: int) -> None:
    mask = disk()
    red, blue = torch.tensor([255, 0, 0]).view(1, 3, 1, 1), torch.tensor([0, 0, 255]).view(1, 3, 1, 1)
    image = torch.where(mask[:, None], red, blue).to(torch.uint8)
    assert torch.equal(perturb(image, name, severity, [0], mask), image)


@pytest.mark.parametrize("sigma", [1.0, 3.0, 6.0])
def test_it_is_normalised_convolution(sigma: float) -> None:
    image, inside = noise(), ~disk()
    part = inside[0].numpy().astype(float)
    weight = gaussian_filter(part, sigma, mode="reflect")
    colours = [gaussian_filter(channel * part, sigma, mode="reflect") for channel in image[0].double().numpy()]
    expected = np.stack(colours)[:, inside[0]] / weight[inside[0]]
    assert np.abs(blurred_inside(image, inside, sigma)[0][:, inside[0]].numpy() - expected).max() < 0.01


def test_empty_and_full_masks_are_defined() -> None:
    image, none = noise(), torch.zeros_like(disk())
    assert torch.equal(perturb(image, "foreground_blur", 3, [0], none), image)
    assert torch.equal(perturb(image, "background_blur", 3, [0], ~none), image)
    whole = perturb(image, "foreground_blur", 3, [0], ~none)
    assert torch.equal(whole, perturb(image, "background_blur", 3, [0], none))
    inner = (..., slice(14, -14), slice(14, -14))
    assert (whole[inner].int() - perturb(image, "gaussian_blur", 3, [0])[inner]).abs().max() <= 1


def test_a_lone_pixel_has_only_itself() -> None:
    image, mask = noise(), torch.zeros_like(disk())
    mask[:, 10, 10] = True
    assert torch.equal(perturb(image, "foreground_blur", 5, [0], mask), image)


def test_grey_and_mean_at_full_share_leave_one_colour() -> None:
    image, mask = noise(), disk()
    grey = perturb(image, "background_grey", 5, [0], mask)[0][:, ~mask[0]]
    assert grey.unique().tolist() == [128]
    mean = perturb(image, "foreground_mean", 5, [0], mask)[0][:, mask[0]]
    expected = image[0][:, mask[0]].double().mean(1)
    assert (mean.double() - expected[:, None]).abs().max() <= 0.5


def test_a_moved_mask_keeps_its_area_and_follows_its_seed() -> None:
    mask = disk()
    others = [moved(mask, [down], [0.4]) for down in (0.1, 0.5, 0.9)]
    assert all(other.sum() == mask.sum() for other in others)
    assert not torch.equal(others[0], others[1])
    image = noise()
    share = mask.float().mean()
    for seed in range(3):
        out = perturb(image, "random_mask_blur", 5, [seed], mask)
        assert abs((out != image).any(1).float().mean() - share) < 0.01


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_matched_blurs_change_the_image_equally(severity: int) -> None:
    image, mask = noise(), disk()

    def norm(name: str) -> float:
        return (perturb(image, name, severity, [0], mask).double() - image).norm().item()

    weaker = min(norm("foreground_blur"), norm("background_blur"))
    for part in ("foreground", "background"):
        assert norm(f"{part}_blur_matched") == pytest.approx(weaker, rel=0.02)


def test_a_feather_sets_in_from_the_border() -> None:
    image, mask = torch.zeros((1, 3, 64, 64), dtype=torch.uint8), torch.zeros((1, 64, 64), dtype=torch.bool)
    mask[:, :, 32:] = True
    row = perturb(image, "foreground_grey", 5, [0], mask, feather=3.0)[0, 0, 30]
    assert row[28:40].tolist() == [0, 0, 0, 0, 32, 64, 96, 128, 128, 128, 128, 128]
