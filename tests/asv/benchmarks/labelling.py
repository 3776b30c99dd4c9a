"""CLIP-Dissect's soft-WPMI, Network Dissection and the scoring of labels, each beside the procedure it replaces.

The references are written from the methods' descriptions and do the same work in the same steps as the released code:

* soft-WPMI: a softmax of the whole matrix; then unit by unit the rows of its 100 strongest images gathered from that
  matrix, a logarithm for each term, all in float32.
* Network Dissection: image by image, unit by unit where the map exceeds the unit's threshold: the map resized by PIL
  (what ``scipy.misc.imresize`` called), compared, and the labels under the mask counted. The thresholds are given to
  it, while CLEAR's time includes finding them.
* Scoring of labels: both labels of every pair encoded, condition by condition.

``python tests/asv/benchmarks/labelling.py --repeats 3`` prints the comparisons as Markdown tables.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from baselines.clip_dissect import similarity
from baselines.clip_dissect.wpmi import CosineFactors
from baselines.network_dissection import count_overlap, intersection_over_union, primary_categories, survey
from benchmark.core.scoring import LabelEmbeddings
from metrics.stability import clip_similarity
from tasks.activations.maps import MemoryMaps
from tasks.miniature.vocabulary import CONCEPTS
from tasks.observation import Segmentation
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile

Size = tuple[int, ...]
Work = Callable[[], np.ndarray]
REFERENCE = "released procedure"
WIDTH = 512
MAP, ANNOTATION = 7, 112
CATEGORIES = {"object": 600, "part": 230, "color": 11, "scene": 350}


def embeddings(units: int, concepts: int, images: int) -> tuple[CosineFactors, Tensor]:
    """Embeddings with cosines like CLIP's, about 0.1 to 0.35, and units that each follow a concept and some noise."""
    draw = torch.Generator().manual_seed(0)
    shared = torch.randn(WIDTH, generator=draw)
    rows = (torch.randn(count, WIDTH, generator=draw).add_(shared, alpha=0.5) for count in (images, concepts))
    factors = CosineFactors(*(normalize(row, dim=1) for row in rows))
    followed = factors.text[torch.arange(units) * (concepts // units)]
    activations = factors.images @ followed.T
    return factors, activations.add_(torch.randn(images, units, generator=draw), alpha=0.02)


def released_soft_wpmi(p: Tensor, a: Tensor) -> Tensor:
    """Scores [units, concepts]."""
    q = torch.softmax(10 * p, dim=1)
    top = a.topk(100, dim=0).indices
    shown = (0.998 - torch.arange(100) / 100 * (0.998 - 0.97)).unsqueeze(-1)
    # A list of the units' rows, joined at the end, takes several times the memory and the time: rows that stay lie
    # between the freed steps, so that the next unit's steps do not fit there. That is not held against the release.
    likelihood = torch.empty(a.shape[1], p.shape[1])
    for unit in range(a.shape[1]):
        rows = q.gather(0, top[:, unit : unit + 1].expand(-1, p.shape[1]))
        rows = 1 + shown * (rows - 1)
        torch.sum(torch.log(rows + 1e-7), dim=0, out=likelihood[unit])
    return likelihood - (torch.logsumexp(likelihood, dim=0, keepdim=True) - math.log(len(likelihood)))


def soft_wpmi(engine: str, size: Size) -> Work:
    """Labels of one layer, from the cosines of all images and concepts."""
    factors, activations = embeddings(*size)
    cosines = torch.empty(size[2], size[1])
    torch.mm(factors.images, factors.text.T, out=cosines)
    scores = released_soft_wpmi if engine == REFERENCE else lambda p, a: similarity("soft_wpmi", p, a)
    return lambda: scores(cosines, activations).argmax(dim=1).numpy()


def clip_dissect(engine: str, size: Size) -> Work:
    """Labels of one layer, from the embeddings of images and concepts."""
    factors, activations = embeddings(*size)
    if engine == REFERENCE:
        return lambda: released_soft_wpmi(factors.images @ factors.text.T, activations).argmax(dim=1).numpy()
    return lambda: similarity("soft_wpmi", factors, activations).argmax(dim=1).numpy()


def annotated_maps(units: int, images: int) -> tuple[Tensor, Segmentation]:
    """Smooth sparse maps, as after a ReLU, and an annotation like Broden's: objects, parts, colours, a scene."""
    draw = np.random.default_rng(0)
    maps = torch.empty(images, units, MAP, MAP)
    for image in range(images):
        values = torch.from_numpy(draw.gamma(0.3, size=(units, MAP, MAP)))
        maps[image] = torch.nn.functional.avg_pool2d(values, 3, stride=1, padding=1)
    first, categories = 1, {}
    for name, count in CATEGORIES.items():
        categories[name] = tuple(range(first, first + count))
        first += count

    def patches(name: str, cells: int, kinds: int) -> np.ndarray:
        small = draw.choice(draw.choice(categories[name], kinds), (cells, cells))
        small[draw.random((cells, cells)) < 0.3] = 0
        side = ANNOTATION // cells
        return np.kron(small, np.ones((side, side), dtype=np.int64))

    annotation = [
        {
            "object": patches("object", 7, 6),
            "part": patches("part", 14, 6),
            "color": patches("color", 28, 8),
            "scene": [int(draw.choice(categories["scene"]))],
        }
        for _ in range(images)
    ]
    labels = ("", *(f"{name} {number}" for name, numbers in categories.items() for number in numbers))
    return maps, Segmentation(labels, categories, lambda image: annotation[image], (ANNOTATION, ANNOTATION))


def released_dissection(maps: np.ndarray, limits: np.ndarray, segmentation: Segmentation) -> np.ndarray:
    """IoU [units, concepts]."""
    units, concepts = maps.shape[1], len(segmentation.labels)
    primary = np.zeros((concepts, len(segmentation.categories)))
    for index, numbers in enumerate(segmentation.categories.values()):
        primary[list(numbers), index] = 1
    shared, area = np.zeros((units, concepts)), np.zeros((units, primary.shape[1]))
    total = np.zeros(concepts)
    height, width = segmentation.size
    for image in range(len(maps)):
        annotation = segmentation.pixels(image)
        pixels = np.stack([value for value in annotation.values() if isinstance(value, np.ndarray)])
        whole = [number for value in annotation.values() if isinstance(value, list) for number in value]
        everywhere = np.bincount(pixels.ravel(), minlength=concepts)
        everywhere[whole] += height * width
        everywhere[0] = 0
        total += everywhere
        for unit in range(units):
            small = maps[image, unit]
            if small.max() <= limits[unit]:
                continue
            large = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))
            mask = large > limits[unit]
            count = np.count_nonzero(mask)
            under = np.bincount(pixels[:, mask].ravel(), minlength=concepts)
            under[whole] += count
            under[0] = 0
            shared[unit] += under
            area[unit] += count * (under @ primary > 0)
    return shared / (area @ primary.T + total - shared + 1e-10)


