"""What the perturbations are made of, each against somebody else's implementation or a property."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import scipy.stats
import torch
from scipy import ndimage

from tasks.perturbations import PERTURBATIONS, perturb, weather
from tasks.perturbations.arithmetic import border_index, convolve, gaussian_blur, gaussian_weights, whole_weights
from tasks.perturbations.blur import disk_runs, smear
from tasks.perturbations.context import Context
from tasks.perturbations.draws import Draws, normal_quantiles
from tasks.perturbations.elastic import elastic_transform
from tasks.perturbations.glass import offsets, shuffled
from tasks.perturbations.spatter import distance_to, edges, equalised
from tasks.perturbations.weather import plasma

CPU = torch.device("cpu")


def drops(count: int = 2, height: int = 90, width: int = 77) -> np.ndarray:
    draws = np.random.default_rng(0)
    smooth = [ndimage.gaussian_filter(draws.normal(size=(height, width)), 3) for _ in range(count)]
    return np.stack([np.uint8(255 * (one - one.min()) / np.ptp(one)) for one in smooth])


# ---- random numbers ----


def test_bits_are_uniform_and_streams_do_not_resemble_each_other() -> None:
    drawn = Draws(range(40), CPU).uniform16(20_000).numpy()
    assert drawn.min() >= 0
    assert drawn.max() <= 65535
    for bits in (drawn >> 8, drawn & 255):
        counts = np.bincount(bits.ravel(), minlength=256)
        assert scipy.stats.chisquare(counts).pvalue > 1e-3
    correlation = np.corrcoef(drawn)
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < 5 / math.sqrt(20_000)
    lagged = [np.corrcoef(row[:-lag], row[lag:])[0, 1] for row in drawn[:5] for lag in (1, 2, 10_000)]
    assert np.abs(lagged).max() < 5 / math.sqrt(10_000)
    assert len(np.unique(drawn[:, :8], axis=0)) == 40


def test_draws_continue_and_do_not_depend_on_their_neighbours() -> None:
    together, alone = Draws([3, 4], CPU), Draws([4], CPU)
    first, second = together.uniform16(5, 7), together.uniform16(3)
    assert torch.equal(first[1:], alone.uniform16(5, 7))
    assert torch.equal(second[1:], alone.uniform16(3))
    assert not torch.equal(first[1, 0, :3], second[1])
    assert torch.equal(Draws([3, 4], CPU).each()[1].uniform16(5, 7), first[1:])
    assert together.number(-45, 45)[1] == alone.number(-45, 45)[0]


def test_numbers_are_uniform() -> None:
    draws = Draws(range(2000), CPU)
    assert scipy.stats.kstest(draws.number(2, 5), scipy.stats.uniform(2, 3).cdf).pvalue > 1e-3
    assert scipy.stats.chisquare(np.bincount(draws.integer(6), minlength=6)).pvalue > 1e-3
    assert set(Draws([1], CPU).below(5, 1000).flatten().tolist()) == {0, 1, 2, 3, 4}


def test_the_normal_table_is_normal() -> None:
    table = normal_quantiles()
    assert table.mean() == pytest.approx(0, abs=1e-12)
    assert table.std() == pytest.approx(1, abs=1e-3)
    assert scipy.stats.kstest(table, "norm").statistic < 1e-4


def test_shot_noise_is_poisson() -> None:
    grey = torch.full((1, 3, 200, 200), 100, dtype=torch.uint8)
    for severity, counts in enumerate(PERTURBATIONS["shot_noise"].parameters, start=1):
        out = perturb(grey, "shot_noise", severity, [1]).numpy().ravel()
        seen, expected = np.bincount(out, minlength=256), np.zeros(256)
        for count in range(300):
            expected[int(min(count / counts * 255, 255))] += scipy.stats.poisson.pmf(count, 100 / 255 * counts)
        used = expected * out.size > 5
        assert scipy.stats.chisquare(seen[used], expected[used] / expected[used].sum() * seen[used].sum()).pvalue > 1e-3


def test_impulse_noise_has_the_published_share() -> None:
    grey = torch.full((1, 3, 200, 200), 100, dtype=torch.uint8)
    for severity, amount in enumerate(PERTURBATIONS["impulse_noise"].parameters, start=1):
        out = perturb(grey, "impulse_noise", severity, [1])
        salt, pepper = (out == 255).sum().item(), (out == 0).sum().item()
        assert salt + pepper == (out != 100).sum()
        assert scipy.stats.binomtest(salt, out.numel(), amount / 2).pvalue > 1e-3
        assert scipy.stats.binomtest(pepper, out.numel(), amount / 2).pvalue > 1e-3


# ---- arithmetic ----


@pytest.mark.parametrize(("border", "scipys"), [("replicate", "nearest"), ("symmetric", "reflect")])
@pytest.mark.parametrize("taps", [1, 5, 33])
@pytest.mark.parametrize("dim", [-2, -1])
def test_convolution_is_scipys_and_exact(border, scipys: str, taps: int, dim: int) -> None:
    draws = np.random.default_rng(taps)
    images = draws.integers(0, 256, (2, 3, 40, 53)).astype(np.float32)
    weights = whole_weights(gaussian_weights(taps / 8, truncate=(taps // 2) / (taps / 8)), 16)
    assert len(weights) == taps
    expected = ndimage.correlate1d(images.astype(np.float64), weights, axis=dim, mode=scipys)
    assert np.array_equal(convolve(torch.from_numpy(images), weights, dim, border).numpy(), expected)


@pytest.mark.parametrize("sigma", [0.7, 2.0, 6.0, 20.0])
def test_gaussian_blur_is_within_a_fifth_of_a_level(sigma: float) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 60, 50)).astype(np.float32)
    expected = ndimage.gaussian_filter(images.astype(np.float64), (0, sigma, sigma), mode="nearest", truncate=4)
    assert np.abs(gaussian_blur(torch.from_numpy(images), sigma).numpy() - expected).max() < 0.2


def test_weights_sum_exactly() -> None:
    for bits in (8, 12, 16):
        assert whole_weights(gaussian_weights(3.3), bits).sum() == 2**bits


@pytest.mark.parametrize(("border", "numpys"), [("replicate", "edge"), ("symmetric", "symmetric")])
def test_borders_are_numpys(border, numpys: str) -> None:
    assert np.array_equal(border_index(7, 20, 23, border), np.pad(np.arange(7), (20, 23), mode=numpys))


# ---- blurs ----


@pytest.mark.parametrize("radius", [1.0, 3.0, 4.5, 10.0])
def test_disk_rows(radius: float) -> None:
    reach = int(radius)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = rows**2 + columns**2 <= radius**2
    assert [2 * half + 1 for half in disk_runs(radius)] == disk.sum(1).tolist()


def test_the_smear_is_a_half_gaussian_along_its_direction() -> None:
    point = torch.zeros((3, 1, 81, 81))
    point[..., 40, 40] = 255
    out = smear(point, 10, 4, [0, 90, -45], 1.0)
    weights = np.exp(-0.5 * (np.arange(21) / 4) ** 2)
    expected = 255 * weights / weights.sum()
    right, down, across = out[:, 0].numpy()
    assert np.allclose(right[40, 40:19:-1], expected, atol=0.01)
    assert np.allclose(down[40:19:-1, 40], expected, atol=0.01)
    places = np.argwhere(across > 0)
    assert ((places[:, 0] - 40) == -(places[:, 1] - 40)).all()
    assert out.flatten(1).sum(1).numpy() == pytest.approx(255, abs=1e-3)


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize(("reach", "scale"), [(1, 1.0), (3, 1.0), (3, 0.3), (2, 1.3)])
def test_the_shuffle_is_that_of_the_sequential_loop(reach: int, scale: float, exchange: bool) -> None:
    height, width, passes = 32, 37, 3
    steps = offsets(reach, scale, exchange)
    found = shuffled(Draws([5, 6], CPU), 2, (height, width), steps, passes, exchange)
    # The loop as it is written, with the offsets of the visits in its own order.
    low, high = -min(steps) + (not exchange), max(steps)
    rows, columns = range(height - 1 - high, low - 1, -1), range(width - 1 - high, low - 1, -1)
    visits = [(turn, row, column) for turn in range(passes) for row in rows for column in columns]
    for image, seed in enumerate((5, 6)):
        drawn = Draws([seed], CPU).below(len(steps) ** 2, len(visits))[0].numpy()
        order = front_order(visits, max(map(abs, steps)))
        held = np.arange(height * width)
        for number, (_, row, column) in enumerate(visits):
            down, right = (steps[way] for way in divmod(int(drawn[order[number]]), len(steps)))
            here, there = row * width + column, (row + down) * width + column + right
            if exchange:
                held[here], held[there] = held[there], held[here]
            else:
                held[here] = held[there]
        assert np.array_equal(found[image].numpy(), held)
        assert not exchange or np.array_equal(np.sort(held), np.arange(height * width))


def front_order(visits: list[tuple[int, int, int]], reach: int) -> np.ndarray:
    """Place of each visit among the drawn offsets: fronts by time, and within one as listed, but passes, rows and
    columns ascending."""
    slope = 2 * reach + 1
    lag = 2 * reach * (slope + 1) + 1
    keys = [(turn * lag - row * slope - column, turn, row, column) for turn, row, column in visits]
    places = np.empty(len(visits), dtype=int)
    places[sorted(range(len(visits)), key=keys.__getitem__)] = np.arange(len(visits))
    return places


def moves(held: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """Mean and deviation, down and right, of how far away a pixel's value comes from, in pixels at 224 px, without the
    outermost fourteenth of the image; share of the values that are left."""
    rows, columns = np.divmod(held.reshape(-1, side, side), side)
    inner = slice(side // 14, side - side // 14)
    away = [rows - np.arange(side)[:, None], columns - np.arange(side)]
    inside = [224 / side * one[:, inner, inner] for one in away]
    return np.array([f(one) for f in (np.mean, np.std) for one in inside]), len(np.unique(held[0])) / side**2


def released_glass(reach: int, passes: int, exchange: bool) -> np.ndarray:
    """Where the values of a 224-px image come from after the visits of a plain loop, one by one."""
    draws, held = np.random.default_rng(reach), list(range(224 * 224))
    visited = range(223 - reach, reach - 1, -1) if exchange else range(224 - reach, reach, -1)
    for _ in range(passes):
        offset = iter(draws.integers(-reach, reach + exchange, (len(visited) ** 2, 2)).tolist())
        for row in visited:
            for column in visited:
                right, down = next(offset)
                here, there = 224 * row + column, 224 * (row + down) + column + right
                if exchange:
                    held[here], held[there] = held[there], held[here]
                else:
                    held[here] = held[there]
    return np.array([held])


@pytest.mark.parametrize("exchange", [False, True])
@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_glass_moves_the_picture_as_the_released_loop_does(severity: int, exchange: bool) -> None:
    _, reach, passes = PERTURBATIONS["glass_blur"].parameters[severity - 1]  # type: ignore[misc]
    found, survive = moves(
        shuffled(Draws(range(4), CPU), 4, (224, 224), offsets(reach, 1.0, exchange), passes, exchange).numpy(), 224
    )
    expected, surviving = moves(released_glass(reach, passes, exchange), 224)
    assert found == pytest.approx(expected, abs=0.06)
    assert survive == pytest.approx(surviving, abs=0.01)
    shift = 0 if exchange else (-1.00, -0.73, -2.19, -1.63, -1.73)[severity - 1]
    assert found[:2] == pytest.approx(shift, abs=0.03)


def test_glass_moves_a_smaller_picture_less() -> None:
    for _, reach, passes in PERTURBATIONS["glass_blur"].parameters:  # type: ignore[misc]

        def shift(side: int, reach: int = reach, passes: int = passes) -> np.ndarray:
            steps = offsets(reach, side / 224, False)
            return moves(shuffled(Draws(range(4), CPU), 4, (side, side), steps, passes, False).numpy(), side)[0][:2]

        # At 64 px a step of a single pixel is 3.5 px long.
        assert shift(64) == pytest.approx(shift(224), abs=0.6)


# ---- weather ----


@pytest.mark.parametrize(("low", "high"), [(50, 150), (10, 40), (5, 200)])
def test_edges_are_opencvs(low: int, high: int) -> None:
    images = drops()
    found = edges(torch.from_numpy(images).int(), low, high).numpy()
    for image, edge in zip(images, found, strict=True):
        expected = cv2.Canny(image, low, high) > 0
        assert np.array_equal(edge, expected)


@pytest.mark.parametrize("reach", [1, 5, 20])
def test_distances_are_scipys(reach: int) -> None:
    marked = np.random.default_rng(0).random((3, 60, 45)) < 0.004
    found = distance_to(torch.from_numpy(marked), reach).numpy()
    for mask, distance in zip(marked, found, strict=True):
        assert np.allclose(distance, np.minimum(ndimage.distance_transform_edt(~mask), reach), atol=1e-5)
    assert (distance_to(torch.zeros((1, 40, 40), dtype=torch.bool), reach) == reach).all()


def test_equalisation_is_opencvs() -> None:
    images = np.concatenate([drops(2) // 3 + 7, np.full((1, 90, 77), 9, np.uint8)])
    found = equalised(torch.from_numpy(images)).numpy()
    for image, even in zip(images, found, strict=True):
        assert np.array_equal(even, cv2.equalizeHist(image))


def test_clouds_fill_their_range_and_grow_smoother_with_decay() -> None:
    rough, smooth = (plasma(Draws([1, 2], CPU), 2, 64, decay) for decay in (1.4, 2.5))
    for clouds in (rough, smooth):
        assert clouds.amin((1, 2)).tolist() == [0, 0]
        assert clouds.amax((1, 2)).tolist() == [1, 1]
    assert rough.diff(dim=2).abs().mean() > 2 * smooth.diff(dim=2).abs().mean()


@pytest.fixture
def textures(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Number and scale of each texture that frost lays over an image from now on."""
    scales = {}

    def texture(number: int, scale: float, device: torch.device) -> torch.Tensor:
        scales[number] = scale
        rows, columns = weather._photograph(number).shape[:2]
        return torch.zeros((3, math.ceil(rows * scale), math.ceil(columns * scale)))

    monkeypatch.setattr(weather, "_scaled", texture)
    return scales


