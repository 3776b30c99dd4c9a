"""ImageNet-C-bar: CLEAR's engine beside its release, and beside the same steps in NumPy; one thread, same images.

The release loops over pixels. The steps in NumPy are written from the published definitions, in float64 and whole
arrays at a time: what is left of the difference without the loops.

The release is not installed by pip. ``CLEAR_IMAGENET_C_BAR`` names the folder ``imagenet_c_bar`` of a copy of
facebookresearch/augmentation-corruption; without it, the release is not timed.

``python tests/asv/benchmarks/imagenet_c_bar.py`` prints the comparison as a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from tasks.miniature.probing import MiniatureProbingSet
from tasks.perturbations import PERTURBATIONS, perturb
from tasks.perturbations.suites import load_suite

SEVERITIES = (1, 2, 3, 4, 5)
NAMES = tuple(load_suite("imagenet_c_bar").perturbations)
ENGINES = {"clear": 32, "numpy": 4, "release": 1}
"""Engine → how many images it perturbs at once."""
VARIABLE = "CLEAR_IMAGENET_C_BAR"

Image = np.ndarray
Draw = np.random.Generator


def spectral(draw: Draw, amplitude: Callable[[Image], Image], side: int) -> Image:
    """The real part of the transform of a spectrum with random phases."""
    half = draw.uniform(0, 2 * np.pi, (side, side // 2))
    phases = np.concatenate([half, half[::-1, ::-1]], 1)
    frequency = np.arange(side) - side // 2
    size = amplitude(frequency[:, None] ** 2 + frequency**2)
    noise = np.fft.ifft2(np.fft.ifftshift(size * np.exp(1j * phases))).real
    return noise / noise.std()


def blue_noise_sample(image: Image, strength: float, draw: Draw) -> Image:
    """Black pixels."""
    return image * (spectral(draw, np.sqrt, len(image)) > 0.3 * strength - 2.5)[..., None]


def brownish_noise(image: Image, strength: float, draw: Draw) -> Image:
    """Smooth noise in each channel."""
    channels = [spectral(draw, lambda squares: 1 / (squares + 1), len(image)) for _ in range(3)]
    return image + 6.4 * strength * np.stack(channels, 2)


def caustic_refraction(image: Image, strength: float, draw: Draw) -> Image:
    """Wavy glass."""
    side = len(image)
    moment, size = draw.uniform(0.5, 2), draw.uniform(0.75, 1.25) * side
    rows, columns = np.mgrid[:side, :side].astype(float)
    base_r, base_c = (2 * np.pi * ((place / size) % 1) - 250 for place in (rows, columns))
    moved_r, moved_c, total = base_r, base_c, np.ones((side, side))
    for wave in range(5):
        t = moment * (1 - 3.5 / (wave + 1))
        moved_r, moved_c = (
            base_r + np.cos(t - moved_r) + np.sin(t + moved_c),
            base_c + np.sin(t - moved_c) + np.cos(t + moved_r),
        )
        total += 1 / np.hypot(0.005 * base_r / np.sin(moved_r + t), 0.005 * base_c / np.cos(moved_c + t))
    light = np.pad(gaussian_filter(np.clip(np.abs(1.17 - (total / 5) ** 1.4) ** 8, 0, 1), 1), 1)
    down, right = light[2:, 1:-1] - light[:-2, 1:-1], light[1:-1, 2:] - light[1:-1, :-2]
    length = np.sqrt(down**2 + right**2 + 1)
    n_r, n_c, n_z = down / length, right / length, 1 / length
    bent = 0.05 * strength * side * np.where(n_z >= 0.999, 0, np.sqrt(1 - (n_r**2 + n_c**2) / 16) - n_z / 4)
    places = rows + np.round(bent * n_r, 3), columns + np.round(bent * n_c, 3)
    seen = [map_coordinates(image[..., channel], places, order=1, mode="grid-constant") for channel in range(3)]
    return np.stack(seen, 2) + (0.2 * strength * 255 * (down - right))[..., None]


def checkerboard_cutout(image: Image, strength: float, draw: Draw) -> Image:
    """Grey cells."""
    side = len(image)
    angle, cell = draw.uniform(0, 2 * np.pi), draw.uniform(0.1, 0.25) * side
    rows, columns = np.mgrid[:side, :side]
    u = np.floor((rows * np.cos(angle) + columns * np.sin(angle)) / cell).astype(int)
    v = np.floor((columns * np.cos(angle) - rows * np.sin(angle)) / cell).astype(int)
    cut = ((u - v) % 2 == 0) & (draw.uniform(size=(40, 40))[u % 40, v % 40] < strength / 10)
    return np.where(cut[..., None], 128, image)


def cocentric_sine_waves(image: Image, strength: float, draw: Draw) -> Image:
    """Wavy rings."""
    side = len(image)
    (c0, r0), k = draw.uniform(0, side, 2), draw.uniform(0, 10)
    sway, ring = draw.uniform(0, side / 10, 2)
    rows, columns = np.mgrid[:side, :side]
    radius = np.hypot(rows - r0, columns - c0) + sway * np.sin(k * np.arctan2(columns - c0, rows - r0))
    return image + 12.8 * strength * ((radius / ring) % 1 - 0.5)[..., None]


def star(side: int, lengths: Image, centre: Image, exponent: float = 1.0) -> Image:
    """A star's light, 0 to 1."""
    rows, columns = np.mgrid[:side, :side]
    down, right = rows - centre[0], columns - centre[1]
    place = (np.arctan2(right, down) + np.pi) / (2 * np.pi) * len(lengths)
    ray = np.floor(place).astype(int)
    between = place - ray
    length = lengths[ray % len(lengths)] * (1 - between) + lengths[(ray + 1) % len(lengths)] * between
    glow = length**2 / (down**2 + right**2 + 1e-4)
    return np.clip((1 - (between - 0.5) ** 2) * (glow if exponent == 1 else glow**exponent), 0, 1)[..., None]


