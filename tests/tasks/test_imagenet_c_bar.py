"""The ten corruptions of ImageNet-C-bar against stored outputs of their release, with its draws and with CLEAR's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.perturbations import PERTURBATIONS, perturb
from tasks.perturbations.caustic import refracted
from tasks.perturbations.digital import cut_cells
from tasks.perturbations.perlin import under_noise
from tasks.perturbations.spectral import blackened, browned
from tasks.perturbations.stars import star_of_the_image, white_stars
from tasks.perturbations.suites import load_suite
from tasks.perturbations.waves import bent_sines, plane_sine, rings

DATA = Path(__file__).parents[1] / "data"
NAMES = tuple(load_suite("imagenet_c_bar").perturbations)
SEVERITIES = (1, 3, 5)
RUNS = 128
# Their borders are sharp: a pixel that falls on the other side may differ by any amount.
WITH_JUMPS = {"blue_noise_sample", "caustic_refraction", "cocentric_sine_waves"}

Drawn = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def golden() -> Drawn:
    with np.load(DATA / "imagenet_c_bar_astronaut.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def astronaut() -> torch.Tensor:
    with np.load(DATA / "imagecorruptions_astronaut.npz") as stored:
        return torch.from_numpy(stored["image"]).permute(2, 0, 1)[None].contiguous()


def phases(drawn: Drawn) -> torch.Tensor:
    return torch.from_numpy(drawn["phases"].astype(np.int32))[None]


def normals(drawn: Drawn) -> torch.Tensor:
    given = drawn["ray_normals"]
    padded = np.zeros((*given.shape[:-1], 199), np.float32)
    padded[..., : min(199, given.shape[-1])] = given[..., :199]
    return torch.from_numpy(padded)[None]


def cells(drawn: Drawn, side: int = 40) -> torch.Tensor:
    """The release looks up a cell's number at its index truncated towards 0, and negative ones from the end."""
    uniform = drawn["uniform"]
    size = len(uniform)
    out = np.full((1, side, side), 65535, np.int32)
    for row in range(-size, size):
        for column in range(-size, size):
            place = row + (row < 0), column + (column < 0)
            out[0, row % side, column % side] = int(uniform[place] * 65536)
    return torch.from_numpy(out)