@pytest.mark.parametrize(("mode", "count", "scale"), [("published", 5, 1), ("package", 5, 1.1), ("repaired", 6, 1)])
def test_frost_draws_five_textures_and_all_six_where_repaired(
    mode, count: int, scale: float, textures: dict[int, float]
) -> None:
    for side in (224, 32):
        textures.clear()
        perturb(torch.zeros((80, 3, side, side), dtype=torch.uint8), "frost", 1, range(80), mode=mode)
        assert textures == pytest.approx(dict.fromkeys(range(count), scale * side / 224))


def test_frost_is_enlarged_only_where_the_image_is_larger(textures: dict[int, float]) -> None:
    image = torch.zeros((40, 3, 330, 32), dtype=torch.uint8)
    perturb(image, "frost", 1, range(40), lengths="raw")
    # 600, 315, 315, 350 and 495 rows.
    assert textures == pytest.approx({0: 1, 1: 330 / 315, 2: 330 / 315, 3: 1, 4: 1})


def test_a_smaller_image_gets_the_same_frost_seen_smaller() -> None:
    grey = torch.full((8, 3, 224, 224), 60, dtype=torch.uint8)
    large = torch.nn.functional.avg_pool2d(perturb(grey, "frost", 3, range(8)).float(), 4)
    small = grey[..., :56, :56].contiguous()

    def differs(lengths) -> float:
        return (perturb(small, "frost", 3, range(8), lengths=lengths).float() - large).abs().mean().item()

    # Pieces begin at whole pixels, so they lie up to one apart.
    assert differs("scaled") < differs("raw") / 2


