"""Images a second of the activation pass beside a bare loop over the same models: same process, images and batches.

Times are the processor's, of one thread, so that other programs on the machine change little.

The bare loop has the images in memory and does what nobody can leave out: preprocessing and the target's forward pass
as far as the layer in batches of 64, CLIP's image encoder; it drops what it gets. ``pass`` is ``tasks.observe.observe``
on the clean probing set: images read from disk, pooled activations and embeddings collected, maps of 48 units stored.
``perturbed pass`` blurs the images first and keeps them on disk.

``python tests/asv/benchmarks/activations.py`` prints the comparison as a Markdown table.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache

import torch

from tasks.activations.capture import LayerCapture
from tasks.activations.spool import blocks
from tasks.observe import CLEAN, IMAGES_AT_ONCE, Condition, observe, perturbed, probe_of
from tasks.perturbations.settings import Settings
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile

WORKS = ("bare loop", "pass", "perturbed pass")
IMAGES = (128, 512)
LAYERS = ("layer2", "layer4")
LABELLED = range(48)
BLUR = Condition("gaussian_blur", 3)
CPU = torch.device("cpu")

Work = Callable[[], object]


@cache
def roles() -> Roles:
    """The miniature's models: a ResNet-50 whose layers have 512 and 2,048 units, and a CLIP."""
    return Roles(load_profile("miniature"), CPU)


def prepared(name: str, images: int, layer: str) -> Work:
    """What to time."""
    probing, target, clip = (
        roles().probing_set("scenes", images, roles().view("resnet50")),
        roles().target("resnet50"),
        roles().clip,
    )
    probe = probe_of(probing, masked=False)
    if name == "bare loop":
        parts = [probing.load(part) for part in blocks(images, IMAGES_AT_ONCE)]

        @torch.inference_mode()
        def bare() -> None:
            with LayerCapture(target.network, [layer]) as capture:
                for part in parts:
                    for batch in part.split(target.batch_size):
                        capture(target.preprocessing(batch).contiguous(memory_format=torch.channels_last))
                    clip.encode_images(part)

        return bare

    def whole() -> None:
        condition = CLEAN if name == "pass" else BLUR
        shown = perturbed(probe, condition, 0, Settings(), CPU)
        observe(target, {layer: "mean"}, probe, condition, shown, clip, maps={layer: LABELLED})

    return whole


def seconds(works: Sequence[Work], repeats: int) -> list[list[float]]:
    """Times of each; they take turns, after one round that is not counted."""
    taken: list[list[float]] = [[] for _ in works]
    for repeat in range(repeats + 1):
        for work, times in zip(works, taken, strict=True):
            start = time.process_time()
            work()
            if repeat:
                times.append(time.process_time() - start)
    return taken


class Activations:
    """The pass and the bare loop at two numbers of images and of units."""

    params = (WORKS, IMAGES, LAYERS)
    param_names = ("work", "images", "layer")
    timeout = 300

    def setup(self, name: str, images: int, layer: str) -> None:
        """Draw the images; the clock does not run yet."""
        torch.set_num_threads(1)
        self.work = prepared(name, images, layer)

    def track_images_per_second(self, name: str, images: int, layer: str) -> float:
        """Images a second."""
        return images / statistics.median(seconds([self.work], 3)[0])

    track_images_per_second.unit = "images/s"


def table(images: Sequence[int], layers: Sequence[str], repeats: int) -> str:
    """The comparison as Markdown; shares are medians over rounds, each of works that ran one after the other."""
    lines = [
        "| images | layer | bare loop, images/s | pass | share | perturbed pass | share |",
        "|---|---|---|---|---|---|---|",
    ]
    for count in images:
        for layer in layers:
            bare, *others = seconds([prepared(name, count, layer) for name in WORKS], repeats)
            cells = [f"{count / statistics.median(bare):.1f}"]
            for other in others:
                share = statistics.median(one / two for one, two in zip(bare, other, strict=True))
                cells += [f"{count / statistics.median(other):.1f}", f"{share:.3f}"]
            lines.append(f"| {count} | {layer} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", nargs="+", type=int, default=IMAGES, metavar="N")
    parser.add_argument("--layers", nargs="+", default=LAYERS, metavar="NAME")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"One thread; Python {platform.python_version()}, torch {torch.__version__}\n")
    print(table(asked.images, asked.layers, asked.repeats))


if __name__ == "__main__":
    sys.exit(main())