def network_dissection(engine: str, size: Size) -> Work:
    """Labels of one layer, from its maps."""
    maps, segmentation = annotated_maps(*size)
    whole, units = MemoryMaps(maps), range(size[0])
    if engine == REFERENCE:
        limits = survey(whole, units, 0.005).thresholds.numpy()
        return lambda: released_dissection(maps.numpy(), limits, segmentation).argmax(axis=1)

    def work() -> np.ndarray:
        limits = survey(whole, units, 0.005).thresholds
        overlap = count_overlap(whole, units, limits, segmentation)
        return intersection_over_union(overlap, primary_categories(segmentation)).argmax(dim=1).numpy()

    return work


def text_scoring(engine: str, size: Size) -> Work:
    """Cosine of each unit's label under each condition with its clean label, by the miniature's CLIP."""
    units, conditions = size
    draw = np.random.default_rng(0)
    clean = [" ".join(pair) for pair in draw.choice(CONCEPTS, (units, 2))]
    # Three labels in ten move, to the label of another unit.
    taken = np.where(draw.random((conditions, units)) < 0.3, draw.integers(0, units, (conditions, units)), range(units))
    rows = [[clean[unit] for unit in row] for row in taken.tolist()]
    clip = Roles(load_profile("miniature"), torch.device("cpu")).clip
    encode = clip.encode_text
    encode(clean[:1])
    if engine == REFERENCE:
        return lambda: np.stack([(encode(row) * encode(clean)).sum(dim=1).numpy() for row in rows])

    def work() -> np.ndarray:
        known = LabelEmbeddings(SimpleNamespace(clip=clip, sentence_encoder=None), [*clean, *itertools.chain(*rows)])
        return np.stack([clip_similarity(known.clip(row), known.clip(clean)) for row in rows])

    return work


COMPARISONS: dict[str, tuple[Callable[[str, Size], Work], tuple[Size, Size], str]] = {
    "soft_wpmi": (soft_wpmi, ((1024, 20_000, 5000), (2048, 20_000, 5000)), "units × concepts × images"),
    "clip_dissect": (clip_dissect, ((1024, 20_000, 5000), (2048, 20_000, 5000)), "units × concepts × images"),
    "network_dissection": (network_dissection, ((2048, 400), (2048, 800)), "units × images"),
    "text_scoring": (text_scoring, ((64, 16), (128, 16)), "units × conditions"),
}
ENGINES = ("clear", REFERENCE)