# ---- digital ----


def test_reencode_is_pillows_jpeg() -> None:
    from io import BytesIO

    from PIL import Image

    draws = np.random.default_rng(0)
    image = ndimage.zoom(draws.integers(0, 256, (8, 8, 3)), (8, 9, 1), order=1).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "JPEG")
    buffer.seek(0)
    expected = np.asarray(Image.open(buffer))
    found = perturb(torch.from_numpy(image).permute(2, 0, 1)[None], "reencode", 1, [0])[0].permute(1, 2, 0).numpy()
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_the_kernel_of_the_seed_study() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 40, 45), dtype=np.uint8)
    axis = np.exp(-(np.arange(-2, 3) ** 2) / 2)
    kernel = np.outer(axis, axis) / axis.sum() ** 2
    for times in (1, 3):
        expected = image[0].astype(np.float64)
        for _ in range(times):
            blurred = [ndimage.correlate(channel, kernel, mode="reflect") for channel in expected]
            expected = np.floor(np.stack(blurred) + 1e-4)
        found = perturb(torch.from_numpy(image), "gaussian_blur_5x5", times, [0])[0].numpy()
        assert np.abs(found - expected).max() <= (0 if times == 1 else 1)


def test_saturation_of_grey_follows_red() -> None:
    grey = torch.full((1, 3, 32, 32), 100, dtype=torch.uint8)
    assert perturb(grey, "saturate", 3, [0]).unique().tolist() == [100]
    assert perturb(grey, "saturate", 4, [0])[0, :, 0, 0].tolist() == [100, 90, 90]