def gradients(drawn: Drawn) -> list[torch.Tensor]:
    """All octaves of the release share one table, in which a lattice point is looked up by a permutation of 256."""
    hashed, table = drawn["permutation"], drawn["gradients"]
    octaves = []
    for octave in (1, 2, 4, 8, 16):
        points = np.arange(223 * octave // 32 + 2)
        found = table[hashed[hashed[points % 256][:, None] + points % 256]]
        octaves.append(torch.from_numpy(found.transpose(2, 0, 1)[None].copy()))
    return octaves


def one(number: np.ndarray) -> np.ndarray:
    return number.reshape(1)


APPLY: dict[str, Callable[[torch.Tensor, Any, Drawn], torch.Tensor]] = {
    "blue_noise_sample": lambda image, strength, drawn: blackened(image, strength, phases(drawn)),
    "brownish_noise": lambda image, strength, drawn: browned(image, strength, phases(drawn)),
    "caustic_refraction": lambda image, strength, drawn: refracted(
        image, strength, one(drawn["time"]), one(drawn["size"]), 1.0
    ),
    "checkerboard_cutout": lambda image, strength, drawn: cut_cells(
        image, strength, one(drawn["angle"]), drawn["scales"][:1], cells(drawn)
    ),
    "cocentric_sine_waves": lambda image, strength, drawn: rings(
        image, strength, drawn["offset"][None], *(one(drawn[name]) for name in ("freq", "amplitude", "ring_width"))
    ),
    "inverse_sparkles": lambda image, strength, drawn: star_of_the_image(
        image, strength, drawn["center"][None], one(drawn["rays"]), normals(drawn)
    ),
    "perlin_noise": lambda image, strength, drawn: under_noise(image, strength, gradients(drawn), 32),
    "plasma_noise": lambda image, strength, drawn: bent_sines(
        image, strength, *(one(drawn[name]) for name in ("time", "iterations", "sharpness", "scale"))
    ),
    "single_frequency_greyscale": lambda image, strength, drawn: plane_sine(
        image, strength, drawn["freq"][None], one(drawn["phase"])
    ),
    "sparkles": lambda image, strength, drawn: white_stars(
        image, strength, drawn["centers"][None], drawn["nrays"][None], normals(drawn)
    ),
}


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", NAMES)
def test_the_draws_of_the_release_give_its_pixels(
    name: str, severity: int, golden: Drawn, astronaut: torch.Tensor
) -> None:
    drawn = {key.removeprefix(f"{name}/"): value for key, value in golden.items() if key.startswith(f"{name}/")}
    out = APPLY[name](astronaut, PERTURBATIONS[name].parameters[severity - 1], drawn)
    pixels = golden["pixels"][golden["names"].tolist().index(name), SEVERITIES.index(severity)]
    error = np.abs(out[0].permute(1, 2, 0).numpy()[3::7, 3::7].astype(int) - pixels)
    assert (error > 1).mean() <= 0.001
    assert name in WITH_JUMPS or error.max() <= 1
    assert name in WITH_JUMPS or error.mean() <= 0.01


# One severity: the draws are the same at all.
@pytest.mark.parametrize("name", NAMES)
def test_fresh_draws_have_the_distribution_of_the_release(name: str, golden: Drawn, astronaut: torch.Tensor) -> None:
    at = golden["names"].tolist().index(name)
    out = perturb(astronaut.expand(RUNS, -1, -1, -1), name, 3, range(1000, 1000 + RUNS)).float()
    change = out - astronaut
    squares = (change**2).mean((1, 2, 3)).clamp(min=1e-9).numpy()
    found = {
        "moments": np.stack(
            [part((0, 2, 3)).numpy() for values in (out, change) for part in (values.mean, spread(values))]
        ),
        "psnr_quantiles": np.quantile(10 * np.log10(255**2 / squares), [0.1, 0.5, 0.9]),
        "structure": structure(change),
    }
    for key, value in found.items():
        error = np.abs(value - golden[key][at])
        assert (error <= golden[f"{key}_tolerance"][at]).all(), (key, value, golden[key][at])


def spread(values: torch.Tensor) -> Callable[[tuple[int, ...]], torch.Tensor]:
    return lambda axes: values.std(axes, correction=0)


def structure(change: torch.Tensor) -> np.ndarray:
    """Autocorrelation at 1, 4 and 16 px, correlation between channels, and the share of unchanged values."""
    red, green, blue = centred(change)
    grey = centred(change.mean(1, keepdim=True))[0]
    variance = grey.square().mean((1, 2))
    parts = [
        ((grey[:, d:] * grey[:, :-d]).mean((1, 2)) + (grey[..., d:] * grey[..., :-d]).mean((1, 2))) / (2 * variance)
        for d in (1, 4, 16)
    ]
    for other in (green, blue):
        norm = (red.square().sum((1, 2)) * other.square().sum((1, 2))).sqrt()
        parts.append((red * other).sum((1, 2)) / norm)
    parts.append((change == 0).float().mean((1, 2, 3)))
    # An image without a change has no correlation.
    return np.array([part.nanmean().item() for part in parts])


def centred(change: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (change - change.mean((2, 3), keepdim=True)).unbind(1)


def test_the_suite_has_the_published_strengths() -> None:
    strengths = {name: PERTURBATIONS[name].parameters for name in NAMES}
    assert strengths["blue_noise_sample"] == (0.8, 1.6, 2.4, 4, 5.6)
    assert strengths["caustic_refraction"] == (2.35, 3.2, 4.9, 6.6, 9.15)
    assert strengths["perlin_noise"] == (4.6, 5.2, 5.8, 7.6, 8.8)
    assert strengths["plasma_noise"] == (4.75, 7, 8.5, 9.25, 10)
    assert {strengths[name] for name in ("brownish_noise", "checkerboard_cutout", "cocentric_sine_waves")} == {
        (1, 2, 3, 4, 5),
        (2, 3, 4, 5, 6),
        (3, 5, 8, 9, 10),
    }
    assert {strengths[name] for name in ("inverse_sparkles", "single_frequency_greyscale", "sparkles")} == {
        (1, 2, 4, 9, 10),
        (1, 1.5, 2, 4.5, 5),
        (1, 2, 3, 5, 6),
    }


def test_the_same_seed_keeps_its_cells_at_every_severity(astronaut: torch.Tensor) -> None:
    cut = [perturb(astronaut, "checkerboard_cutout", severity, [3]) != astronaut for severity in (1, 5)]
    assert (cut[0] <= cut[1]).all()


@pytest.mark.parametrize("name", ["perlin_noise", "caustic_refraction", "sparkles", "checkerboard_cutout"])
def test_half_the_size_gets_half_the_lengths(name: str, astronaut: torch.Tensor) -> None:
    small = torch.nn.functional.avg_pool2d(astronaut.float(), 2).round().to(torch.uint8)
    runs = range(24)

    def changed(images: torch.Tensor) -> float:
        return (perturb(images.expand(24, -1, -1, -1), name, 3, runs).float() - images).abs().mean().item()

    assert changed(small) == pytest.approx(changed(astronaut), rel=0.15)