def timed(work: Work) -> tuple[float, np.ndarray]:
    """Wall time of one call, and what it gives."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Share of equal labels, or of cosines that float32 cannot tell apart."""
    return float(np.isclose(one, other, rtol=0, atol=1e-5).mean())


def own_peak(name: str, engine: str, size: Size) -> tuple[int, int]:
    """Bytes that one call needs at most above its inputs, and those of the whole process, which did nothing else."""
    work = COMPARISONS[name][0](engine, size)
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before, resident("VmHWM")


def resident(field: str) -> int:
    """Memory of this process (Linux); getrusage may count that of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


def peak(name: str, engine: str, size: Size) -> tuple[int, int]:
    """``own_peak`` in a process of its own."""
    command = [sys.executable, __file__, "--peak", name, engine, *map(str, size)]
    command += ["--threads", str(torch.get_num_threads())]
    above, whole = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(above), int(whole)


class _Comparison:
    """One method at two sizes; asv shows CLEAR and the reference beside each other."""

    name = ""
    param_names = ("engine", "size")
    timeout = 1200
    number = 1
    repeat = 3
    warmup_time = 0

    def setup(self, engine: str, size: Size) -> None:
        """Draw the inputs; the clock does not run yet."""
        self.work = COMPARISONS[self.name][0](engine, size)

    def time_layer(self, engine: str, size: Size) -> None:
        """Wall time of one layer."""
        self.work()

    def track_peak(self, engine: str, size: Size) -> int:
        """Peak memory above the inputs."""
        return peak(self.name, engine, size)[0]

    track_peak.unit = "bytes"


class SoftWpmi(_Comparison):
    """CLIP-Dissect's soft-WPMI from all cosines."""

    name = "soft_wpmi"
    params = (ENGINES, COMPARISONS[name][1])


class ClipDissect(_Comparison):
    """CLIP-Dissect's soft-WPMI from embeddings."""

    name = "clip_dissect"
    params = (ENGINES, COMPARISONS[name][1])


class NetworkDissection(_Comparison):
    """Network Dissection's thresholds, overlaps and scores."""

    name = "network_dissection"
    params = (ENGINES, COMPARISONS[name][1])


class TextScoring(_Comparison):
    """Cosines of labels."""

    name = "text_scoring"
    params = (ENGINES, COMPARISONS[name][1])


def table(name: str, repeats: int) -> str:
    """The comparison as Markdown; the engines take turns, and the median of each counts."""
    prepared, sizes, axes = COMPARISONS[name]
    header = [axes, *(f"{engine}, s" for engine in ENGINES), "times faster", "the same"]
    header += [*(f"{engine}, MB above the inputs (whole process)" for engine in ENGINES), "memory"]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    medians = []
    for size in sizes:
        works = {engine: prepared(engine, size) for engine in ENGINES}
        rounds = [[timed(work) for work in works.values()] for _ in range(repeats)]
        del works
        same = agreement(*(result for _, result in rounds[0]))
        spent = [statistics.median(taken for taken, _ in column) for column in zip(*rounds, strict=True)]
        medians.append(spent)
        peaks = [peak(name, engine, size) for engine in ENGINES]
        cells = [" × ".join(f"{n:,}" for n in size), *(f"{one:.2f}" for one in spent), f"{spent[1] / spent[0]:.1f}"]
        cells += [f"{same:.2%}", *(f"{above / 1e6:.0f} ({whole / 1e6:.0f})" for above, whole in peaks)]
        lines.append(f"| {' | '.join(cells)} | {peaks[0][0] / peaks[1][0]:.2f} |")
    growth = [f"{engine} × {late / early:.2f}" for engine, early, late in zip(ENGINES, *medians, strict=True)]
    return "\n".join([*lines, "", f"Time from the first size to the second, twice as large: {', '.join(growth)}."])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Labelling methods beside the procedures they replace.")
    parser.add_argument("--methods", nargs="+", default=list(COMPARISONS), choices=list(COMPARISONS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.peak:
        name, engine, *size = asked.peak
        print(*own_peak(name, engine, tuple(map(int, size))))
        return
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, NumPy {np.__version__}"
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{asked.threads} threads, {asked.repeats} repeats; {versions}; load at the start {load}")
    for name in asked.methods:
        print(f"\n{name}\n\n{table(name, asked.repeats)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