def inverse_sparkles(image: Image, strength: float, draw: Draw) -> Image:
    """White outside a star."""
    side = len(image)
    lengths = side / 4 * (1 + 0.25 * draw.normal(size=draw.integers(50, 200)))
    return 255 + star(side, lengths, draw.uniform(0.25, 0.75, 2) * side, 0.13 * strength) * (image - 255)


def perlin_noise(image: Image, strength: float, draw: Draw) -> Image:
    """Perlin noise laid over."""
    side = len(image)
    total = np.zeros((side, side))
    for octave in (1, 2, 4, 8, 16):
        points = 223 * octave // 32 + 2
        gradients = draw.integers(-256, 256, (2, points, points)) / 256
        gradients = gradients / np.maximum(np.hypot(*gradients), 1e-9)
        place = np.arange(side) * (octave / 32)
        low = np.floor(place).astype(int)
        share = place - low
        fade = share**2 * (3 - 2 * share)

        def corner(more_r: int, more_c: int, g: Image = gradients, low: Image = low, share: Image = share) -> Image:
            found = g[:, (low + more_r)[:, None], low + more_c]
            return found[0] * (share - more_r)[:, None] + found[1] * (share - more_c)

        upper = corner(0, 0) + fade * (corner(0, 1) - corner(0, 0))
        lower = corner(1, 0) + fade * (corner(1, 1) - corner(1, 0))
        total += np.abs(1.5 * (upper + fade[:, None] * (lower - upper))) / octave
    opacity = 0.05 * strength
    return (1 - opacity) * image + 255 * opacity * np.clip(0.5 * total + 0.5, 0, 1)[..., None]


def plasma_noise(image: Image, strength: float, draw: Draw) -> Image:
    """Bent sines laid over."""
    side = len(image)
    t, q, scale = draw.uniform(0, 6 * np.pi), draw.uniform(0.5, 1), draw.uniform(0.075, 0.2) * side
    rows, columns = np.mgrid[:side, :side]
    p, o = columns / scale, rows / scale
    for j in range(draw.integers(4, 7)):
        first = np.cos(1.93**j * o + t / 1.15**j) / (2.25 - q) ** j
        second = np.sin(1.93**j * p + t / 1.15**j) / (2.25 - q) ** j
        p, o = p + first - 0.3 * second, o + second + 0.3 * first
    noise = np.stack([np.sin(p - t), np.sin((p + o + np.sin(t)) / 2), np.sin(o + t)], 2)
    return (1 - 6.4 * strength / 255) * image + 6.4 * strength * noise


def single_frequency_greyscale(image: Image, strength: float, draw: Draw) -> Image:
    """One plane sine."""
    side = len(image)
    fast = draw.uniform(-np.pi, np.pi)
    frequency = draw.permutation([fast, abs(fast) * draw.uniform(-1, 1)])
    rows, columns = np.mgrid[:side, :side]
    wave = np.sin(frequency[0] * columns + frequency[1] * rows + draw.uniform(0, 2 * np.pi))
    return image + 19.6 * strength * wave[..., None]