def test_an_elastic_image_holds_only_colours_of_the_image() -> None:
    image = torch.full((1, 3, 64, 64), 10, dtype=torch.uint8)
    image[:, :, :, 32:] = 200
    out = perturb(image, "elastic_transform", 5, [0])
    assert out.min() == 10
    assert out.max() == 200
    assert (out[..., 0] == 10).all()
    assert (out[..., -1] == 200).all()


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [(96, 70), (33, 48)], ids=str)
def test_the_published_elastic_transform_is_opencvs_map_and_scipys_field(severity: int, size: tuple[int, int]) -> None:
    gain, sigma, reach = PERTURBATIONS["elastic_transform"].parameters[severity - 1]  # type: ignore[misc]
    height, width = size
    scale = min(size) / 224
    image = ndimage.zoom(np.random.default_rng(0).integers(0, 256, (9, 9, 3)), (height / 9, width / 9, 1), order=1)
    image = image.clip(0, 255).astype(np.uint8)
    numbers = Draws([7], CPU)
    moved = np.array([numbers.number(-1, 1)[0] for _ in range(6)]).reshape(3, 2) * reach * scale
    third, middle = min(size) // 3, np.array([width // 2, height // 2])
    corners = np.array([middle + third, middle + np.array([third, -third]), middle - third])
    there = cv2.getAffineTransform(np.float32(corners), np.float32(corners + moved))
    back = cv2.invertAffineTransform(there)
    rows, columns = np.mgrid[:height, :width].astype(float)
    right, down = (one[0] * columns + one[1] * rows + one[2] for one in back)
    turned = [
        ndimage.map_coordinates(image[..., channel].astype(float), [down, right], order=1, mode="mirror")
        for channel in range(3)
    ]
    noise = (2 * Draws([7], CPU).uniform16(2, height, width)[0].double().numpy() - 65535) / 65536
    # In a smaller image the noise itself is weaker, too.
    across, along = (
        ndimage.gaussian_filter(one, sigma * scale, mode="reflect", truncate=3) * gain * scale**2 for one in noise
    )
    expected = np.stack(
        [ndimage.map_coordinates(one, [rows + along, columns + across], order=1, mode="reflect") for one in turned]
    )
    context = Context(Draws([7], CPU), scale, "published", None, 0.0)
    found = elastic_transform(torch.from_numpy(image).permute(2, 0, 1)[None], (gain, sigma, reach), context)[0]
    # Half a level for the fraction that is cut off.
    assert np.abs(found.numpy() + 0.5 - expected).max() < 1.5


@pytest.mark.parametrize("severity", [3, 4, 5])
def test_a_smaller_image_is_deformed_as_much(severity: int) -> None:
    def strengths(side: int) -> tuple[float, float]:
        """Deviation of the affine part and of the rest of the displacement, in shares of the side."""
        ramp = torch.linspace(0, 255, side).round().to(torch.uint8).expand(60, 3, side, side)
        inner = slice(side // 6, side - side // 6)
        moved = (perturb(ramp, "elastic_transform", severity, range(60)).float() - ramp)[:, 0, inner, inner]
        rows, columns = np.indices(moved.shape[1:]).reshape(2, -1)
        plane = np.stack([np.ones_like(rows), rows, columns], 1).astype(float)
        values = moved.flatten(1).numpy().T / 255
        affine = plane @ np.linalg.lstsq(plane, values, rcond=None)[0]
        return affine.std(), (values - affine).std()

    assert strengths(64) == pytest.approx(strengths(224), rel=0.2)
