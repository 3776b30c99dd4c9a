"""Images a second of each corruption and severity: CLEAR's engine beside imagecorruptions, one thread, same images.

Both make the package's form of the corruptions.

``python tests/asv/benchmarks/perturbations.py`` prints the whole comparison as a Markdown table.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from PIL import Image

from tasks.miniature.probing import MiniatureProbingSet
from tasks.perturbations import package, perturb
from tasks.perturbations.reference import names

BATCH = 32
REFERENCE_IMAGES = 4
SEVERITIES = (1, 2, 3, 4, 5)
ENGINES = ("clear", "imagecorruptions", *(("clear on cuda",) if torch.cuda.is_available() else ()))
CUDA_BATCH = 512

Work = Callable[[], object]


def prepared(engine: str, name: str, severity: int) -> tuple[Work, int]:
    """What to time, and how many images it perturbs."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    images = MiniatureProbingSet("test", BATCH).images
    if engine == "imagecorruptions":
        corrupt = getattr(package.corruptions(), name)
        pictures = [np.ascontiguousarray(image) for image in images[:REFERENCE_IMAGES].permute(0, 2, 3, 1).numpy()]

        def reference() -> None:
            with package.drawing(0):
                for picture in pictures:
                    np.uint8(corrupt(Image.fromarray(picture), severity))

        return reference, REFERENCE_IMAGES
    if engine == "clear":
        return lambda: perturb(images, name, severity, range(BATCH), mode="package"), BATCH
    many = images.repeat(CUDA_BATCH // BATCH, 1, 1, 1).cuda()

    def on_cuda() -> None:
        perturb(many, name, severity, range(CUDA_BATCH), mode="package")
        torch.cuda.synchronize()

    return on_cuda, CUDA_BATCH


def seconds(work: Work, repeats: int) -> float:
    """Median time of one call, after one that is not counted."""
    work()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


class Perturbations:
    """Every corruption at every severity."""

    params = (ENGINES, names(), SEVERITIES)
    param_names = ("engine", "corruption", "severity")
    timeout = 120

    def setup(self, engine: str, name: str, severity: int) -> None:
        """Draw the images; the clock does not run yet."""
        self.work, self.count = prepared(engine, name, severity)

    def track_images_per_second(self, engine: str, name: str, severity: int) -> float:
        """Images a second."""
        return self.count / seconds(self.work, 5)

    track_images_per_second.unit = "images/s"


def table(corruptions: Sequence[str], severities: Sequence[int], repeats: int) -> str:
    """The comparison as Markdown; engines take turns, so that a busy machine slows both."""
    other = ENGINES[2:]
    lines = [
        "| corruption | CLEAR, ms an image | imagecorruptions | times faster |" + "".join(f" {e}, ms |" for e in other),
        "|---|---|---|---|" + "---|" * len(other),
    ]
    ratios, rates = [], []
    for name in corruptions:
        spent = dict.fromkeys(ENGINES, 0.0)
        for severity in severities:
            for engine in ENGINES:
                work, count = prepared(engine, name, severity)
                each = seconds(work, repeats) / count
                spent[engine] += each / len(severities)
                if engine in other:
                    rates.append(1 / each)
        ratios.append(spent["imagecorruptions"] / spent["clear"])
        cells = [f"{1e3 * spent[engine]:.2f}" for engine in ENGINES]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {ratios[-1]:.1f} |" + "".join(f" {c} |" for c in cells[2:]))
    lines += ["", f"Geometric mean {statistics.geometric_mean(ratios):.1f}, least {min(ratios):.1f}."]
    if rates:
        lines.append(f"On CUDA {statistics.mean(rates):,.0f} images/s on average, {min(rates):,.0f} at the slowest.")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corruptions", nargs="+", default=names(), choices=names(), metavar="NAME")
    parser.add_argument("--severities", nargs="+", type=int, default=SEVERITIES, choices=SEVERITIES, metavar="1..5")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, OpenCV {cv2.__version__}"
    print(f"224 px, batch {BATCH}, severities {', '.join(map(str, asked.severities))}, one thread; {versions}\n")
    print(table(asked.corruptions, asked.severities, asked.repeats))


if __name__ == "__main__":
    sys.exit(main())