def sparkles(image: Image, strength: float, draw: Draw) -> Image:
    """Five white stars."""
    side = len(image)
    for _ in range(5):
        lengths = 0.01 * strength * side * (1 + 0.25 * draw.normal(size=draw.integers(50, 200)))
        image = image + star(side, np.maximum(lengths, 1), draw.uniform(0, side, 2)) * (255 - image)
    return image


def released(name: str, strength: float, side: int) -> Callable[[Image], Image]:
    """A corruption of the release.

    Raises:
        NotImplementedError: Nothing says where it is; asv then skips the benchmark.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        raise NotImplementedError(f"The release is not timed: {VARIABLE} does not name its folder imagenet_c_bar.")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    transforms = vars(import_module("corrupt")).values()
    (found,) = [one for one in transforms if getattr(one, "name", None) == name]
    return found(strength, side)


def prepared(engine: str, name: str, severity: int) -> Callable[[], object]:
    """What to time."""
    torch.set_num_threads(1)
    count = ENGINES[engine]
    images = MiniatureProbingSet("test", count).images
    if engine == "clear":
        return lambda: perturb(images, name, severity, range(count))
    pictures, strength = images.permute(0, 2, 3, 1).numpy(), PERTURBATIONS[name].parameters[severity - 1]
    if engine == "release":
        transform = released(name, strength, pictures.shape[1])

        def reference() -> None:
            np.random.seed(0)  # noqa: NPY002
            for picture in pictures:
                transform(picture)

        return reference
    step, exact = globals()[name], pictures.astype(float)

    def in_numpy() -> None:
        for seed, picture in enumerate(exact):
            np.clip(step(picture, strength, np.random.default_rng(seed)), 0, 255).astype(np.uint8)

    return in_numpy


def seconds(works: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Least processor time of a call of each, which take turns, after one that is not counted."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(repeats + 1):
        for own, work in zip(taken, works, strict=True):
            start = time.process_time()
            work()
            own.append(time.process_time() - start)
    return [min(own[1:]) for own in taken]


class ImageNetCBar:
    """Every corruption at every severity."""

    params = (tuple(ENGINES), NAMES, SEVERITIES)
    param_names = ("engine", "corruption", "severity")
    timeout = 120

    def setup(self, engine: str, name: str, severity: int) -> None:
        """Draw the images; the clock does not run yet."""
        self.work = prepared(engine, name, severity)

    def track_images_per_second(self, engine: str, name: str, severity: int) -> float:
        """Images a second."""
        return ENGINES[engine] / seconds([self.work], 5 if engine == "clear" else 1)[0]

    track_images_per_second.unit = "images/s"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="ImageNet-C-bar: CLEAR, NumPy and the release.")
    parser.add_argument("--severities", nargs="+", type=int, default=[3], choices=SEVERITIES, metavar="1..5")
    asked = parser.parse_args()
    engines = [engine for engine in ENGINES if engine != "release" or os.environ.get(VARIABLE)]
    others = engines[1:]
    print("| corruption | " + " | ".join(f"{engine}, ms per image" for engine in engines), end=" | ")
    print(" | ".join(f"times faster than {engine}" for engine in others) + " |\n" + "|---" * (len(engines) * 2) + "|")
    ratios: dict[str, list[float]] = {engine: [] for engine in others}
    for name in NAMES:
        spent = dict.fromkeys(engines, 0.0)
        for severity in asked.severities:
            taken = seconds([prepared(engine, name, severity) for engine in engines], 3)
            for engine, one in zip(engines, taken, strict=True):
                spent[engine] += one / ENGINES[engine] / len(asked.severities)
        for engine in others:
            ratios[engine].append(spent[engine] / spent["clear"])
        cells = [f"{1e3 * spent[engine]:,.1f}" for engine in engines]
        print(f"| {' | '.join([name, *cells, *(f'{ratios[engine][-1]:.1f}' for engine in others)])} |", flush=True)
    for engine, own in ratios.items():
        print(f"\nBeside {engine}: geometric mean {statistics.geometric_mean(own):.1f}, least {min(own):.1f}.")
    if "release" not in engines:
        print(f"\nThe release was not timed: {VARIABLE} does not name its folder imagenet_c_bar.")


if __name__ == "__main__":
    sys.exit(main())
