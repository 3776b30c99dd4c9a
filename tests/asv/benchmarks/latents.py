"""A pass over 65,536 latents, and their labels: time, and the memory that it takes.

``python tests/asv/benchmarks/latents.py 10000`` prints both once, with a TopK dictionary of random weights on a small
network of 2 × 2 positions and random images; ``dense`` after the number holds the layer as a tensor instead.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from baselines.clip_dissect.method import ClipDissect
from baselines.evidence import dead_units
from baselines.invert import Invert
from baselines.semantic_lens import SemanticLens
from tasks.activations.readout import Readout
from tasks.models.preprocessing import Preprocessing
from tasks.models.target import TargetModel
from tasks.observation import ConceptPresence, Observation, Toolbox
from tasks.observe import CLEAN, Probe, observe

WIDTH, LATENTS, K, CONCEPTS, UNITS = 64, 65_536, 32, 46, 8


class Clip:
    """Random embeddings."""

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """[n, 32] of unit norm."""
        return nn.functional.normalize(images.flatten(1)[:, :32].float() - 127, dim=1)

    def encode_text(self, texts: object) -> torch.Tensor:
        """[n, 32] of unit norm."""
        drawn = torch.randn(len(list(texts)), 32, generator=torch.Generator().manual_seed(1))  # type: ignore[call-overload]
        return nn.functional.normalize(drawn, dim=1)

    def over_limit(self, texts: object) -> np.ndarray:
        """No text is too long."""
        return np.zeros(len(list(texts)), np.bool_)  # type: ignore[call-overload]


def observation(images: int) -> Observation:
    """The pass."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, 16, 16), generator=draw, dtype=torch.uint8)
    encoder = torch.randn(LATENTS, WIDTH, generator=draw)
    readout = Readout("0", encoder, torch.zeros(LATENTS), activation="topk", k=K)
    torch.manual_seed(0)
    steps = Preprocessing(16, None, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    target = TargetModel(nn.Sequential(nn.Conv2d(3, WIDTH, 8, stride=8)), steps, torch.device("cpu"), readout=readout)
    load = lambda indices: pixels[list(indices)]  # noqa: E731
    probe = Probe(tuple(map(str, range(images))), load)
    seen = observe(target, {"0": "mean"}, probe, CLEAN, load, Clip(), maps={"0": range(UNITS)}, mapped=10)["0"]
    shown = np.random.default_rng(0).random((images, CONCEPTS)) < 0.1
    return replace(seen, presence=ConceptPresence(tuple(f"c{number}" for number in range(CONCEPTS)), shown))


def main() -> None:
    """Print time and memory of the pass and of each method."""
    images, dense = int(sys.argv[1]), "dense" in sys.argv
    started = time.process_time()

    def told(what: str) -> None:
        nonlocal started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{what:<14} {time.process_time() - started:7.1f} s of processor time, peak {peak:5.2f} GB", flush=True)
        started = time.process_time()

    told("imports")
    seen = observation(images)
    told("pass")
    if dense:
        seen = replace(seen, activations=seen.activations.to_dense())
        told("dense")
    dead = dead_units(seen.activations)
    told(f"{int(dead.sum())} dead")
    units = dead.logical_not().nonzero()[:UNITS, 0].tolist()
    concepts = tuple(f"c{number}" for number in range(CONCEPTS))
    tools = Toolbox(0, lambda images: torch.zeros(len(images), LATENTS), concepts, Clip())  # type: ignore[arg-type]
    for method in (SemanticLens(), Invert(), ClipDissect()):
        method.label(seen, units, tools)
        told(method.name)


if __name__ == "__main__":
    main()
